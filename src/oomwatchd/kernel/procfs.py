"""One process directory: read and written through a descriptor of /proc/PID.

A descriptor of the directory outlives its process but never means another one: once the process is reaped, every
openat(2) below it fails with ESRCH, even when the PID lives again. Nothing else in the daemon spells names of
/proc. See proc_pid_stat(5), proc_pid_status(5), proc_pid_oom_score_adj(5)."""

import os
from collections.abc import Iterator
from itertools import islice

from oomwatchd.kernel.proc_stat import Stat, parse_stat

_STAT_LIMIT = 2048
"""52 numbers of at most 20 digits, and a name."""

_THREADS_LIMIT = 1024
"""So many threads are looked at for one that lives: threads that have ended stay while a debugger holds them."""

_SEARCHES = 8
"""So often a thread that lives is looked for while a process is dealt with: whoever keeps ending his threads must not
hold us up."""


class Vanished(Exception):
    """The process is gone."""


# Readers


class ProcessDir:
    """A descriptor of one /proc/PID. Use as a context manager. Reading raises Vanished when the process is gone,
    PermissionError when the kernel refuses.

    Where the first thread of the process has ended, all but stat and oom_score_adj is read of another one."""

    __slots__ = ("_oom_score_adj", "_searches", "_thread", "descriptor", "pid")

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        self.pid = pid
        self._oom_score_adj = -1
        self._thread = ""
        """Directory of the thread that the process is read of; empty: the first one."""
        self._searches = 0
        try:
            self.descriptor = os.open(f"{proc}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None

    def __enter__(self) -> "ProcessDir":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._oom_score_adj >= 0:
            os.close(self._oom_score_adj)
        os.close(self.descriptor)

    def read(self, name: str, limit: int = 1 << 16, offset: int = 0) -> bytes:
        """A file's content, at most `limit` bytes of it from `offset` on, by one read(2): the files of a process that
        have just one record give it whole (seq_file, single_open)."""
        while True:
            try:
                return self._read(self.path(name), limit, offset)
            except Vanished:
                if not self._thread or not self._find_thread():
                    raise

    def _read(self, path: str, limit: int, offset: int = 0) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.descriptor)
            try:
                return os.pread(descriptor, limit, offset) if offset else os.read(descriptor, limit)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None

    def path(self, name: str) -> str:
        """Where a file of the process is, from `descriptor` on: that of the thread that is gone by."""
        return self._thread + name

    def read_stat(self) -> Stat:
        """/proc/PID/stat. From then on the other files are those of a thread that lives."""
        stat = parse_stat(self._read("stat", _STAT_LIMIT))
        if stat.leader_ended and not stat.ended and not self._thread:
            self._find_thread()
        return stat

    def leader_has_ended(self) -> bool:
        """Whether the first thread has ended since read_stat(), so that what has been read may be empty for that. If
        so, another thread's files are read from then on. Raises Vanished."""
        if self._thread:
            return False
        self.read_stat()
        return self._thread != ""

    def _find_thread(self) -> bool:
        """Go by a thread that lives; False if there is none."""
        self._thread = ""
        self._searches += 1
        if self._searches > _SEARCHES:
            return False
        try:
            tasks = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
        except OSError:
            return False
        try:
            with os.scandir(tasks) as entries:
                for entry in islice(entries, _THREADS_LIMIT):
                    if self._lives(entry.name):
                        self._thread = f"task/{entry.name}/"
                        return True
        except OSError:
            return False
        finally:
            os.close(tasks)
        return False

    def _lives(self, thread: str) -> bool:
        try:
            return not parse_stat(self._read(f"task/{thread}/stat", _STAT_LIMIT)).leader_ended
        except Vanished:
            return False

    def read_exe(self) -> bytes | None:
        """The path of the executable as the kernel shows it; empty if there is none (a zombie, a kernel thread);
        None if we may not know."""
        while True:
            try:
                return os.readlink(self.path("exe").encode(), dir_fd=self.descriptor)
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
        return int(self._read("oom_score_adj", 16))

    def open_oom_score_adj(self) -> int:
        """The same, and the file stays open for write_oom_score_adj(), if we may write it."""
        try:
            self._oom_score_adj = os.open("oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=self.descriptor)
            return int(os.read(self._oom_score_adj, 16))
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None
        except OSError:  # not ours, or /proc is read-only
            return self.read_oom_score_adj()

    def write_oom_score_adj(self, value: int) -> None:
        """Write the value. Raises Vanished, or OSError as proc_pid_oom_score_adj(5) has it: EACCES below the floor
        without CAP_SYS_RESOURCE, or without the right to write the file."""
        try:
            if self._oom_score_adj < 0:
                self._oom_score_adj = os.open("oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.descriptor)
            # One pwrite(2): the kernel parses each by itself, and a buffered one would lose the error.
            os.pwrite(self._oom_score_adj, b"%d" % value, 0)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None


def processes(proc: str = "/proc") -> Iterator[tuple[int, int]]:
    """All processes there are, PID and inode of /proc/PID, a thousand at a time: to list ten thousand at once takes the
    kernel 12 ms. It goes by their PIDs, so that none is left out that is there all the while. The kernel numbers each
    inode that it makes (get_next_ino() of fs/inode.c), so the same inode is the same process; but it may make another
    for the same process when it was short of memory."""
    with os.scandir(proc) as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield int(entry.name), entry.inode()


def read_exe_link(pid: int, proc: bytes = b"/proc") -> bytes | None:
    """The path of the executable as the kernel shows it, by PID: a hint whether the process is worth opening. None if
    we may not know. Raises Vanished, also where there is no executable, and OSError if we have no room for it."""
    try:
        return os.readlink(b"%b/%d/exe" % (proc, pid))
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None


def read_stat(pid: int, proc: str = "/proc") -> Stat:
    """/proc/PID/stat, by PID: a hint likewise. Raises Vanished."""
    try:
        descriptor = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return parse_stat(os.read(descriptor, _STAT_LIMIT))
        finally:
            os.close(descriptor)
    except OSError:
        raise Vanished from None


def has_lost_leader(pid: int, proc: str = "/proc") -> bool:
    """Whether the first thread of a process has ended, and another one lives."""
    try:
        stat = read_stat(pid, proc)
    except (Vanished, ValueError):
        return False
    return stat.leader_ended and not stat.ended


def read_comm(pid: int, proc: bytes = b"/proc") -> bytes:
    """The name, by PID: a hint likewise. Raises Vanished and OSError."""
    try:
        descriptor = os.open(b"%b/%d/comm" % (proc, pid), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 64)[:-1]
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None


def starttime_of(pid: int, proc: str = "/proc") -> int | None:
    """When the process that has this PID started, in clock ticks since boot; None: nobody has it, or it has ended."""
    try:
        stat = read_stat(pid, proc)
    except (Vanished, ValueError):
        return None
    return None if stat.ended else stat.starttime


def is_alive(pid: int, starttime: int, proc: str = "/proc") -> bool:
    """Whether the process of that identity still runs."""
    return starttime_of(pid, proc) == starttime


def read_boot_id(proc: str = "/proc") -> str:
    """Which boot this is, random(4)."""
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def text(raw: bytes) -> str:
    """Bytes of a process as the text that rules compare."""
    return raw.decode("utf-8", "surrogateescape")
