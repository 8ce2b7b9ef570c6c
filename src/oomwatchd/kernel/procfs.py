"""One process directory: bytes parsed (pure), read and written through a descriptor of /proc/PID.

A descriptor of the directory outlives its process but never means another one: once the process is reaped, every
openat(2) below it fails with ESRCH, even when the PID lives again. Nothing else in the daemon spells names of
/proc. See proc_pid_stat(5), proc_pid_status(5), proc_pid_oom_score_adj(5)."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from oomwatchd.rules.criteria import Source
from oomwatchd.rules.model import Process
from oomwatchd.rules.ruleset import Needs

PF_KTHREAD = 0x00200000
"""include/linux/sched.h: the process is a kernel thread."""

_CMDLINE_LIMIT = 128 << 10
"""Bytes of the arguments that rules are compared with: one argument can't be longer (MAX_ARG_STRLEN), and a
process with megabytes of them must not slow us down."""

_STAT_LIMIT = 2048
"""52 numbers of at most 20 digits, and a name."""

_MOUNTINFO_LIMIT = 4 << 20

_DELETED = b" (deleted)"


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
    nspid = _line(raw, b"\nNSpid:")
    return Status(
        uid=int(_line(raw, b"\nUid:")[1]),
        gid=int(_line(raw, b"\nGid:")[1]),
        pid_ns_depth=len(nspid) - 1,
    )


def parse_thread_group(raw: bytes) -> int:
    """Of /proc/PID/status the PID of the process, where PID may be that of a thread. Raises ValueError."""
    return int(_line(raw, b"\nTgid:")[0])


def _line(raw: bytes, label: bytes) -> list[bytes]:
    start = raw.index(label) + len(label)
    return raw[start : raw.index(b"\n", start)].split()


def parse_cgroup(raw: bytes) -> bytes:
    """The path of /proc/PID/cgroup in the unified hierarchy, else in the one that systemd keeps for itself on
    cgroup v1 (cgroups(7)); empty if there is neither."""
    named = b""
    for line in raw.splitlines():
        if line.startswith(b"0::"):
            return line[3:]
        _, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if controllers == b"name=systemd":
            named = path
    return named


@dataclass(frozen=True, slots=True)
class Units:
    """What a cgroup path says in systemd's terms; empty: nothing."""

    unit: str
    user_unit: str
    slice: str


_UNIT_SUFFIXES = (
    *(".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer"),
    *(".slice", ".scope"),
)
_UNIT_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\@")
_UNIT_NAME_MAX = 255


def parse_units(cgroup: str) -> Units:
    """The unit, the user unit and the slice of a cgroup path, as src/basic/cgroup-util.c of systemd parses them:
    cg_path_get_unit(), cg_path_get_user_unit(), cg_path_get_slice()."""
    parts = [part.removeprefix("_") for part in cgroup.split("/") if part]
    after = _skip_slices(parts)
    innermost = parts[len(parts) - len(after) - 1] if len(after) < len(parts) else "-.slice"
    unit = _unit_at(after)
    user_unit = _unit_at(_skip_slices(after[1:])) if after and _is_session(after[0]) else ""
    return Units(unit, user_unit, innermost)


def _skip_slices(parts: list[str]) -> list[str]:
    count = 0
    while count < len(parts) and parts[count].endswith(".slice") and _is_unit_name(parts[count]):
        count += 1
    return parts[count:]


def _unit_at(parts: list[str]) -> str:
    return parts[0] if parts and _is_unit_name(parts[0]) and not parts[0].endswith(".slice") else ""


def _is_session(part: str) -> bool:
    """Whether below `part` a user's own manager or session has the say."""
    if part.startswith("user@") and part.endswith(".service"):
        return part[5:-8].isascii() and part[5:-8].isdigit()
    return part.startswith("session-") and part.endswith(".scope") and part[8:-6].isalnum()


def _is_unit_name(name: str) -> bool:
    stem, dot, _ = name.rpartition(".")
    if not dot or not stem or len(name) > _UNIT_NAME_MAX or not name.endswith(_UNIT_SUFFIXES):
        return False
    if stem.startswith("@") or stem.endswith("@"):  # no prefix; a template, of which nothing runs
        return False
    return _UNIT_CHARACTERS.issuperset(name)


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
        effective = int(_line(file.read(), b"\nCapEff:")[0], 16)
    return tuple(name for name, bit in CAPABILITIES.items() if not effective >> bit & 1)


class Namespaces:
    """The daemon's own view, which those of processes are compared with. By the names of the namespaces, namespaces(7):
    to stat them takes the kernel twice as long."""

    def __init__(self, proc: str = "/proc") -> None:
        self.user = os.readlink(f"{proc}/self/ns/user")
        self.pid = os.readlink(f"{proc}/self/ns/pid")

    def hold(self, directory: ProcessDir) -> bool | None:
        """Whether the process lives in our user and PID namespaces; None if we may not know."""
        try:
            user = os.readlink("ns/user", dir_fd=directory.descriptor)
            pid = os.readlink("ns/pid", dir_fd=directory.descriptor)
        except OSError:
            return None
        return user == self.user and pid == self.pid


