"""What in a system weakens or defeats the pins: pure functions from `System` to findings."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from oomwatchd.badness import OOM_SCORE_ADJ_MIN, why_not_killable
from oomwatchd.memfacts import PAGE, Process, is_within
from oomwatchd.system import CAP_SYS_PTRACE, System, has_cap
from oomwatchd.text import printable

CRITICAL, WARNING, NOTICE = "critical", "warning", "notice"

CAP_SYSLOG, CAP_SYS_RESOURCE = 34, 24
# What the daemon can't do without each (field by field in oomwatchd(8)).
CAPABILITIES = (
    ("sys-resource", CAP_SYS_RESOURCE, "values can be raised but not lowered, and no floor moves", CRITICAL),
    ("dac-override", 1, "values of other users' processes can't be written", CRITICAL),
    ("sys-ptrace", CAP_SYS_PTRACE, "nobody else's executable can be read, so rules with `exe` don't fit", CRITICAL),
    ("net-admin", 12, "kernels before 6.12 refuse process events, so that only scans find processes", WARNING),
)

SHELLS = frozenset(b"ash bash busybox csh dash elvish fish ksh mksh nu pwsh sh tcsh zsh".split())

OTHER_KILLERS = {
    b"systemd-oomd": (
        "systemd-oomd runs: it kills whole cgroups by memory pressure and swap use, does not look at oom_score_adj, "
        "and respects only ManagedOOMPreference=",
        "set ManagedOOMPreference=omit (or avoid) in the units that must live, or systemctl disable --now systemd-oomd",
    ),
    b"earlyoom": (
        "earlyoom runs: it kills before the kernel would, by /proc/PID/oom_score, so it respects the pins, except "
        "where --prefer, --avoid or --ignore fit; with --sort-by-rss it respects only -1000",
        "start it without --sort-by-rss, --prefer, --avoid and --ignore, and let the rules say it",
    ),
    b"nohang": (
        "nohang runs: it kills before the kernel would, by /proc/PID/oom_score corrected by its own rules, and "
        "may be set to ignore positive values",
        "leave its badness_adj rules out of nohang.conf and ignore_positive_oom_score_adj = False",
    ),
    b"oomd": (
        "oomd runs: it kills whole cgroups by its own rules and does not look at oom_score_adj",
        "except the cgroups that must live in oomd.json",
    ),
}

# Shares (percent) from which on it is worth a word.
PROTECTED_IN_GROUP, PROTECTED_OF_RAM, PROTECTED_OF_RAM_CRITICAL, COMMITTED = 75, 50, 80, 90
LITTLE_SWAP = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that weakens or defeats the pins."""

    id: str  # stable
    severity: str  # critical: pins are void; warning: some are weakened; notice: worth knowing
    message: str  # one sentence why
    advice: str  # one command or setting that mends it


def find(system: System) -> list[Finding]:
    """All findings, the gravest first."""
    found = [finding for check in CHECKS for finding in check(system)]
    return sorted(found, key=lambda finding: (CRITICAL, WARNING, NOTICE).index(finding.severity))


def _name(process: Process) -> str:
    return f"{printable(process.task.comm)} ({process.task.pid})"


def _names(processes: Iterable[Process], most: int = 3) -> str:
    names = [_name(process) for process in processes]
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _some(count: int, noun: str = "process", plural: str = "processes") -> str:
    return f"{count} {noun if count == 1 else plural}"


def _mib(pages: int) -> str:
    return f"{pages * PAGE / 2**20:.0f} MiB"


# --- settings of the kernel -------------------------------------------------------------------------------


def panic_on_oom(system: System) -> Iterator[Finding]:
    value = system.sysctls.panic_on_oom
    if value in (None, 0):
        return
    scope = "when the machine runs out of memory" if value == 1 else "also when a cgroup or cpuset runs out of memory"
    yield Finding(
        "panic-on-oom",
        CRITICAL,
        f"vm.panic_on_oom is {value}: {scope} the kernel panics and asks no oom_score_adj.",
        "sysctl vm.panic_on_oom=0",
    )


