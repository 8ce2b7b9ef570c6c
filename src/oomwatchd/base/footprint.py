"""Keeps the daemon's own memory small."""

import ctypes  # which pyinotify loads in any case
import gc
import importlib
import sys
import types

_stand_ins: dict[str, types.ModuleType] = {}


def load_lazily(name: str, **given: object) -> None:
    """Have a module loaded when something in it is asked for, and not when it is imported. Until then, whoever imports
    it gets a stand-in, which has the `given` attributes itself. A module that is loaded already is left alone."""
    stand_in = types.ModuleType(name)
    stand_in.__dict__.update(given)

    def load(attribute: str) -> object:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    stand_in.__getattr__ = load  # type: ignore[method-assign]  # PEP 562
    if name not in sys.modules:
        _stand_ins[name] = sys.modules[name] = stand_in


def remove_stand_in(name: str) -> None:
    """Whoever imports the module from now on gets the module itself."""
    if name in _stand_ins and sys.modules.get(name) is _stand_ins.pop(name):
        del sys.modules[name]


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
