"""Notices that the configuration may have changed on disk. Directories are watched, not files, since editors put a new
file in the place of the old one."""

import contextlib
import errno
import os
from collections.abc import Iterator

from oomwatchd.config.inotify import APPEARED, CHANGED, Inotify
from oomwatchd.config.load import Layout

_LINKS = 40
"""The most symbolic links that the kernel follows, path_resolution(7)."""


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
        main = self._where.main_file
        paths = [main]
        appearing = set()
        for directory in self._where.drop_in_dirs:
            paths.append(directory)
            if os.path.isdir(directory):
                with contextlib.suppress(OSError):
                    paths += [f"{directory}/{name}" for name in os.listdir(directory) if name.endswith(".toml")]
            else:
                appearing.add(os.path.dirname(directory))
        self._drop_in_dirs = {name for path in self._where.drop_in_dirs for name in (path, os.path.realpath(path))}
        self._ours = {station for path in paths for station in (path, *_stations(path))}
        directories = {os.path.dirname(path) for path in self._ours if path not in self._where.drop_in_dirs}
        directories.update(filter(os.path.isdir, self._where.drop_in_dirs))
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


def _stations(path: str) -> Iterator[str]:
    """The symbolic links on the way to `path`, each as a path without links, and then the file itself. The file can be
    replaced at each of them; Kubernetes does so by a link to a directory."""
    at, rest, links = "/", path.split("/"), 0
    while rest:
        name = rest.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        station = os.path.join(at, name)
        try:
            target = os.readlink(station)
        except OSError:
            at = station
            continue
        yield station
        links += 1
        if links > _LINKS:
            return
        rest = [*target.split("/"), *rest]
        if target.startswith("/"):
            at = "/"
    yield at
