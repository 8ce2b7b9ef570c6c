"""Notices that the configuration may have changed on disk. Directories are watched, not files: editors rename."""

import ctypes
import os
import sys
import types

from oomwatchd.config import Layout

# pyinotify asks ctypes.util for libc's name, which runs ldconfig and loads shutil, bz2, lzma and more, 1 MiB of them.
# Told that there is none, it takes the libc that the interpreter has loaded.
_no_search = types.ModuleType("ctypes.util")
_no_search.find_library = lambda name: None  # type: ignore[attr-defined]
ctypes.util = sys.modules.setdefault("ctypes.util", _no_search)  # type: ignore[attr-defined]

import pyinotify  # noqa: E402

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


class ConfigWatch:
    """inotify(7) watches on the directories of a layout, those that don't exist yet included."""

    def __init__(self, where: Layout) -> None:
        self._where = where
        self._manager = pyinotify.WatchManager()
        self._notifier = pyinotify.Notifier(self._manager, self._note, timeout=0)
        self._changed = False
        self.renew()

    def fileno(self) -> int:
        return int(self._manager.get_fd())

    def renew(self) -> None:
        """Watch what there is now: directories come and go."""
        main = self._where.main_file
        self._add(os.path.dirname(main), _CHANGES)
        if os.path.islink(main):
            self._add(os.path.dirname(os.path.realpath(main)), _CHANGES)
        for directory in self._where.drop_in_dirs:
            if os.path.isdir(directory):
                self._add(directory, _CHANGES)
            elif os.path.dirname(directory) != os.path.dirname(main):
                self._add(os.path.dirname(directory), _APPEARS)

    def _add(self, directory: str, mask: int) -> None:
        if os.path.isdir(directory):
            self._manager.add_watch(directory, mask, quiet=True)

    def changed(self) -> bool:
        """Read what waits. Whether it concerns the configuration."""
        self._changed = False
        self._notifier.read_events()
        self._notifier.process_events()
        return self._changed

    def _note(self, event: "pyinotify.Event") -> None:
        path = event.pathname
        main = self._where.main_file
        in_drop_ins = os.path.dirname(path) in self._where.drop_in_dirs and path.endswith(".toml")
        is_ours = in_drop_ins or path in (main, os.path.realpath(main), *self._where.drop_in_dirs)
        if is_ours or event.mask & pyinotify.IN_Q_OVERFLOW:
            self._changed = True

    def close(self) -> None:
        self._notifier.stop()
