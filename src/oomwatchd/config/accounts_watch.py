"""Notices that the files of users and groups have changed."""

import os

from oomwatchd.config.inotify import SAVED, Inotify


class AccountsWatch:
    """An inotify(7) watch for the files `paths`. Raises OSError where the user has no watches left.

    Their directories are watched: vipw(8), usermod(8) and the like put a new file in the place of the old one."""

    def __init__(self, *paths: str) -> None:
        names = {os.path.basename(path) for path in paths}
        self._inotify = Inotify(lambda path: os.path.basename(path) in names)
        try:
            for directory in {os.path.dirname(path) for path in paths}:
                self._inotify.add(directory, SAVED)
        except OSError:
            self._inotify.close()
            raise

    def fileno(self) -> int:
        """The descriptor that is readable when events wait."""
        return self._inotify.fileno()

    def changed(self) -> bool:
        """Read the events that wait. Returns whether one of the files may have changed."""
        return self._inotify.changed()
