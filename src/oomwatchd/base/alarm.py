"""Time limits on what the main thread does, by the timer of setitimer(2) and SIGALRM."""

import signal
import time
from types import FrameType

_TICK_SECONDS = 0.001
"""The timer goes on ticking: a tick that comes just before a system call interrupts nothing."""


class Overdue(Exception):
    """What was limited by Limit() takes too long."""


_ends_at: float | None = None
"""By time.thread_time(); None: a tick interrupts system calls, and that is all."""
_installed = False


def _on_tick(_signal: int, _frame: FrameType | None) -> None:
    global _ends_at
    if _ends_at is not None and time.thread_time() >= _ends_at:
        _ends_at = None
        raise Overdue


def _install() -> None:
    """Have SIGALRM, whose default is to end the process. Not at import: a program may never need it."""
    global _installed
    if not _installed:
        signal.signal(signal.SIGALRM, _on_tick)
        _installed = True


class Interrupted:
    """A context manager that limits each system call in it to about `seconds`: one that waits longer fails with EINTR.
    Only for calls that aren't begun again then (PEP 475): those of other libraries."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        _install()
        signal.setitimer(signal.ITIMER_REAL, self._seconds, _TICK_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class Limit:
    """A context manager that raises Overdue in what it encloses, after `seconds` of CPU time of this thread. Not at
    once in what is one long step for the interpreter, such as a comparison of long strings; `re` looks every 4096
    steps of its own."""

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