def oom_kill_allocating_task(system: System) -> Iterator[Finding]:
    if system.sysctls.oom_kill_allocating_task in (None, 0):
        return
    yield Finding(
        "oom-kill-allocating-task",
        CRITICAL,
        "vm.oom_kill_allocating_task is set: when the machine runs out of memory, whoever asks for some dies, "
        "whatever its oom_score_adj, unless that is -1000.",
        "sysctl vm.oom_kill_allocating_task=0",
    )


def overcommit(system: System) -> Iterator[Finding]:
    mode = system.sysctls.overcommit_memory
    if mode == 1:
        yield Finding(
            "overcommit-always",
            NOTICE,
            "vm.overcommit_memory is 1: no allocation is ever refused, so that every excess ends in an OOM kill.",
            "sysctl vm.overcommit_memory=0",
        )
    if mode != 2:
        return
    limit, committed = system.commit_limit, system.committed
    measure = "vm.overcommit_kbytes"
    if system.sysctls.overcommit_kbytes in (None, 0):
        measure = f"vm.overcommit_ratio {system.sysctls.overcommit_ratio}"
    figures, severity = "", WARNING
    if limit is not None and committed is not None and limit > 0:
        share = 100 * committed // limit
        severity = CRITICAL if share >= COMMITTED else WARNING
        figures = f" ({_mib(committed)} of {_mib(limit)} are committed, {share} %, by {measure})"
    yield Finding(
        "overcommit-never",
        severity,
        f"vm.overcommit_memory is 2{figures}: at the limit allocations fail in any process, the protected ones too, "
        "before the kernel chooses a victim.",
        "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio",
    )


def swap(system: System) -> Iterator[Finding]:
    machine = system.machine
    if machine is None:
        return
    advice = "add swap, or zram (systemd-zram-generator), and keep vm.swappiness above 0"
    if machine.swap_total == 0:
        yield Finding(
            "no-swap",
            NOTICE,
            "There is no swap: before the kernel kills anyone it drops the program code of the protected and reads "
            "it again and again, and a burst of allocations leads to a kill at once.",
            advice,
        )
    elif 100 * machine.swap_total < LITTLE_SWAP * machine.ram:
        yield Finding(
            "little-swap",
            NOTICE,
            f"There is little swap, {_mib(machine.swap_total)} for {_mib(machine.ram)} of RAM: it is full before "
            "it helps.",
            advice,
        )


# --- memory cgroups ---------------------------------------------------------------------------------------


def _members(system: System, path: bytes) -> list[Process]:
    return [p for p in system.processes if not p.task.kernel_thread and is_within(p.task.memcg, path)]


def memcg_oom_group(system: System) -> Iterator[Finding]:
    harmless = []
    for group in system.groups:
        if not group.oom_group:
            continue
        members = _members(system, group.memcg.path)
        lowered = [p for p in members if OOM_SCORE_ADJ_MIN < p.task.oom_score_adj < 0]
        path = printable(group.memcg.path)
        if lowered and len(members) > 1:
            yield Finding(
                "memcg-oom-group",
                WARNING,
                f"memory.oom.group is set in {path}: if any of its {len(members)} processes is chosen, "
                f"{_names(lowered)} dies with it in spite of its value; only -1000 is spared.",
                "set OOMPolicy=continue in the unit, or move the protected process to a cgroup of its own",
            )
        elif len(members) > 1:
            harmless.append(path)
    if harmless:
        yield Finding(
            "memcg-oom-group-plain",
            NOTICE,
            f"memory.oom.group is set in {_some(len(harmless), 'cgroup', 'cgroups')} ({', '.join(harmless[:3])}): all "
            "processes of such a group but those at -1000 die together, whatever their values.",
            "OOMPolicy=continue in the unit, where that is not meant",
        )


def memcg_oom_disabled(system: System) -> Iterator[Finding]:
    for group in system.groups:
        if group.kill_disabled:
            yield Finding(
                "memcg-oom-kill-disabled",
                CRITICAL,
                f"The OOM killer is off in the cgroup {printable(group.memcg.path)}: at its limit its processes hang, "
                "and nobody is chosen.",
                "write 0 to its memory.oom_control",
            )


