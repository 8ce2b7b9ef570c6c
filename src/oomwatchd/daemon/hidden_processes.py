"""Whether users may know of each other's processes: hidepid= of proc(5)."""

import time

from oomwatchd.kernel.hidepid import hides_processes, read_hidepid

_GOOD_SECONDS = 60.0
"""How long an answer is good for."""


class HiddenProcesses:
    """What hidepid= says, read at most once a minute."""

    def __init__(self) -> None:
        self._due = 0.0
        self._hidden = True

    def hidden(self) -> bool:
        """Whether this machine's /proc hides other users' processes, so that the daemon mustn't show them either."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _GOOD_SECONDS
            self._hidden = hides_processes()
        return self._hidden


def own_hidepid() -> str | None:
    """hidepid= of the /proc that the daemon sees, which may be another than its clients'; None: it sees all."""
    try:
        return read_hidepid()
    except OSError:
        return None
