"""Looks at each scan whether the configuration has changed, by stat(2)."""

from collections.abc import Callable

from oomwatchd.config.files import Layout
from oomwatchd.config.stamp import Stamp, stamp, waits_for_nobody
from oomwatchd.daemon.helper_pool import Call, HelperPool

_SECONDS = 30.0


class ConfigPoll:
    """Calls `changed` when a file of the configuration is another than it was. Where a file system may keep us waiting,
    a helper looks, once start() has been called."""

    def __init__(self, where: Layout, changed: Callable[[], None]) -> None:
        self._where = where
        self._changed = changed
        self._helpers: HelperPool | None = None
        self._asked = False
        self._last = self._stamp()
        self._local = waits_for_nobody(self._last)

    def start(self, helpers: HelperPool) -> None:
        """Have `helpers` look at file systems that may keep us waiting."""
        self._helpers = helpers

    def _stamp(self) -> Stamp:
        return stamp(self._where.main_file, self._where.drop_in_dirs)

    def renew(self) -> None:
        """The configuration is about to be read: what it is like now is nothing new afterwards. May wait for a file
        system, as reading does."""
        self._last = self._stamp()
        self._local = waits_for_nobody(self._last)

    def look(self) -> None:
        """See whether it has changed."""
        if self._local:
            self._compare(self._stamp())
        elif self._helpers is not None and not self._asked:
            arguments = (self._where.main_file, self._where.drop_in_dirs)
            self._asked = self._helpers.submit(Call(stamp.__name__, arguments, self._answered, 0, _SECONDS))

    def _answered(self, answer: object) -> None:
        self._asked = False
        if isinstance(answer, tuple):
            self._compare(answer)

    def _compare(self, now: Stamp) -> None:
        if now != self._last:
            self._last = now
            self._changed()