def memcg_protected(system: System) -> Iterator[Finding]:
    """Limits smaller than what is protected below them."""
    for group in system.groups:
        limit = group.memcg.limit
        if limit is None:
            continue
        path = printable(group.memcg.path)
        if group.minimum > limit:
            yield Finding(
                "memcg-min-over-max",
                WARNING,
                f"memory.min of {path}, {_mib(group.minimum)}, is more than its limit of {_mib(limit)}: nothing in it "
                "can be reclaimed before someone is killed.",
                "set MemoryMin= below MemoryMax=",
            )
        members = [p for p in _members(system, group.memcg.path) if p.task.has_mm]
        if members and all(why_not_killable(p.task) is not None for p in members):
            yield Finding(
                "memcg-nothing-killable",
                CRITICAL,
                f"No process of the cgroup {path}, which is limited to {_mib(limit)}, can be killed "
                f"({_names(members)}): at the limit they hang, and the log fills.",
                "a value above -1000 for one of them, or a higher MemoryMax=",
            )
            continue
        lowered = [p for p in members if p.task.oom_score_adj < 0]
        held = sum(_own_memory(p) for p in lowered)
        if limit > 0 and 100 * held >= PROTECTED_IN_GROUP * limit:
            yield Finding(
                "memcg-protected",
                WARNING,
                f"The protected processes in {path} ({_names(lowered)}) hold {_mib(held)} of its limit of "
                f"{_mib(limit)}: killing the others frees too little.",
                "a higher MemoryMax= for the unit",
            )


def _own_memory(process: Process) -> int:
    """Pages that would be free without it: shared pages and files are not its own."""
    anon = process.task.rss if process.anon is None else process.anon
    return anon + process.task.swap + process.task.pgtables


# --- processes --------------------------------------------------------------------------------------------


def other_killers(system: System) -> Iterator[Finding]:
    seen = set()
    for process in system.processes:
        comm = process.task.comm
        if comm not in OTHER_KILLERS or comm in seen or process.task.kernel_thread:
            continue
        seen.add(comm)
        message, advice = OTHER_KILLERS[comm]
        yield Finding(f"{comm.decode()}-running", WARNING, f"{message} (PID {process.task.pid}).", advice)


def protected_share(system: System) -> Iterator[Finding]:
    users = [p for p in system.processes if p.task.has_mm and not p.task.kernel_thread]
    if not users or system.machine is None:
        return
    never = [p for p in users if why_not_killable(p.task) is not None]
    if len(never) == len(users) and system.initial_pid_ns is not False:
        yield Finding(
            "nothing-killable",
            CRITICAL,
            f"None of the {_some(len(users))} can be killed: out of memory the kernel would find nothing to kill, "
            "and panic.",
            "use -1000 for a few small processes, and values above it for the rest",
        )
        return
    held = sum(_own_memory(p) for p in never)
    share = 100 * held // system.machine.ram
    if share >= PROTECTED_OF_RAM:
        largest = sorted(never, key=_own_memory, reverse=True)
        yield Finding(
            "protected-share",
            CRITICAL if share >= PROTECTED_OF_RAM_CRITICAL else WARNING,
            f"Processes that can't be killed hold {_mib(held)}, {share} % of the machine's RAM ({_names(largest)}): "
            "the kernel may kill everyone else, find nothing more to kill, and panic.",
            "oom_score_adj = -900 for the largest of them",
        )


def unkillable_owners(system: System) -> Iterator[Finding]:
    """-1000 that has reached a shell or a container: everything started there can't be killed either."""
    by_pid = {p.task.pid: p for p in system.processes}
    kinds: tuple[tuple[str, str, Callable[[Process], bool]], ...] = (
        ("unkillable-shell", "shell", lambda p: p.task.comm in SHELLS),
        ("unkillable-container", "container", lambda p: p.nested),
    )
    for identity, kind, is_one in kinds:
        owned: dict[int, list[Process]] = {}
        for process in system.processes:
            if process.task.oom_score_adj == OOM_SCORE_ADJ_MIN and not process.task.kernel_thread and is_one(process):
                owned.setdefault(_origin(process, by_pid).task.pid, []).append(process)
        for pid, processes in owned.items():
            owner = by_pid[pid]
            has = "is" if owner in processes else "owns"
            yield Finding(
                identity,
                WARNING,
                f"{_name(owner)} at -1000 {has} a {kind} at -1000 ({_names(processes)}): nothing that is started there "
                "can be killed either.",
                'children = "reset" in the rule that lowers it, or a rule for the processes themselves',
            )


