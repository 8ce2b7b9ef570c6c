"""What in a system bears on the OOM killer and on us, gathered for `doctor` by one reader.

Everything may be missing: an absent fact is None or empty, and no finding comes of it. Roots are arguments, so
that tests can have their own trees.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from oomwatchd.base.badness import era_of
from oomwatchd.kernel.proc_connector import INITIAL_PID_NS, INITIAL_USER_NS
from oomwatchd.oom import memfacts
from oomwatchd.oom.badness import Machine, Memcg
from oomwatchd.oom.killers.aftermath import Unit
from oomwatchd.oom.killers.facts import Reader, Roots, read_memory
from oomwatchd.oom.killers.model import Killer, Memory
from oomwatchd.oom.killers.systemd_facts import SystemdReader
from oomwatchd.oom.killers.systemd_oomd import Leaf, Watched
from oomwatchd.oom.memfacts import PAGE, Process, parse_fields, read_file, read_number

CAP_SYS_PTRACE, CAP_SYS_RESOURCE, CAP_SYSLOG = 19, 24, 34  # include/uapi/linux/capability.h
# How much of the end of a log is looked through for denials.
LOG_TAIL = 1 << 20


@dataclass(frozen=True, slots=True)
class Sysctls:
    """/proc/sys/vm and /proc/sys/kernel; None: not to be read."""

    panic_on_oom: int | None = None
    oom_kill_allocating_task: int | None = None
    overcommit_memory: int | None = None
    overcommit_ratio: int | None = None
    overcommit_kbytes: int | None = None
    dmesg_restrict: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A memory cgroup with what matters about it beside its memory."""

    memcg: Memcg
    oom_group: bool = False  # memory.oom.group
    kill_disabled: bool = False  # v1: memory.oom_control
    minimum: int = 0  # memory.min, pages


@dataclass(frozen=True, slots=True)
class Held:
    """What the daemon says of a process that it holds."""

    rule: str
    value: int
    original: int


@dataclass(frozen=True, slots=True)
class System:
    """Everything that the findings are made of."""

    sysctls: Sysctls
    machine: Machine | None
    commit_limit: int | None  # pages, CommitLimit
    committed: int | None  # pages, Committed_AS
    processes: tuple[Process, ...]
    unreadable: int  # processes that may not be read
    groups: tuple[Group, ...]
    daemon: int | None  # PID of the daemon, None: it doesn't run
    uid: int  # effective, of this process
    cap_eff: int  # of this process
    hidepid: str | None  # value of the mount option of the daemon's /proc, or of ours if it doesn't run
    initial_pid_ns: bool | None
    initial_user_ns: bool | None
    events: tuple[bool, str] | None  # whether process events can be had, and why not; None: not tried
    connector: bool  # /proc/net/connector lists cn_proc: built in, and this is the initial network namespace
    kmsg_readable: bool  # by this process, as far as the file's mode says
    journal: bool  # there is a journal that this process may read
    denials: tuple[str, ...]  # log lines of a security module about oomwatchd
    refused_links: tuple[int, ...]  # PIDs whose exe is refused in spite of CAP_SYS_PTRACE
    held: Mapping[int, Held] | None = None  # by PID; None: the daemon can't be asked
    missing_capabilities: tuple[str, ...] = ()  # as the daemon says itself
    not_watched: str = ""  # why the daemon isn't told when the configuration is saved
    memory: Memory | None = None
    killers: tuple[Killer, ...] = ()
    earlyoom_arguments: tuple[bytes, ...] = ()  # of the one that runs
    units: tuple[Unit, ...] = ()
    watched: tuple[Watched, ...] = ()  # cgroups that systemd-oomd watches
    leaves: tuple[Leaf, ...] = ()  # cgroups that it may kill


