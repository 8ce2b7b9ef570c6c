"""What the daemon does about its own memory."""

import ctypes  # which pyinotify loads in any case
import gc


def release() -> None:
    """Give back to the system what reading a configuration took, and spare the collector all that is there to stay:
    going over it is a pause of many milliseconds."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries than glibc do it by themselves
    if trim is not None:
        trim(0)
