"""Looks at processes a second time, soon after they have changed themselves."""

import time
from collections.abc import Callable
from itertools import islice

from oomwatchd.daemon.loop import Loop
from oomwatchd.pinning.decisions import SCAN
from oomwatchd.pinning.pinner import Pinner

_SECONDS = 0.5
"""When the second look follows. A move to another cgroup and setsid(2) raise no event, and most of them follow soon
after the start of the program."""
_MOST = 4096
"""The most processes that wait for a second look. Scans look at the others."""
_AT_ONCE = 16
"""The most looks that events wait for."""


class SecondLooks:
    """The processes that wait for a second look. No process waits unless rules ask for a fact that changes without an
    event. `done` is called after looks. `clock` gives seconds."""

    def __init__(
        self, loop: Loop, pinner: Pinner, done: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._pinner = pinner
        self._done = done
        self._waiting: dict[int, float] = {}
        """By PID, when to look. The first in the dictionary comes first."""

    def add(self, pid: int) -> None:
        """Look at a process a second time, soon."""
        if not self._pinner.rules.needs.second_look:
            return
        self._waiting.pop(pid, None)  # it is looked at after its last change
        if len(self._waiting) >= _MOST:
            return
        self._waiting[pid] = self._clock() + _SECONDS
        if not self._loop.awaits(self._look):
            self._loop.later(_SECONDS, self._look)

    def _look(self) -> None:
        now = self._clock()
        for pid, due in list(islice(self._waiting.items(), _AT_ONCE)):
            if due > now:
                break
            del self._waiting[pid]
            self._pinner.look(pid, SCAN)
        if self._waiting:
            self._loop.later(next(iter(self._waiting.values())) - now, self._look)
        self._done()