def read_system(
    root: str = "/",
    daemon: int | None = None,
    events: tuple[bool, str] | None = None,
    held: Mapping[int, Held] | None = None,
) -> System:
    """Gather the facts of the system whose /proc, /sys, /dev, /var and /run are below `root`. `daemon` is
    the PID of the daemon where that is known, else it is looked for by its name; `events` whether process events
    can be had, and if not, why, where that has been tried; `held` whom the daemon holds, where it has said so."""
    proc = os.path.join(root, "proc")
    try:
        machine = memfacts.read_machine(proc)
    except OSError:
        machine = None
    hierarchy = memfacts.find_hierarchy(os.path.join(root, "sys/fs/cgroup"))
    try:
        processes, unreadable = memfacts.read_processes(proc, hierarchy.version if hierarchy else None)
    except OSError:
        processes, unreadable = [], 0
    status = parse_fields(read_file(os.path.join(proc, "self/status")) or b"")
    meminfo = parse_fields(read_file(os.path.join(proc, "meminfo")) or b"")
    cap_eff = int(status.get(b"CapEff", b"0"), 16)
    system = System(
        sysctls=_read_sysctls(os.path.join(proc, "sys")),
        machine=machine,
        commit_limit=_pages(meminfo, b"CommitLimit"),
        committed=_pages(meminfo, b"Committed_AS"),
        processes=tuple(processes),
        unreadable=unreadable,
        groups=tuple(_read_groups(hierarchy, machine)),
        daemon=_find_daemon(processes) if daemon is None else daemon,
        uid=int(status.get(b"Uid", b"0 0").split()[1]),
        cap_eff=cap_eff,
        hidepid=parse_hidepid(read_file(os.path.join(proc, "self/mountinfo")) or b""),
        initial_pid_ns=_is(memfacts.namespace(proc, "pid"), INITIAL_PID_NS),
        initial_user_ns=_is(memfacts.namespace(proc, "user"), INITIAL_USER_NS),
        events=events,
        connector=b"cn_proc" in (read_file(os.path.join(proc, "net/connector")) or b""),
        kmsg_readable=os.access(os.path.join(root, "dev/kmsg"), os.R_OK),
        journal=_has_journal(root),
        denials=tuple(_read_denials(root)),
        refused_links=_refused_links(proc, processes) if has_cap(cap_eff, CAP_SYS_PTRACE) else (),
        held=held,
    )
    return _with_killers(system, root)


def _with_killers(system: System, root: str) -> System:
    """The system with the other killers in it, as far as there are any."""
    if system.machine is None:
        return system
    roots = Roots(root, os.path.join(root, "proc"), os.path.join(root, "sys/fs/cgroup"))
    reader = Reader(roots, system.processes, era_of(os.uname().release))
    killers = tuple(reader.killers(system.machine))
    pids = {killer.name: killer.pid for killer in killers if killer.present}
    systemd = SystemdReader(roots.root, roots.cgroup)
    watched = systemd.watched() if "systemd-oomd" in pids else []
    early = pids.get("earlyoom")
    return replace(
        system,
        memory=read_memory(roots.proc),
        killers=killers,
        earlyoom_arguments=() if early is None else tuple(reader.command_line(early)[1:]),
        units=tuple(systemd.units(system.processes)),
        watched=tuple(watched),
        leaves=tuple(systemd.leaves(watched)),
    )


def has_cap(capabilities: int, number: int) -> bool:
    """Whether a set, as in /proc/PID/status, holds capability `number`."""
    return capabilities >> number & 1 == 1


def _is(inode: int | None, wanted: int) -> bool | None:
    return None if inode is None else inode == wanted


def _pages(fields: dict[bytes, bytes], key: bytes) -> int | None:
    amount = memfacts.kib(fields, key)
    return None if amount is None else memfacts.pages_of_kib(amount)


def _read_sysctls(directory: str) -> Sysctls:
    def number(name: str) -> int | None:
        return read_number(os.path.join(directory, name))

    return Sysctls(
        panic_on_oom=number("vm/panic_on_oom"),
        oom_kill_allocating_task=number("vm/oom_kill_allocating_task"),
        overcommit_memory=number("vm/overcommit_memory"),
        overcommit_ratio=number("vm/overcommit_ratio"),
        overcommit_kbytes=number("vm/overcommit_kbytes"),
        dmesg_restrict=number("kernel/dmesg_restrict"),
    )


