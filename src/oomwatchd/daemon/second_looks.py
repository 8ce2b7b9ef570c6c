"""Looks at processes a second time, soon after they have changed themselves."""

import time
from collections import deque
from collections.abc import Callable

from oomwatchd.daemon.loop import Loop
from oomwatchd.pinning.decisions import SCAN
from oomwatchd.pinning.pinner import Pinner

_SECONDS = 0.5
"""When the second look follows. A move to another cgroup and setsid(2) raise no event, and most of them follow soon
after the start of the program."""
_MOST = 4096
"""The most processes that wait for a second look. Scans look at the others."""


class SecondLooks:
    """The processes that wait for a second look. No process waits unless rules ask for a fact that changes without an
    event. `done` is called after looks."""

    def __init__(self, loop: Loop, pinner: Pinner, done: Callable[[], None]) -> None:
        self._loop = loop
        self._pinner = pinner
        self._done = done
        self._waiting: deque[tuple[float, int]] = deque()
        """When to look (CLOCK_MONOTONIC, seconds), and the PID."""

    def add(self, pid: int) -> None:
        """Look at a process a second time, soon."""
        if not self._pinner.rules.needs.second_look or len(self._waiting) >= _MOST:
            return
        self._waiting.append((time.monotonic() + _SECONDS, pid))
        if len(self._waiting) == 1:
            self._loop.later(_SECONDS, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._pinner.look(self._waiting.popleft()[1], SCAN)
        if self._waiting:
            self._loop.later(self._waiting[0][0] - now, self._look)
        self._done()