def _origin(process: Process, by_pid: dict[int, Process]) -> Process:
    """The topmost ancestor in an unbroken line that has the same value, or the process itself."""
    seen = set[int]()
    while process.task.pid not in seen:
        seen.add(process.task.pid)
        parent = by_pid.get(process.ppid)
        if parent is None or parent.task.oom_score_adj != process.task.oom_score_adj:
            break
        process = parent
    return process


def leaks(system: System) -> Iterator[Finding]:
    """Lowered values and floors that have come down from a parent to someone they were not meant for."""
    by_pid = {p.task.pid: p for p in system.processes}
    values: dict[int, list[Process]] = {}
    floors: dict[int, list[Process]] = {}
    for process in system.processes:
        parent = by_pid.get(process.ppid)
        if parent is None or parent.task.oom_score_adj >= 0 or process.task.kernel_thread:
            continue
        if process.task.oom_score_adj == parent.task.oom_score_adj:
            origin = _origin(process, by_pid)
            if process.task.uid != origin.task.uid and origin.task.uid == 0:
                values.setdefault(origin.task.pid, []).append(process)
        elif process.task.oom_score_adj > parent.task.oom_score_adj and not _moved_the_floor(process, parent, system):
            floors.setdefault(parent.task.pid, []).append(process)
    for pid, processes in values.items():
        owner = by_pid[pid]
        yield Finding(
            "leaked-value",
            WARNING,
            f"{_some(len(processes))} of other users inherited {owner.task.oom_score_adj} from {_name(owner)}: "
            f"{_names(processes)}.",
            'children = "reset" in the rule that lowers it',
        )
    for pid, processes in floors.items():
        owner = by_pid[pid]
        yield Finding(
            "leaked-floor",
            NOTICE,
            f"{_names(processes)} came from {_name(owner)} and may go back to {owner.task.oom_score_adj} without any "
            "privilege: only a privileged write of the value it shows would have moved its floor.",
            'a rule for the parent with children = "reset", and the daemon running',
        )


def _moved_the_floor(process: Process, parent: Process, system: System) -> bool:
    """Whether the higher value of `process` was probably written with CAP_SYS_RESOURCE, which moves the floor:
    by the daemon, its parent or itself (as sshd does it)."""
    return (
        system.daemon is not None
        or has_cap(process.cap_eff, CAP_SYS_RESOURCE)
        or has_cap(parent.cap_eff, CAP_SYS_RESOURCE)
    )


# --- what we may do and see -------------------------------------------------------------------------------


def _subject(system: System) -> tuple[str, int]:
    """Whose capabilities count, and which it has: the daemon, else this process, for a daemon started from here."""
    for process in system.processes:
        if process.task.pid == system.daemon:
            return f"The daemon ({system.daemon})", process.cap_eff
    return "The daemon doesn't run, and started from here it", system.cap_eff


def capabilities(system: System) -> Iterator[Finding]:
    who, held = _subject(system)
    missing = [entry for entry in CAPABILITIES if not has_cap(held, entry[1])]
    if held == system.cap_eff and system.daemon is None and system.uid != 0 and missing:
        names = ", ".join(_cap_name(entry[0]) for entry in missing)
        yield Finding(
            "unprivileged",
            NOTICE,
            f"The daemon doesn't run, and this process of uid {system.uid} lacks {names}: what a daemon could do can't "
            "be told from here, and not everything can be seen.",
            "run oomwatchctl doctor as root",
        )
        return
    for name, _, consequence, severity in missing:
        verb = "lacks" if system.daemon is not None else "would lack"
        yield Finding(
            f"no-cap-{name}",
            severity,
            f"{who} {verb} {_cap_name(name)}: {consequence}.",
            f"CapabilityBoundingSet= with {_cap_name(name)} in oomwatchd.service, and in the container it runs in",
        )


