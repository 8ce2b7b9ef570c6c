"""One process directory: bytes parsed (pure), read and written through a descriptor of /proc/PID.

A descriptor of the directory outlives its process but never means another one: once the process is reaped, every
openat(2) below it fails with ESRCH, even when the PID lives again. Nothing else in the daemon spells names of
/proc. See proc_pid_stat(5), proc_pid_status(5), proc_pid_oom_score_adj(5)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

PF_KTHREAD = 0x00200000
"""include/linux/sched.h: the process is a kernel thread."""

_STAT_LIMIT = 2048
"""52 numbers of at most 20 digits, and a name."""


class Vanished(Exception):
    """The process is gone."""


# Parsers


@dataclass(slots=True)
class Stat:
    """/proc/PID/stat, what we use of it. Not frozen, as `Process` isn't."""

    comm: bytes
    leader_ended: bool
    """Whether the first thread has ended: the process has lost its executable, and that means nothing."""
    ppid: int
    session: int
    flags: int
    """PF_* of include/linux/sched.h."""
    threads: int
    starttime: int
    """Clock ticks since boot."""

    @property
    def ended(self) -> bool:
        """Whether all threads have, and the process just waits to be reaped."""
        return self.leader_ended and self.threads < 2


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat. The name in parentheses may hold anything, so it ends at the last one. Raises
    ValueError."""
    opening, closing = raw.index(b"("), raw.rindex(b")")
    fields = raw[closing + 2 :].split(b" ", 20)
    if len(fields) < 20:
        raise ValueError(f"not a stat file: {raw[:80]!r}")
    return Stat(
        raw[opening + 1 : closing],
        leader_ended=fields[0] in (b"Z", b"X"),
        ppid=int(fields[1]),
        session=int(fields[3]),
        flags=int(fields[6]),
        threads=int(fields[17]),
        starttime=int(fields[19]),
    )


@dataclass(frozen=True, slots=True)
class Status:
    """/proc/PID/status, what we use of it."""

    uid: int
    """Effective."""
    gid: int
    """Effective."""
    pid_ns_depth: int
    """How many PID namespaces below that of the /proc mount the process lives; 0: in that same one."""


def parse_status(raw: bytes) -> Status:
    """Parse /proc/PID/status. Line feeds in the name are escaped by the kernel. Raises ValueError."""
    # NSpid has one number for each PID namespace from the mount's down, since Linux 4.1.
    nspid = line_of(raw, b"\nNSpid:")
    return Status(
        uid=int(line_of(raw, b"\nUid:")[1]),
        gid=int(line_of(raw, b"\nGid:")[1]),
        pid_ns_depth=len(nspid) - 1,
    )


def parse_thread_group(raw: bytes) -> int:
    """Of /proc/PID/status the PID of the process, where PID may be that of a thread. Raises ValueError."""
    return int(line_of(raw, b"\nTgid:")[0])


def line_of(raw: bytes, label: bytes) -> list[bytes]:
    """The words behind `label`, which begins with a line feed. Raises ValueError if there is no such line."""
    start = raw.index(label) + len(label)
    return raw[start : raw.index(b"\n", start)].split()


# Readers


class ProcessDir:
    """A descriptor of one /proc/PID. Use as a context manager. Reading raises Vanished when the process is gone,
    PermissionError when the kernel refuses."""

    __slots__ = ("_oom_score_adj", "descriptor", "pid")

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        self.pid = pid
        self._oom_score_adj = -1
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

    def read(self, name: str, limit: int = 1 << 16) -> bytes:
        """A file's content, at most `limit` bytes of it, by one read(2): the files of a process that have just one
        record give it whole (seq_file, single_open)."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.descriptor)
            try:
                return os.read(descriptor, limit)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, ProcessLookupError):
            raise Vanished from None

    def read_stat(self) -> Stat:
        return parse_stat(self.read("stat", _STAT_LIMIT))

    def read_exe(self) -> bytes | None:
        """The path of the executable as the kernel shows it; empty if there is none (a zombie, a kernel thread);
        None if we may not know."""
        try:
            return os.readlink(b"exe", dir_fd=self.descriptor)
        except (FileNotFoundError, ProcessLookupError):
            return b""
        except OSError:
            return None

    def read_oom_score_adj(self) -> int:
        return int(self.read("oom_score_adj", 16))

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


def pids(proc: str = "/proc") -> Iterator[int]:
    """The PIDs of all processes, likewise."""
    return (pid for pid, _ in processes(proc))


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


def is_alive(pid: int, starttime: int, proc: str = "/proc") -> bool:
    """Whether the process of that identity still runs."""
    try:
        with ProcessDir(pid, proc) as directory:
            stat = directory.read_stat()
            return stat.starttime == starttime and not stat.ended
    except (Vanished, OSError, ValueError):
        return False


def read_boot_id(proc: str = "/proc") -> str:
    """Which boot this is, random(4)."""
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def hides_processes(proc: str = "/proc") -> bool:
    """Whether hidepid=, proc(5), keeps users from each other's processes. PID 1's view tells: ours may be the one of a
    sandbox. True where it can't be found out."""
    for pid in ("1", "self"):
        try:
            with open(f"{proc}/{pid}/mounts", "rb") as file:
                return parse_hidepid(file.read())
        except OSError:
            continue
    return True


def parse_hidepid(mounts: bytes) -> bool:
    """Whether /proc in proc_pid_mounts(5) is mounted with hidepid=, as a number or, since Linux 5.8, as a word."""
    hidden = False
    for line in mounts.splitlines():
        fields = line.split(b" ")
        if len(fields) > 3 and (fields[1], fields[2]) == (b"/proc", b"proc"):
            options = dict(option.partition(b"=")[::2] for option in fields[3].split(b","))
            hidden = options.get(b"hidepid", b"0") not in (b"0", b"off")
    return hidden


CAPABILITIES = {"CAP_DAC_OVERRIDE": 1, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_RESOURCE": 24}
"""include/uapi/linux/capability.h: those that the daemon's work wants."""


def missing_capabilities(pid: int | str = "self", proc: str = "/proc") -> tuple[str, ...]:
    """Which of CAPABILITIES a process hasn't in effect."""
    with open(f"{proc}/{pid}/status", "rb") as file:
        effective = int(line_of(file.read(), b"\nCapEff:")[0], 16)
    return tuple(name for name, bit in CAPABILITIES.items() if not effective >> bit & 1)


def text(raw: bytes) -> str:
    """Bytes of a process as the text that rules compare."""
    return raw.decode("utf-8", "surrogateescape")
