"""Time limits on what the main thread does, by the timer of setitimer(2) and SIGALRM."""

import signal
import time
from types import FrameType

_TICK_SECONDS = 0.001
"""The timer ticks again and again, because a tick that comes just before a system call doesn't interrupt it."""


class Overdue(Exception):
    """The code in a Limit has taken too long."""


_ends_at: float | None = None
"""When the limit is reached, by time.thread_time(), seconds. None: no Limit is active, so a tick only interrupts system
calls."""
_installed = False


def _on_tick(_signal: int, _frame: FrameType | None) -> None:
    global _ends_at
    if _ends_at is not None and time.thread_time() >= _ends_at:
        _ends_at = None
        raise Overdue


def _install() -> None:
    """Set a handler for SIGALRM, which by default ends the process. It is set at the first use, because many programs
    never use it."""
    global _installed
    if not _installed:
        signal.signal(signal.SIGALRM, _on_tick)
        _installed = True


class Interrupted:
    """A context manager that limits each system call in it to about `seconds`: one that waits longer fails with EINTR.

    It works only for calls that C libraries make. Python repeats its own calls after EINTR (PEP 475)."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        _install()
        signal.setitimer(signal.ITIMER_REAL, self._seconds, _TICK_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class Limit:
    """A context manager that raises Overdue in the code in it, after `seconds` of CPU time of this thread.

    It can't interrupt a long step of the interpreter, such as a comparison of long strings. The module `re` checks for
    signals every 4096 steps of its own."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        global _ends_at
        _install()
        _ends_at = time.thread_time() + self._seconds
        signal.setitimer(signal.ITIMER_REAL, self._seconds, _TICK_SECONDS)

    def __exit__(self, *_: object) -> None:
        global _ends_at
        _ends_at = None
        signal.setitimer(signal.ITIMER_REAL, 0.0)