def _read_groups(hierarchy: memfacts.Hierarchy | None, machine: Machine | None) -> list[Group]:
    if hierarchy is None or machine is None:
        return []
    groups = []
    for path in memfacts.walk(hierarchy):
        memcg = memfacts.read_memcg(hierarchy, path, machine)
        if memcg is None:
            continue
        directory = memfacts.directory_of(hierarchy, path)
        control = parse_pairs(read_file(os.path.join(directory, b"memory.oom_control")) or b"")
        minimum = read_number(os.path.join(directory, b"memory.min"))
        groups.append(
            Group(
                memcg=memcg,
                oom_group=read_number(os.path.join(directory, b"memory.oom.group")) == 1,
                kill_disabled=control.get(b"oom_kill_disable") == b"1",
                minimum=0 if minimum is None else minimum // PAGE,
            )
        )
    return groups


def parse_pairs(raw: bytes) -> dict[bytes, bytes]:
    """`key value` lines, as in memory.oom_control."""
    return {key: value for key, _, value in (line.partition(b" ") for line in raw.split(b"\n"))}


def parse_hidepid(mountinfo: bytes) -> str | None:
    """The value of hidepid= of the topmost mount on /proc, None if it hides nothing."""
    value = None
    for line in mountinfo.split(b"\n"):
        fields, _, rest = line.partition(b" - ")
        words, kind = fields.split(b" "), rest.split(b" ")
        if len(words) < 6 or words[4] != b"/proc" or kind[0] != b"proc":
            continue
        options = dict(option.partition(b"=")[::2] for option in kind[-1].split(b","))
        value = options.get(b"hidepid", b"0").decode("ascii", "replace")
    return None if value in (None, "0", "off") else value


def _find_daemon(processes: list[Process]) -> int | None:
    """By name, as root: whoever could fake that needn't fool doctor."""
    found = [p.task.pid for p in processes if p.task.comm == b"oomwatchd" and p.task.uid == 0]
    return min(found, default=None)


def _has_journal(root: str) -> bool:
    for place in ("run/log/journal", "var/log/journal"):
        directory = os.path.join(root, place)
        try:
            machines = os.listdir(directory)
        except OSError:
            continue
        if any(os.access(os.path.join(directory, m, "system.journal"), os.R_OK) for m in machines):
            return True
    return False


def _read_denials(root: str) -> list[str]:
    """Lines of the kernel log and the audit log in which a security module refuses oomwatchd something."""
    lines = read_tail(os.path.join(root, "var/log/audit/audit.log")) + read_ring(os.path.join(root, "dev/kmsg"))
    return [line.decode("utf-8", "backslashreplace") for line in lines if is_denial(line)]


def is_denial(line: bytes) -> bool:
    """Whether a log line is a denial by SELinux or AppArmor that concerns oomwatchd."""
    denied = (b"avc:" in line and b"denied" in line) or b'apparmor="DENIED"' in line
    return denied and (b'comm="oomwatchd"' in line or b"oomwatchd_t" in line or b'profile="oomwatchd"' in line)


def read_tail(path: str) -> list[bytes]:
    """The last lines of a file, none if it can't be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL))
            return file.read(LOG_TAIL).splitlines()
    except OSError:
        return []


def read_ring(path: str) -> list[bytes]:
    """All records of /dev/kmsg that are there now; none if it can't be read."""
    records: list[bytes] = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return records
    try:
        while True:
            try:
                record = os.read(descriptor, 8192)
            except BrokenPipeError:
                continue  # overwritten meanwhile; the next read goes on with the oldest that is left
            if not record:
                return records
            records.append(record)
    except OSError:
        return records  # EAGAIN: the end
    finally:
        os.close(descriptor)


def _refused_links(proc: str, processes: list[Process]) -> tuple[int, ...]:
    """Who refuses its exe link, but PID 1, whom no rule touches. Kernel threads and zombies have none, which
    is ENOENT, not a refusal."""
    refused = []
    for process in processes:
        if process.task.global_init:
            continue
        try:
            os.readlink(os.path.join(proc, str(process.task.pid), "exe"))
        except PermissionError:
            refused.append(process.task.pid)
        except OSError:
            continue
    return tuple(refused)
