"""Checks by stat(2) at each scan whether the configuration has changed."""

from collections.abc import Callable

from oomwatchd.config.files import Layout
from oomwatchd.config.stamp import Stamp, stamp, waits_for_nobody
from oomwatchd.daemon.helper_pool import Call, HelperPool

_SECONDS = 30.0
"""How long a helper may take."""


class ConfigPoll:
    """Calls `changed` when a file of the configuration has changed. Where a file system may not answer, a helper calls
    stat(2), once start() has been called. `seen`: the stamp of the files, taken before they were read."""

    def __init__(self, where: Layout, seen: Stamp, changed: Callable[[], None]) -> None:
        self._where = where
        self._changed = changed
        self._helpers: HelperPool | None = None
        self._asked = False
        """Whether a helper is calling stat(2) now."""
        self._last = seen
        self._local = waits_for_nobody(seen)

    def start(self, helpers: HelperPool) -> None:
        """Have `helpers` call stat(2) where a file system may not answer."""
        self._helpers = helpers

    def _stamp(self) -> Stamp:
        return stamp(self._where.main_file, self._where.drop_in_dirs, self._where.root)

    def renew(self) -> None:
        """Note the present state of the files, so that only later changes count. Called before the configuration is
        read. It may wait for a file system, as reading does."""
        self._last = self._stamp()
        self._local = waits_for_nobody(self._last)

    def forget(self) -> None:
        """Have look() find the files changed."""
        self._last = ()

    def look(self) -> None:
        """Check whether a file has changed. `changed` may be called later, when a helper has answered."""
        if self._local:
            self._compare(self._stamp())
        elif self._helpers is not None and not self._asked:
            arguments = (self._where.main_file, self._where.drop_in_dirs, self._where.root)
            self._asked = self._helpers.submit(Call(stamp.__name__, arguments, self._answered, 0, _SECONDS))

    def _answered(self, answer: object) -> None:
        self._asked = False
        if isinstance(answer, tuple):
            self._compare(answer)

    def _compare(self, now: Stamp) -> None:
        if now != self._last:
            self._last = now
            self._changed()
