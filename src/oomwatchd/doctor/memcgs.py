"""Findings about memory cgroups."""

from collections.abc import Iterator

from oomwatchd.base.text import counted, printable
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MIN
from oomwatchd.doctor.finding import CRITICAL, NOTICE, WARNING, Finding, mib, names, own_memory
from oomwatchd.doctor.system import System
from oomwatchd.oom.badness import why_not_killable
from oomwatchd.oom.memcgs import is_within
from oomwatchd.oom.processes import OomProcess

# Percent of a limit. If protected processes hold more of it, there is a finding.
PROTECTED_IN_GROUP = 75


def _members(system: System, path: bytes) -> list[OomProcess]:
    return [p for p in system.processes if not p.task.kernel_thread and is_within(p.task.memcg, path)]


def memcg_oom_group(system: System) -> Iterator[Finding]:
    """Cgroups with memory.oom.group set, in which lowered processes die with others."""
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
                f"{names(lowered)} dies with it in spite of its value; only -1000 is spared.",
                "set OOMPolicy=continue in the unit, or move the protected process to a cgroup of its own",
            )
        elif len(members) > 1:
            harmless.append(path)
    if harmless:
        yield Finding(
            "memcg-oom-group-plain",
            NOTICE,
            f"memory.oom.group is set in {counted(len(harmless), 'cgroup')} ({', '.join(harmless[:3])}): all "
            "processes of such a group but those at -1000 die together, whatever their values.",
            "OOMPolicy=continue in the unit, where that is not meant",
        )


def memcg_oom_disabled(system: System) -> Iterator[Finding]:
    """Cgroups of version 1 whose OOM killer is switched off (memory.oom_control)."""
    for group in system.groups:
        if group.kill_disabled:
            yield Finding(
                "memcg-oom-kill-disabled",
                CRITICAL,
                f"The OOM killer is off in the cgroup {printable(group.memcg.path)}: at its limit its processes hang, "
                "and none is killed.",
                "write 0 to its memory.oom_control",
            )


def memcg_protected(system: System) -> Iterator[Finding]:
    """Cgroups with a limit in which too much is protected: by memory.min, or by the values of their processes."""
    for group in system.groups:
        limit = group.memcg.limit
        if limit is None:
            continue
        path = printable(group.memcg.path)
        if group.minimum > limit:
            yield Finding(
                "memcg-min-over-max",
                WARNING,
                f"memory.min of {path}, {mib(group.minimum)}, is more than its limit of {mib(limit)}: nothing in it "
                "can be reclaimed before a process is killed.",
                "set MemoryMin= below MemoryMax=",
            )
        members = [p for p in _members(system, group.memcg.path) if p.task.has_mm]
        if members and all(why_not_killable(p.task) is not None for p in members):
            yield Finding(
                "memcg-nothing-killable",
                CRITICAL,
                f"No process of the cgroup {path}, which is limited to {mib(limit)}, can be killed "
                f"({names(members)}): at the limit they hang, and the log fills.",
                "a value above -1000 for one of them, or a higher MemoryMax=",
            )
            continue
        lowered = [p for p in members if p.task.oom_score_adj < 0]
        held = sum(own_memory(p) for p in lowered)
        if limit > 0 and 100 * held >= PROTECTED_IN_GROUP * limit:
            yield Finding(
                "memcg-protected",
                WARNING,
                f"The protected processes in {path} ({names(lowered)}) hold {mib(held)} of its limit of "
                f"{mib(limit)}: killing the others frees too little.",
                "a higher MemoryMax= for the unit",
            )
