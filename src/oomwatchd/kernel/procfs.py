"""Reads and writes /proc/PID: proc_pid_stat(5), proc_pid_status(5), proc_pid_oom_score_adj(5).

A descriptor of the directory never means another process. Once the process is reaped, every openat(2) below the
descriptor fails with ESRCH, also when another process has got the PID.

The module has some more than 300 lines, so that one place has all that is read below /proc/PID."""

import contextlib
import errno
import os
from collections.abc import Iterator
from itertools import islice

from oomwatchd.kernel.proc_stat import Stat, parse_killed, parse_stat

_STAT_LIMIT = 2048
"""Bytes. The file has 52 numbers of at most 20 digits, and a name."""

_PIECE = 1 << 16
"""Bytes that are read at once. The kernel returns less only at the end of a file of one record."""

_THREADS_LIMIT = 1024
"""How many threads are looked at to find one that lives. Ended threads stay while a debugger holds them."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ_WRITE = os.O_RDWR | os.O_CLOEXEC

_SEARCHES = 8
"""At most so often a living thread is looked for while one process is dealt with. A process that keeps ending its
threads must not make the daemon wait."""


class Vanished(Exception):
    """The process is gone."""


class ProcessDir:
    """The directory /proc/PID of one process, through a descriptor. A context manager. Reading raises Vanished when the
    process is gone, and PermissionError when the kernel refuses.

    If the first thread of the process has ended, all files but stat and oom_score_adj are read of another thread."""

    __slots__ = ("_oom_score_adj", "_searches", "_thread", "descriptor", "pid")

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        self.pid = pid
        self._oom_score_adj = -1
        self._thread = ""
        """The directory of the thread whose files are read, with a slash at its end; empty: the first thread's."""
        self._searches = 0
        try:
            self.descriptor = os.open(f"{proc}/{pid}", _DIRECTORY)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None

    def __enter__(self) -> "ProcessDir":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory and the file of the value."""
        if self._oom_score_adj >= 0:
            os.close(self._oom_score_adj)
        os.close(self.descriptor)

    def read(self, name: str, limit: int | None = None, offset: int = 0) -> bytes:
        """The content of a file of one record (seq_file, single_open); with `limit`, at most so many bytes from
        `offset` on, by one read(2). A status with 65,536 supplementary groups has 720 KB. Raises Vanished and
        OSError."""
        while True:
            try:
                return self._read(self.path(name), limit, offset)
            except Vanished:
                if not self._thread or not self._find_thread():
                    raise

    def _read(self, path: str, limit: int | None, offset: int = 0) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.descriptor)
            try:
                return read_record(descriptor) if limit is None else os.pread(descriptor, limit, offset)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None

    def read_records(self, name: str) -> bytes:
        """The content of a file of many records, of which one read(2) returns a part only. Raises Vanished and
        OSError."""
        with self._opened(name) as descriptor:
            return b"".join(iter(lambda: os.read(descriptor, _PIECE), b""))

    def threads(self) -> Iterator[str]:
        """The IDs of the threads, one after the other: to list 20,000 takes the kernel 60 ms. Raises Vanished and
        OSError."""
        with self._opened("task") as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                yield entry.name

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.descriptor)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None

    def is_gone(self) -> bool:
        """Whether the process has been reaped; False if that can't be told."""
        try:
            self._read("stat", _STAT_LIMIT)
        except Vanished:
            return True
        except OSError:
            pass
        return False

    def path(self, name: str) -> str:
        """The path of a file of the process, relative to `descriptor`: the file of the thread that is read."""
        return self._thread + name

    def read_stat(self) -> Stat:
        """Read /proc/PID/stat. From then on, the other files are read of a living thread. Raises Vanished."""
        stat = parse_stat(self._read("stat", _STAT_LIMIT))
        if stat.leader_ended and not stat.ended and not self._thread:
            self._find_thread()
        return stat

    def is_in_exit(self) -> bool:
        """Whether the whole process is being ended or has ended: it has begun to exit, or was killed and hasn't noticed
        yet. It may have no memory then: what was read from there is empty. The kernel may take seconds to give back the
        memory of a large one. Raises Vanished."""
        leader_ended = self.read_stat().leader_ended
        if not self._thread:
            return leader_ended or parse_killed(self._read("stat", _STAT_LIMIT))
        while not self._lives(self._thread.split("/")[1]):
            if not self._find_thread():
                return True
        return parse_killed(self.read("stat", _STAT_LIMIT))

    def leader_has_ended(self) -> bool:
        """Whether the first thread has ended since read_stat(). If so, what was read since may be empty for that
        reason, and another thread's files are read from then on. Raises Vanished."""
        if self._thread:
            return False
        self.read_stat()
        return self._thread != ""

    def _find_thread(self) -> bool:
        """Have the files of a living thread read from now on. Returns False if there is none."""
        self._thread = ""
        self._searches += 1
        if self._searches > _SEARCHES:
            return False
        try:
            for thread in islice(self.threads(), _THREADS_LIMIT):
                if self._lives(thread):
                    self._thread = f"task/{thread}/"
                    return True
        except (Vanished, OSError):
            pass
        return False

    def _lives(self, thread: str) -> bool:
        try:
            return not parse_stat(self._read(f"task/{thread}/stat", _STAT_LIMIT)).leader_ended
        except Vanished:
            return False

    def read_exe(self) -> bytes | None:
        """The path of the executable as the kernel shows it. Empty: there is none (a zombie, a kernel thread). None:
        the kernel refused to tell, or the path is longer than it tells."""
        while True:
            try:
                return os.readlink(self._thread.encode() + b"exe", dir_fd=self.descriptor)
            except (FileNotFoundError, ProcessLookupError):
                if not (self._find_thread() if self._thread else self._has_lost_leader()):
                    return b""
            except OSError:
                return None

    def _has_lost_leader(self) -> bool:
        try:
            return self.leader_has_ended()
        except Vanished:
            return False

    def read_oom_score_adj(self) -> int:
        """The value of oom_score_adj. Raises Vanished and OSError."""
        return int(self._read("oom_score_adj", 16))

    def open_oom_score_adj(self) -> int:
        """The value of oom_score_adj. The file stays open for write_oom_score_adj(), if it may be written. Raises
        Vanished and OSError."""
        try:
            self._oom_score_adj = os.open("oom_score_adj", _READ_WRITE, dir_fd=self.descriptor)
            return int(os.read(self._oom_score_adj, 16))
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None
        except OSError:  # another user's process, or a read-only /proc
            return self.read_oom_score_adj()

    def write_oom_score_adj(self, value: int) -> None:
        """Write the value. Raises Vanished, and OSError as in proc_pid_oom_score_adj(5): EACCES where the value is
        below the floor and CAP_SYS_RESOURCE is missing, or where the file may not be written."""
        try:
            if self._oom_score_adj < 0:
                self._oom_score_adj = os.open("oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.descriptor)
            # One pwrite(2): the kernel parses each call by itself. A buffered write would lose the error.
            os.pwrite(self._oom_score_adj, b"%d" % value, 0)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None


def read_record(descriptor: int) -> bytes:
    """The content of a file of one record. Raises OSError."""
    piece = content = os.read(descriptor, _PIECE)
    while len(piece) == _PIECE:
        piece = os.read(descriptor, _PIECE)
        content += piece
    return content


def processes(proc: str = "/proc") -> Iterator[tuple[int, int]]:
    """All processes: the PID and the inode number of /proc/PID. Raises OSError.

    The kernel lists them in the order of their PIDs, about a thousand a call, so every process that is there all the
    time is listed. To list ten thousand in one call would take it 12 ms. Each inode has a new number (get_next_ino() of
    fs/inode.c), so the same number means the same process. The same process may get another number after the kernel
    was short of memory."""
    with os.scandir(proc) as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield int(entry.name), entry.inode()


def read_exe_link(pid: int, proc: bytes = b"/proc") -> bytes | None:
    """The path of the executable as the kernel shows it, without opening the process: a hint, since the PID may mean
    another process by now. None: the kernel refuses to tell, or the path is longer than it tells. Raises Vanished, also
    where there is no executable, and OSError where this process has no memory or descriptor left."""
    try:
        return os.readlink(b"%b/%d/exe" % (proc, pid))
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # of a path of more than PATH_MAX bytes
            raise
        return None


def read_stat(pid: int, proc: str = "/proc") -> Stat:
    """/proc/PID/stat, without opening the process: a hint, since the PID may mean another process by now. Raises
    Vanished."""
    try:
        descriptor = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return parse_stat(os.read(descriptor, _STAT_LIMIT))
        finally:
            os.close(descriptor)
    except OSError:
        raise Vanished from None


def has_lost_leader(pid: int, proc: str = "/proc") -> bool:
    """Whether the first thread of a process has ended, and another one lives. False also where the process is gone."""
    try:
        stat = read_stat(pid, proc)
    except (Vanished, ValueError):
        return False
    return stat.leader_ended and not stat.ended


def read_comm(pid: int, proc: bytes = b"/proc") -> bytes:
    """The task's name, without opening the process: a hint, since the PID may mean another process by now. Raises
    Vanished and OSError."""
    try:
        descriptor = os.open(b"%b/%d/comm" % (proc, pid), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 64)[:-1]
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None


def starttime_of(pid: int, proc: str = "/proc") -> int | None:
    """The start time of the process that has this PID now, in clock ticks since boot; None: no process has it, or the
    process has ended."""
    try:
        stat = read_stat(pid, proc)
    except (Vanished, ValueError):
        return None
    return None if stat.ended else stat.starttime


def is_alive(pid: int, starttime: int, proc: str = "/proc") -> bool:
    """Whether the process with this PID and start time (clock ticks since boot) still runs."""
    return starttime_of(pid, proc) == starttime


def shows(pid: int, starttime: int | None, value: int, proc: str) -> bool:
    """Whether the process of that identity runs and has this oom_score_adj. No start time: whoever has the PID."""
    try:
        with ProcessDir(pid, proc) as directory:
            stat = directory.read_stat()
            if stat.ended or stat.starttime != (stat.starttime if starttime is None else starttime):
                return False
            return directory.read_oom_score_adj() == value
    except (Vanished, OSError, ValueError):
        return False


def read_boot_id(proc: str = "/proc") -> str:
    """The ID of this boot, random(4); empty: it can't be read."""
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def text(raw: bytes) -> str:
    """Bytes of a process as the text that rules are compared with: UTF-8 with surrogateescape."""
    return raw.decode("utf-8", "surrogateescape")
