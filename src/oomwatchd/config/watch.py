"""Notices that the configuration may have changed on disk. Directories are watched, not files: editors rename."""

import contextlib
import ctypes
import errno
import os
import sys
import types
from collections.abc import Iterator

from oomwatchd.config.load import Layout

# pyinotify asks ctypes.util for libc's name, which runs ldconfig and loads shutil, bz2, lzma and more, 1 MiB of them.
# Told that there is none, it takes the libc that the interpreter has loaded.
_no_search = types.ModuleType("ctypes.util")
_no_search.find_library = lambda name: None  # type: ignore[attr-defined]
ctypes.util = sys.modules.setdefault("ctypes.util", _no_search)  # type: ignore[attr-defined]

import pyinotify  # noqa: E402

pyinotify.log.disabled = True  # it would write lines of its own to stderr; `trouble` says what we have to say

_CHANGES = (
    pyinotify.IN_CLOSE_WRITE
    | pyinotify.IN_MOVED_TO
    | pyinotify.IN_MOVED_FROM
    | pyinotify.IN_DELETE
    | pyinotify.IN_CREATE  # a symbolic link has no IN_CLOSE_WRITE
    | pyinotify.IN_ATTRIB  # chmod mends a file that was refused
    | pyinotify.IN_ONLYDIR
)
_APPEARS = pyinotify.IN_CREATE | pyinotify.IN_MOVED_TO | pyinotify.IN_ONLYDIR

_REASONS = {
    errno.ENOSPC: "all inotify watches of this user are taken (sysctl fs.inotify.max_user_watches)",
    errno.EMFILE: "all inotify instances of this user are taken (sysctl fs.inotify.max_user_instances)",
}
_LINKS = 40
"""The kernel follows no more, path_resolution(7)."""


class ConfigWatch:
    """inotify(7) watches on the directories of a layout, those that don't exist yet included. Raises OSError, and
    UnicodeError where a directory's name isn't UTF-8, which pyinotify can't watch."""

    def __init__(self, where: Layout) -> None:
        self._where = where
        try:
            self._manager = pyinotify.WatchManager()
        except OSError:  # it has no errno
            number = ctypes.get_errno()
            raise OSError(number, _REASONS.get(number) or os.strerror(number)) from None
        self._notifier = pyinotify.Notifier(self._manager, self._note, timeout=0)
        self._changed = False
        self._ours: set[str] = set()
        """Paths that lead to the configuration: what becomes of one of them matters."""
        self._drop_in_dirs: set[str] = set()
        """By both names, where a link leads to one: pyinotify knows a directory by the name that it was told last."""
        self._watched: set[int] = set()
        self.trouble = ""
        """Why some directory isn't watched; empty: all are."""
        self.renew()

    def fileno(self) -> int:
        return int(self._manager.get_fd())

    def renew(self) -> bool:
        """Watch what there is now: directories come and go, links lead elsewhere. Whether one is new, so that
        something may have changed in it before it was watched."""
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
        # Much is written to /run and /usr/lib that is none of our business.
        watched = {self._add(directory, _APPEARS) for directory in appearing - directories}
        watched.update(self._add(directory, _CHANGES) for directory in directories)
        new = watched - self._watched - {-1}
        self._watched = watched
        return bool(new)

    def _add(self, directory: str, mask: int) -> int:
        """The watch descriptor, the same for the same directory; negative: there is none."""
        if not os.path.isdir(directory):
            return -1
        wd: int = self._manager.add_watch(directory, mask, quiet=True)[directory]
        if wd < 0 and (number := ctypes.get_errno()) not in (errno.ENOENT, errno.ENOTDIR):
            self.trouble = f"Failed to watch '{directory}': {_REASONS.get(number) or os.strerror(number)}"
        return wd

    def changed(self) -> bool:
        """Read what waits. Whether it concerns the configuration."""
        self._changed = False
        try:
            self._notifier.read_events()
            self._notifier.process_events()
        except UnicodeDecodeError:
            return True  # pyinotify knows no such names, and forgets what came with one
        return self._changed

    def _note(self, event: "pyinotify.Event") -> None:
        path = event.pathname
        in_drop_ins = os.path.dirname(path) in self._drop_in_dirs and path.endswith(".toml")
        if in_drop_ins or path in self._ours or event.mask & pyinotify.IN_Q_OVERFLOW:
            self._changed = True

    def close(self) -> None:
        self._notifier.stop()


def _stations(path: str) -> Iterator[str]:
    """The symbolic links that `path` leads through, each by a path without any, and what it leads to in the end.
    A file may be swapped at each of them, as Kubernetes does with a directory's."""
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
