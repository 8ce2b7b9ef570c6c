"""Whether users may see each other's processes, by the mount option hidepid= of proc(5)."""

import time

from oomwatchd.kernel.hidepid import hides_processes, read_hidepid

_GOOD_SECONDS = 60.0
"""How long an answer is used."""


class HiddenProcesses:
    """The answer, read at most once a minute."""

    def __init__(self) -> None:
        self._due = 0.0
        self._hidden = True

    def hidden(self) -> bool:
        """Whether /proc hides other users' processes on this machine, so that the daemon must hide them, too."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _GOOD_SECONDS
            self._hidden = hides_processes()
        return self._hidden


def own_hidepid() -> str | None:
    """The value of hidepid= of the /proc that the daemon sees; None: it hides nothing. Clients may see another
    /proc."""
    try:
        return read_hidepid()
    except OSError:
        return None
