"""inotify(7) watches on directories, by pyinotify."""

import ctypes
import errno
import os
import sys
import types
from collections.abc import Callable

from oomwatchd.base import footprint

# pyinotify asks ctypes.util for libc's name, which runs ldconfig and loads shutil, bz2, lzma and more, 1 MiB of them.
# If it is told that there is none, it takes the libc that the interpreter has loaded.
_no_search = types.ModuleType("ctypes.util")
_no_search.find_library = lambda name: None  # type: ignore[attr-defined]
ctypes.util = sys.modules.setdefault("ctypes.util", _no_search)  # type: ignore[attr-defined]


class _Silent:
    """The log for pyinotify, which drops all messages: add() raises OSError instead."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


# It derives notifiers from threads and from asyncore, which nobody uses here, and sets up a log: 0.4 MiB.
_USELESS: dict[str, dict[str, object]] = {
    "asyncore": {"file_dispatcher": type("file_dispatcher", (), {})},
    "threading": {"Thread": type("Thread", (), {})},
    "logging": {"getLogger": lambda name: _Silent(), "StreamHandler": _Silent, "Formatter": lambda text: None},
}
for _name, _attributes in _USELESS.items():
    footprint.load_lazily(_name, **_attributes)

import pyinotify  # noqa: E402

for _name in _USELESS:
    footprint.remove_stand_in(_name)
pyinotify.log.disabled = True  # where logging was loaded before, this is a real log

SAVED = pyinotify.IN_CLOSE_WRITE | pyinotify.IN_MOVED_TO
"""A file in the directory was written, or another one put in its place."""
CHANGED = (
    SAVED
    | pyinotify.IN_MOVED_FROM
    | pyinotify.IN_DELETE
    | pyinotify.IN_CREATE  # a symbolic link has no IN_CLOSE_WRITE
    | pyinotify.IN_ATTRIB  # chmod mends a file that was refused
    | pyinotify.IN_ONLYDIR
)
"""An entry of the directory has changed in a way that may matter to a reader."""
APPEARED = pyinotify.IN_CREATE | pyinotify.IN_MOVED_TO | pyinotify.IN_ONLYDIR
"""A file or a directory has come into being in the directory."""

_REASONS = {
    errno.ENOSPC: "all inotify watches of this user are taken (sysctl fs.inotify.max_user_watches)",
    errno.EMFILE: "all inotify instances of this user are taken (sysctl fs.inotify.max_user_instances)",
}


class Inotify:
    """A set of watches. `concerns` is called with the path of each event, and returns whether it matters.

    Raises OSError where the user has no inotify instance left."""

    def __init__(self, concerns: Callable[[str], bool]) -> None:
        self._concerns = concerns
        try:
            self._manager = pyinotify.WatchManager()
        except OSError:  # it has no errno
            raise _error() from None
        self._notifier = pyinotify.Notifier(self._manager, self._note, timeout=0)
        self._changed = False

    def fileno(self) -> int:
        """The descriptor that is readable when events wait."""
        return int(self._manager.get_fd())

    def add(self, directory: str, mask: int) -> int:
        """Watch a directory. Returns the watch descriptor, the same for the same directory. Raises OSError, and
        UnicodeError where the name isn't UTF-8, which pyinotify can't watch."""
        descriptor: int = self._manager.add_watch(directory, mask, quiet=True)[directory]
        if descriptor < 0:
            raise _error()
        return descriptor

    def changed(self) -> bool:
        """Read the events that wait. Returns whether one matters, or some were lost."""
        self._changed = False
        try:
            self._notifier.read_events()
            self._notifier.process_events()
        except UnicodeDecodeError:
            return True  # pyinotify knows no such names, and forgets what came with one
        return self._changed

    def close(self) -> None:
        """End all watches."""
        self._notifier.stop()

    def _note(self, event: "pyinotify.Event") -> None:
        if event.mask & pyinotify.IN_Q_OVERFLOW or self._concerns(event.pathname):
            self._changed = True


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, _REASONS.get(number) or os.strerror(number))
