"""Notices that the files of users and groups have changed. Their directory is watched: vipw(8), usermod(8) and the
like put a new file in the place of the old one."""

import os

import oomwatchd.config.watch  # noqa: F401 - first: it keeps pyinotify from loading what it doesn't need

# isort: split
import pyinotify


class AccountsWatch:
    """An inotify(7) watch for some files. Raises OSError where there are no watches left."""

    def __init__(self, *paths: str) -> None:
        self._names = {os.path.basename(path) for path in paths}
        self._manager = pyinotify.WatchManager()
        self._notifier = pyinotify.Notifier(self._manager, self._note, timeout=0)
        self._changed = False
        mask = pyinotify.IN_CLOSE_WRITE | pyinotify.IN_MOVED_TO
        for directory in {os.path.dirname(path) for path in paths}:
            try:
                self._manager.add_watch(directory, mask, quiet=False)
            except pyinotify.WatchManagerError as error:
                self._notifier.stop()
                raise OSError(str(error)) from None

    def fileno(self) -> int:
        return int(self._manager.get_fd())

    def changed(self) -> bool:
        """Read what waits. Whether it concerns one of the files."""
        self._changed = False
        try:
            self._notifier.read_events()
            self._notifier.process_events()
        except UnicodeDecodeError:
            return True  # pyinotify knows no such names, and forgets what came with one
        return self._changed

    def _note(self, event: "pyinotify.Event") -> None:
        if event.mask & pyinotify.IN_Q_OVERFLOW or os.path.basename(event.pathname) in self._names:
            self._changed = True
