"""Keeps the daemon's own memory small."""

import ctypes  # which pyinotify loads in any case
import gc
import importlib
import sys
import types


def load_lazily(name: str) -> None:
    """Let the import of module `name` do nothing; it is loaded when an attribute of it is used for the first time."""
    stand_in = types.ModuleType(name)

    def load(attribute: str) -> object:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    stand_in.__getattr__ = load  # type: ignore[method-assign]  # PEP 562
    sys.modules.setdefault(name, stand_in)


# dataclasses imports inspect for the signatures of classes without a docstring: 1.3 MiB, with ast and dis that it
# loads. The rest, 0.6 MiB, pyinotify and logging import for what they do nowhere here, or only when they fail.
for _name in ("inspect", "glob", "locale", "subprocess", "traceback"):
    load_lazily(_name)


def release() -> None:
    """Give memory that is free now, after a configuration was read, back to the system. Keep the garbage collector from
    what stays: going over it takes many milliseconds."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries than glibc do it by themselves
    if trim is not None:
        trim(0)
