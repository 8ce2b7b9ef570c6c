"""Keeps the daemon's own memory small."""

import ctypes  # pyinotify loads it anyway
import gc
import importlib
import sys
import types

_stand_ins: dict[str, types.ModuleType] = {}


def load_lazily(name: str, **given: object) -> None:
    """Put off loading the module `name`: it is loaded when an attribute of it is used, and not when it is imported.
    Until then an import gives a stand-in, which has the attributes `given`. A module that is loaded already isn't
    touched."""
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
    """Have an import of the module `name` give the module itself again, from now on."""
    if name in _stand_ins and sys.modules.get(name) is _stand_ins.pop(name):
        del sys.modules[name]


# dataclasses imports inspect for the signatures of classes without a docstring. That is 1.3 MiB, with ast and dis,
# which inspect imports. pyinotify and logging import the other modules, 0.6 MiB, for functions that aren't used here,
# or only after a failure.
for _name in ("inspect", "glob", "locale", "subprocess", "traceback"):
    load_lazily(_name)


def release() -> None:
    """Give free memory back to the system, after a configuration was read. Exclude the objects that stay from garbage
    collection, because a collection of them takes many milliseconds."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it, and needs it
    if trim is not None:
        trim(0)
