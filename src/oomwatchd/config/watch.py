"""Notices that the configuration may have changed on disk. Directories are watched, not files, since editors put a new
file in the place of the old one."""

import contextlib
import errno
import os

from oomwatchd.config.inotify import APPEARED, CHANGED, Inotify
from oomwatchd.config.links import path_to_open, real_path, stations
from oomwatchd.config.load import Layout


class ConfigWatch:
    """inotify(7) watches on the directories of a layout. Directories that don't exist yet are noticed when they appear.

    Raises OSError, and UnicodeError where a directory's name isn't UTF-8, which pyinotify can't watch."""

    def __init__(self, where: Layout) -> None:
        self._where = where
        self._inotify = Inotify(self._concerns)
        self._ours: set[str] = set()
        """Paths that lead to the configuration, so that a change of one of them may change it."""
        self._drop_in_dirs: set[str] = set()
        """The directories of drop-ins. A directory to which a link leads is here by both names, because pyinotify knows
        a directory by the last name under which it was added."""
        self._watched: set[int] = set()
        self.trouble = ""
        """Why some directory isn't watched; empty: all are."""
        self.renew()

    def fileno(self) -> int:
        """The descriptor that is readable when events wait."""
        return self._inotify.fileno()

    def renew(self) -> bool:
        """Watch the directories that exist now: they come and go, and links change. Returns whether one is new, so that
        something in it may have changed before it was watched."""
        root = self._where.root
        paths = [self._where.main_file]
        appearing, directories = set[str](), set[str]()
        self._drop_in_dirs = set(self._where.drop_in_dirs)
        for directory in self._where.drop_in_dirs:
            paths.append(directory)
            opened = directory
            with contextlib.suppress(OSError):
                opened = path_to_open(directory, root)
                self._drop_in_dirs.add(real_path(directory, root))
                paths += [f"{directory}/{name}" for name in os.listdir(opened) if name.endswith(".toml")]
            if os.path.isdir(opened):
                directories.add(opened)
            else:
                appearing.add(os.path.dirname(directory))
        self._ours = {station for path in paths for station in (path, *stations(path, root))}
        directories |= {os.path.dirname(path) for path in self._ours if path not in self._where.drop_in_dirs}
        self.trouble = ""
        # In directories such as /run, only new entries are watched: much else is written there.
        watched = {self._add(directory, APPEARED) for directory in appearing - directories}
        watched.update(self._add(directory, CHANGED) for directory in directories)
        new = watched - self._watched - {-1}
        self._watched = watched
        return bool(new)

    def _add(self, directory: str, mask: int) -> int:
        """The watch descriptor, the same for the same directory; -1: there is none."""
        if not os.path.isdir(directory):
            return -1
        try:
            return self._inotify.add(directory, mask)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self.trouble = f"Failed to watch '{directory}': {error.strerror}"
            return -1

    def changed(self) -> bool:
        """Read the events that wait. Returns whether the configuration may have changed."""
        return self._inotify.changed()

    def close(self) -> None:
        """End all watches."""
        self._inotify.close()

    def _concerns(self, path: str) -> bool:
        in_drop_ins = os.path.dirname(path) in self._drop_in_dirs and path.endswith(".toml")
        return in_drop_ins or path in self._ours
