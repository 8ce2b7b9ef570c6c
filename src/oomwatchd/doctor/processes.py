"""Findings about processes: other killers, too much protection, protection in the wrong hands."""

from collections.abc import Callable, Iterator

from oomwatchd.base.text import counted
from oomwatchd.base.uapi import CAP_SYS_RESOURCE, OOM_SCORE_ADJ_MIN
from oomwatchd.doctor.finding import CRITICAL, NOTICE, WARNING, Finding, mib, name, names, own_memory
from oomwatchd.doctor.system import System
from oomwatchd.kernel.proc_status import has_capability
from oomwatchd.oom.badness import why_not_killable
from oomwatchd.oom.processes import OomProcess

# Percent of RAM. If protected processes hold more of it, there is a finding.
PROTECTED_OF_RAM, PROTECTED_OF_RAM_CRITICAL = 50, 80

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


def other_killers(system: System) -> Iterator[Finding]:
    """Killers in user space that run beside the kernel's."""
    seen = set()
    for process in system.processes:
        comm = process.task.comm
        if comm not in OTHER_KILLERS or comm in seen or process.task.kernel_thread:
            continue
        seen.add(comm)
        message, advice = OTHER_KILLERS[comm]
        yield Finding(f"{comm.decode()}-running", WARNING, f"{message} (PID {process.task.pid}).", advice)


def protected_share(system: System) -> Iterator[Finding]:
    """Lowered processes that hold a large share of the memory."""
    users = [p for p in system.processes if p.task.has_mm and not p.task.kernel_thread]
    if not users or system.machine is None:
        return
    never = [p for p in users if why_not_killable(p.task) is not None]
    if len(never) == len(users) and system.initial_pid_ns is not False:
        yield Finding(
            "nothing-killable",
            CRITICAL,
            f"None of the {counted(len(users), 'process')} can be killed: when memory runs out, the kernel finds "
            "nothing to kill, and panics.",
            "use -1000 for a few small processes, and values above it for the rest",
        )
        return
    held = sum(own_memory(p) for p in never)
    share = 100 * held // system.machine.ram
    if share >= PROTECTED_OF_RAM:
        largest = sorted(never, key=own_memory, reverse=True)
        yield Finding(
            "protected-share",
            CRITICAL if share >= PROTECTED_OF_RAM_CRITICAL else WARNING,
            f"Processes that can't be killed hold {mib(held)}, {share} % of the machine's RAM ({names(largest)}): "
            "the kernel may kill all others, find nothing more to kill, and panic.",
            "oom_score_adj = -900 for the largest of them",
        )


def unkillable_owners(system: System) -> Iterator[Finding]:
    """Shells and containers with processes at -1000: what they start can't be killed either."""
    by_pid = {p.task.pid: p for p in system.processes}
    kinds: tuple[tuple[str, str, Callable[[OomProcess], bool]], ...] = (
        ("unkillable-shell", "shell", lambda p: p.task.comm in SHELLS),
        ("unkillable-container", "container", lambda p: p.nested),
    )
    for identity, kind, is_one in kinds:
        owned: dict[int, list[OomProcess]] = {}
        for process in system.processes:
            if process.task.oom_score_adj == OOM_SCORE_ADJ_MIN and not process.task.kernel_thread and is_one(process):
                owned.setdefault(_origin(process, by_pid).task.pid, []).append(process)
        for pid, processes in owned.items():
            owner = by_pid[pid]
            has = "is" if owner in processes else "owns"
            yield Finding(
                identity,
                WARNING,
                f"{name(owner)} at -1000 {has} a {kind} at -1000 ({names(processes)}): nothing that is started there "
                "can be killed either.",
                'children = "reset" in the rule that lowers it, or a rule for the processes themselves',
            )


def _origin(process: OomProcess, by_pid: dict[int, OomProcess]) -> OomProcess:
    """The topmost ancestor from which the value can be inherited: it and all processes between have the same value. The
    process itself, if its parent has another value."""
    seen = set[int]()
    while process.task.pid not in seen:
        seen.add(process.task.pid)
        parent = by_pid.get(process.ppid)
        if parent is None or parent.task.oom_score_adj != process.task.oom_score_adj:
            break
        process = parent
    return process


def leaks(system: System) -> Iterator[Finding]:
    """Lowered values and floors that children have inherited though they weren't meant for them."""
    by_pid = {p.task.pid: p for p in system.processes}
    values: dict[int, list[OomProcess]] = {}
    floors: dict[int, list[OomProcess]] = {}
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
            f"{counted(len(processes), 'process')} of other users inherited {owner.task.oom_score_adj} from "
            f"{name(owner)}: {names(processes)}.",
            'children = "reset" in the rule that lowers it',
        )
    for pid, processes in floors.items():
        owner = by_pid[pid]
        yield Finding(
            "leaked-floor",
            NOTICE,
            f"{names(processes)} came from {name(owner)} and may go back to {owner.task.oom_score_adj} without any "
            "privilege: only a privileged write of the value it shows would have moved its floor.",
            'a rule for the parent with children = "reset", and the daemon running',
        )


def _moved_the_floor(process: OomProcess, parent: OomProcess, system: System) -> bool:
    """Whether the higher value of `process` was probably written with CAP_SYS_RESOURCE, which also moves the floor. The
    writer may be the daemon, the parent, or the process itself (as sshd does)."""
    return (
        system.daemon is not None
        or has_capability(process.cap_eff, CAP_SYS_RESOURCE)
        or has_capability(parent.cap_eff, CAP_SYS_RESOURCE)
    )