def text(raw: bytes) -> str:
    """Bytes of a process as the text that rules compare."""
    return raw.decode("utf-8", "surrogateescape")


def split_deleted(link: bytes) -> tuple[bytes, bool]:
    """The path of an exe link, and whether the kernel says that the file's name is gone."""
    if link.endswith(_DELETED):
        return link[: -len(_DELETED)], True
    return link, False


def verify_exe(directory: ProcessDir, path: bytes, deleted: bool, ours: Namespaces) -> tuple[bool | None, str]:
    """Whether the path of the executable can be believed, and if not, why not. A path alone can't: in a mount
    namespace of their own, anyone can put any file at any path. `path` and `deleted` are from split_deleted()."""
    try:
        runs = os.stat("exe", dir_fd=directory.descriptor)
    except OSError:
        return None, "may not be looked at"
    try:
        there = os.stat(path)
    except OSError:
        there = None
    if there is not None and (there.st_dev, there.st_ino) == (runs.st_dev, runs.st_ino):
        return True, ""
    if not deleted:
        return False, "not the file at that path here"
    if not ours.hold(directory):
        return False, "deleted, and in another user or PID namespace"
    # A descriptor of a file below a bind mount of theirs can be handed out of the namespace and executed here, and
    # the file's deletion, by them or by an upgrade, leaves the path of the mount.
    if not _executed_through_own_mount(directory):
        return False, "deleted, and executed through a mount of another namespace"
    # Setuid sandboxes let users mount without a user namespace. What others own is theirs at any path.
    owners = {0}
    with contextlib.suppress(OSError):
        owners.add(os.stat(os.path.dirname(path)).st_uid)
    if runs.st_uid not in owners:
        return False, "deleted, and owned by another user than its directory"
    return True, ""


def _executed_through_own_mount(directory: ProcessDir) -> bool:
    """Whether the executable was opened through a mount that the process sees, proc_pid_mountinfo(5). False also where
    that can't be known."""
    try:
        descriptor = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=directory.descriptor)
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
                wanted = _line(b"\n" + file.read(), b"\nmnt_id:")[0]
        finally:
            os.close(descriptor)
        mountinfo = os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.descriptor)
        with open(mountinfo, "rb") as file:
            mounts = file.read(_MOUNTINFO_LIMIT)
    except (OSError, ValueError):
        return False
    return any(line.startswith(wanted + b" ") for line in mounts.splitlines())


def read_process(
    directory: ProcessDir,
    stat: Stat,
    exe: bytes | None,
    needs: Needs,
    ours: Namespaces,
    verify: bool,
    ancestors: frozenset[str],
) -> Process:
    """All the facts that `needs` asks for. `exe` is what read_exe() gave, `verify` whether it matters if that can
    be believed. Raises Vanished."""
    process = Process(directory.pid, stat.starttime, stat.ppid, text(stat.comm), stat.session == directory.pid)
    process.ancestors = ancestors
    if exe is not None:
        path, deleted = split_deleted(exe)
        process.exe = text(path)
        if path and verify:
            process.exe_verified, process.exe_doubt = verify_exe(directory, path, deleted, ours)
    if Source.CMDLINE in needs.reads:
        process.cmdline = _read_cmdline(directory)
    if Source.CGROUP in needs.reads:
        process.cgroup = text(parse_cgroup(directory.read("cgroup")))
        units = parse_units(process.cgroup)
        process.unit, process.user_unit, process.slice = units.unit, units.user_unit, units.slice
    if Source.STATUS in needs.reads:
        status = parse_status(directory.read("status"))
        process.uid, process.gid, process.foreign_pid_ns = status.uid, status.gid, status.pid_ns_depth > 0
    else:
        process.foreign_pid_ns = _in_foreign_pid_ns(directory, ours)
    return process


def _in_foreign_pid_ns(directory: ProcessDir, ours: Namespaces) -> bool:
    """Whether the process lives in another PID namespace than we do. By the namespace, in a fifth of the time that its
    status takes; that where CAP_SYS_PTRACE is missing."""
    try:
        return os.readlink("ns/pid", dir_fd=directory.descriptor) != ours.pid
    except OSError:
        return parse_status(directory.read("status")).pid_ns_depth > 0


def _read_cmdline(directory: ProcessDir) -> str | None:
    try:
        raw = directory.read("cmdline", _CMDLINE_LIMIT)
    except PermissionError:
        return None
    return text(raw.rstrip(b"\0").replace(b"\0", b" "))