def _cap_name(name: str) -> str:
    return "CAP_" + name.replace("-", "_").upper()


def hidepid(system: System) -> Iterator[Finding]:
    if system.hidepid is None:
        return
    who, held = _subject(system)
    if has_cap(held, CAP_SYS_PTRACE):
        yield Finding(
            "hidepid",
            NOTICE,
            f"/proc is mounted with hidepid={system.hidepid}: oomwatchctl sees only their own processes for users "
            "without CAP_SYS_PTRACE; the daemon sees all.",
            "run oomwatchctl as root",
        )
        return
    yield Finding(
        "hidepid",
        CRITICAL,
        f"/proc is mounted with hidepid={system.hidepid}. {who} has no CAP_SYS_PTRACE: other users' processes "
        "are not seen.",
        "CAP_SYS_PTRACE for the daemon, or mount -o remount,hidepid=0 /proc",
    )


def unreadable(system: System) -> Iterator[Finding]:
    if system.unreadable == 0 or system.hidepid is not None:
        return
    yield Finding(
        "processes-unreadable",
        NOTICE,
        f"{_some(system.unreadable)} may not be read, so that what concerns them is missing here.",
        "run oomwatchctl doctor as root",
    )


def proc_connector(system: System) -> Iterator[Finding]:
    reasons = []
    if system.initial_pid_ns is False:
        reasons.append("this is not the initial PID namespace")
    if system.initial_user_ns is False:
        reasons.append("this is not the initial user namespace")
    if not system.connector:
        reasons.append(
            "/proc/net/connector has no cn_proc (a kernel without CONFIG_PROC_EVENTS, or another network namespace)"
        )
    if reasons:
        yield Finding(
            "no-proc-connector",
            WARNING,
            f"The kernel won't report processes as they start, since {' and '.join(reasons)}: only scans find them.",
            "run the daemon on the host, or lower scan_interval",
        )


def kernel_log(system: System) -> Iterator[Finding]:
    _, held = _subject(system)
    restricted = system.sysctls.dmesg_restrict == 1 and not has_cap(held, CAP_SYSLOG)
    if system.journal or (system.kmsg_readable and not restricted):
        return
    why = "kernel.dmesg_restrict is 1, without CAP_SYSLOG" if restricted else "/dev/kmsg can't be opened"
    yield Finding(
        "kernel-log-unreadable",
        WARNING,
        f"The kernel log can't be read ({why}) and there is no journal to read instead: OOM kills are counted "
        "but not explained.",
        "AmbientCapabilities=CAP_SYSLOG for the daemon, or sysctl kernel.dmesg_restrict=0",
    )


def lsm_denials(system: System) -> Iterator[Finding]:
    if system.denials:
        times = _some(len(system.denials), "time", "times")
        yield Finding(
            "lsm-denials",
            CRITICAL,
            f"A security module has refused oomwatchd something {times}, at last: "
            f"{printable(system.denials[-1].strip()[:200])}.",
            "allow it in the policy: ausearch -m AVC,APPARMOR -c oomwatchd, then audit2allow or the AppArmor profile",
        )
    if system.refused_links and system.initial_user_ns:
        seen = [p for p in system.processes if p.task.pid in system.refused_links]
        yield Finding(
            "lsm-refuses-exe",
            WARNING,
            f"The executable of {_some(len(seen))} can't be read in spite of CAP_SYS_PTRACE ({_names(seen)}): a "
            "security module refuses it, and rules with `exe` don't fit them.",
            "allow ptrace (read) for oomwatchd in the policy",
        )


CHECKS: tuple[Callable[[System], Iterator[Finding]], ...] = (
    panic_on_oom,
    oom_kill_allocating_task,
    overcommit,
    swap,
    memcg_oom_group,
    memcg_oom_disabled,
    memcg_protected,
    other_killers,
    protected_share,
    unkillable_owners,
    leaks,
    capabilities,
    hidepid,
    unreadable,
    proc_connector,
    kernel_log,
    lsm_denials,
)
