"""stat(2) of files, without waiting for their file system. A path may lead to an NFS or FUSE server that doesn't
answer.

openat2(2) with RESOLVE_CACHED (Linux 5.12) follows a path by what the kernel has in memory, and fails with EAGAIN if
that isn't enough. The path of a running program mostly is in memory. statx(2) with AT_STATX_DONT_SYNC returns what the
kernel knows of an open file. If these don't suffice, a helper process calls stat(2) (NotYet)."""

import ctypes
import errno
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from oomwatchd.base.notyet import NotYet

_SYS_OPENAT2 = 437
"""The number of openat2(2), the same on all architectures. C libraries have no function for it."""
_RESOLVE_CACHED = 0x20
_AT_FDCWD, _AT_EMPTY_PATH, _AT_STATX_DONT_SYNC = -100, 0x1000, 0x4000
_STATX_UID, _STATX_INO = 0x8, 0x100
_KNOWN_SECONDS = 1.0
"""How long a helper's answer is used. It is needed only once: when the answer comes, the process is looked at again."""
_RETRY_SECONDS, _RETRY_LIMIT_SECONDS = 10.0, 300.0
"""How long a file system that didn't answer isn't asked again: after the first time, and at most."""
_KNOWN_LIMIT = 256
"""The most answers that are kept."""
_SILENT_LIMIT = 256
"""The most directories that are remembered as silent, counted for each user."""

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL keeps the interpreter's lock, since these calls don't wait
_how = ctypes.create_string_buffer(struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_CACHED))
_buffer = ctypes.create_string_buffer(256)
_syscall, _statx = _libc.syscall, _libc.statx
_openat2_arguments = (
    ctypes.c_long(_SYS_OPENAT2),
    ctypes.c_long(_AT_FDCWD),
    ctypes.c_void_p(ctypes.addressof(_how)),
    ctypes.c_size_t(24),
)


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The identity and the owner of a file."""

    device: int
    """As st_dev of stat(2)."""
    inode: int
    uid: int
    """The user ID of its owner."""


class FileSystemSilent(Exception):
    """The file system of a path has not answered."""


def stat_open(descriptor: int, name: bytes = b"") -> FileStatus:
    """The status of the open file `descriptor`; with `name`, of the file to which that link of /proc/PID leads, where
    `descriptor` is the directory. Raises OSError."""
    flags = _AT_STATX_DONT_SYNC | (0 if name else _AT_EMPTY_PATH)
    if _statx(descriptor, name, flags, _STATX_UID | _STATX_INO, _buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    (uid,) = struct.unpack_from("=I", _buffer, 20)
    (inode,) = struct.unpack_from("=Q", _buffer, 32)
    major, minor = struct.unpack_from("=II", _buffer, 136)
    return FileStatus(os.makedev(major, minor), inode, uid)


def stat_path(path: bytes) -> tuple[int, int, int, int]:
    """Error number (0: none), device, inode and owner of the file to which a path leads. It may never return, so it is
    called in a helper."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno or errno.EIO, 0, 0, 0)
    return (0, status.st_dev, status.st_ino, status.st_uid)


def stat_cached(path: bytes) -> FileStatus | None:
    """The status of the file to which a path leads, by what the kernel has in memory; None: there is no file. Raises
    BlockingIOError if the kernel would have to ask the file system."""
    number, cwd, how, size = _openat2_arguments
    descriptor = _syscall(number, cwd, ctypes.c_char_p(path), how, size)
    if descriptor < 0:
        reason = ctypes.get_errno()
        # ENOSYS: Linux before 5.6. EINVAL: before 5.12. EPERM: a filter of system calls.
        if reason in (errno.EAGAIN, errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise BlockingIOError(reason, os.strerror(reason))
        return None
    try:
        return stat_open(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


class Files:
    """Files by their path in the daemon's own view, and which file systems are silent.

    Silence is remembered for each directory, because the mount to which a path leads can't be known without asking it.
    And it is remembered for each user whose process asked: a user who makes helpers hang gets no answer about other
    file systems either, and that must not count for others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[bytes, tuple[float, FileStatus | None]] = {}
        self._silent: dict[tuple[bytes, int], tuple[float, float]] = {}
        """Directories whose file system is silent, and for which user: when to try again (by `clock`), and the seconds
        from the last failure to then."""
        self._news: list[tuple[bytes, bool]] = []
        """What take_news() returns."""

    def stat(self, path: bytes, owner: int) -> FileStatus | None:
        """The status of the file to which a path leads; None: there is no file. `owner`: the user ID of the process for
        which this is asked. Raises NotYet, and FileSystemSilent while the file system doesn't answer."""
        try:
            return stat_cached(path)
        except BlockingIOError:
            pass
        now = self._clock()
        known = self._known.get(path)
        if known is not None and now < known[0]:
            return known[1]
        if now < self._silent.get((os.path.dirname(path), owner), (0.0, 0.0))[0]:
            raise FileSystemSilent
        raise NotYet(stat_path, (path,), lambda answer: self._learn(path, owner, answer))

    def _learn(self, path: bytes, owner: int, answer: object) -> None:
        directory, now = os.path.dirname(path), self._clock()
        silent_for = [key for key in self._silent if key[0] == directory]
        if isinstance(answer, tuple):
            number, device, inode, uid = answer
            if len(self._known) >= _KNOWN_LIMIT:
                self._known.clear()
            status = None if number else FileStatus(device, inode, uid)
            self._known[path] = now + _KNOWN_SECONDS, status
            for key in silent_for:
                del self._silent[key]
            if silent_for:
                self._news.append((path, True))
            return
        before = self._silent.get((directory, owner))
        if before is not None and now < before[0]:
            return  # it was asked before the silence was known
        if not silent_for:
            self._news.append((path, False))
        if before is None and len(self._silent) >= _SILENT_LIMIT:
            del self._silent[next(iter(self._silent))]
        seconds = _RETRY_SECONDS if before is None else min(before[1] * 2, _RETRY_LIMIT_SECONDS)
        self._silent[directory, owner] = now + seconds, seconds

    def take_news(self) -> list[tuple[bytes, bool]]:
        """What has changed since the last call: paths, and whether their file system answers again (True) or has
        stopped answering (False)."""
        taken, self._news = self._news, []
        return taken
