"""Advice about the choice of the victim: protected processes, settings that decided, and sysrq-f. Pure."""

from collections.abc import Iterator

from oomwatchd.base.uapi import OOM_SCORE_ADJ_MIN
from oomwatchd.oomlog.advice.commands import owner_name
from oomwatchd.oomlog.advice.figures import and_swap, largest_holder, with_swap_kb
from oomwatchd.oomlog.advice.model import Advice
from oomwatchd.oomlog.amounts import size
from oomwatchd.oomlog.owners import owner_of
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.sentences import named

_MUCH = 0.2
"""Share of the memory from which on a protected process is worth a word."""


def protected_alone(kill: OomKill) -> Iterator[Advice]:
    """A protected process died because it was the only one in its cgroup that could be killed."""
    victim = kill.victim
    if kill.scope != "memcg" or victim is None or victim.oom_score_adj is None or victim.oom_score_adj >= 0:
        return
    free = [task for task in kill.tasks or () if (task.oom_score_adj or 0) > OOM_SCORE_ADJ_MIN and task.pid != 1]
    if len(free) == 1 and free[0].pid == victim.pid:
        yield Advice(
            "protected-alone",
            f"{named(victim)} was protected ({victim.oom_score_adj}), but nobody else in its cgroup could be killed: "
            "at a cgroup's limit only its own processes are chosen from. Protection needs a higher limit, or -1000.",
        )


def protected_held_most(kill: OomKill) -> Iterator[Advice]:
    """A protected process held most of the memory, and another died."""
    total = with_swap_kb(kill)
    if not kill.tasks or total is None or kill.victim is None:
        return
    largest, held = largest_holder(kill, kill.tasks)
    if (largest.oom_score_adj or 0) >= 0 or held < _MUCH * total:
        return
    if kill.victim.pid in (largest.pid, largest.tgid):
        return
    never = largest.oom_score_adj == OOM_SCORE_ADJ_MIN
    yield Advice(
        "protected-process",
        f"{named(largest)} held most ({size(held)} of {size(total)}{and_swap(kill)}) and was "
        f"{'never to be chosen' if never else 'protected'} (oom_score_adj {largest.oom_score_adj}), so others died. "
        f"Bound it (MemoryMax= of its unit), or protect it less: "
        f"oomwatchctl explain {largest.pid} names the rule, OOMScoreAdjust= is its unit's.",
    )


def nobody_killed(kill: OomKill) -> Iterator[Advice]:
    """The kernel panicked as vm.panic_on_oom wants, or every process was at -1000."""
    if kill.panic is not None and "panic_on_oom" in kill.panic:
        yield Advice(
            "panic-on-oom",
            "The kernel panicked because vm.panic_on_oom is set: with 0 it kills a process.",
        )
        return
    protected = kill.tasks and all(task.oom_score_adj == OOM_SCORE_ADJ_MIN or task.pid == 1 for task in kill.tasks)
    if kill.no_killable and protected:
        in_cgroup = kill.scope == "memcg" and kill.memcg is not None
        where = owner_name(owner_of(kill.memcg or "")) if in_cgroup else "the machine"
        yield Advice(
            "nobody-killable",
            f"All processes of {where} are at -1000, so none could be killed. Have at least one above -1000: "
            "OOMScoreAdjust= of the unit, or the rule that oomwatchctl explain PID names.",
        )


def settings(kill: OomKill) -> Iterator[Advice]:
    """A setting or a key decided who died: vm.oom_kill_allocating_task, memory.oom.group, sysrq-f."""
    if kill.allocating_task:
        yield Advice(
            "allocating-task",
            "vm.oom_kill_allocating_task is set, so the process that asks dies: with sysctl "
            "vm.oom_kill_allocating_task=0 the kernel takes the largest.",
        )
    if kill.group is not None:
        owner = owner_of(kill.group)
        if "kubepods" in kill.group:
            how = "singleProcessOOMKill: true in the kubelet's configuration has one killed"
        elif owner.kind in ("unit", "user unit"):
            how = "OOMPolicy=continue (or stop) of the unit has one killed"
        else:
            how = "0 in its memory.oom.group has one killed"
        yield Advice("oom-group", f"memory.oom.group of {owner_name(owner)} had all its processes killed: {how}.")
    if kill.scope == "sysrq":
        yield Advice(
            "sysrq",
            "Somebody asked for this kill (sysrq-f, or f written to /proc/sysrq-trigger): memory need not have been "
            "short. sysctl kernel.sysrq decides who may.",
        )
