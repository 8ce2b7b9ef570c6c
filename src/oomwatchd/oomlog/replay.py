"""Calculates the kernel's choice of a victim again, from the figures in a report. Pure.

`rank` is oom_badness() (`base.badness_formula`) over the rows of the task table. The columns of the table show most
differences between kernels. The kernel's release tells the others: how equal and negative points count (`ERAS` in
`base.badness_formula`), and how large root's bonus was before 3.14."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from oomwatchd.base.badness_formula import ERAS, Era, badness, era_of, root_bonus
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MIN
from oomwatchd.oomlog import line_request
from oomwatchd.oomlog.record import OomKill, Task

# Before 3.14.
_ROOT_BONUS_ADJ = 30
# What a cgroup without a limit shows.
_NO_LIMIT_KB = 1 << 50
_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,4})")


class Ranked(NamedTuple):
    """A row of the table with its points, in pages. None: it is never chosen."""

    task: Task
    points: int | None


@dataclass(frozen=True, slots=True)
class ReplayedChoice:
    """The choice by the table. `predicted`: the task that it is; None: none could be chosen. `agrees`: whether that is
    what happened."""

    predicted: Task | None
    agrees: bool


def total_pages(kill: OomKill) -> int | None:
    """`totalpages` of constrained_alloc(), of which one point of oom_score_adj is a thousandth. It is the machine's
    memory and swap; or the limit of the memory cgroup and the swap that it may use; or the memory of the allowed NUMA
    nodes and all swap. None: the report doesn't show it."""
    memory = kill.memory
    swap_kb = memory.swap_total_kb
    if kill.scope == "memcg":
        return _memcg_pages(kill)
    if kill.scope in ("cpuset", "mempolicy"):
        allowed = line_request.nodes(kill.nodes or "")
        shown = dict(memory.node_kb)
        if not allowed or not allowed <= shown.keys():
            return None
        return (sum(shown[node] for node in allowed) + (swap_kb or 0)) // kill.page_kb
    if memory.ram_kb is None:
        return None
    return (memory.ram_kb - (memory.reserved_kb or 0) + (swap_kb or 0)) // kill.page_kb


def _memcg_pages(kill: OomKill) -> int | None:
    """mem_cgroup_get_max(). How much swap the machine has isn't in a memory cgroup's report; what the group or its
    processes have there is the least that there must be."""
    memory = kill.memory
    if memory.limit_kb is None:
        return None
    if memory.memsw_limit_kb is not None:
        more_kb = max(0, memory.memsw_limit_kb - memory.limit_kb)
    else:
        more_kb = memory.swap_limit_kb or 0
    used_kb = kill.page_kb * sum(task.swapents or 0 for task in kill.tasks or ())
    known_kb = memory.swap_total_kb if memory.swap_total_kb is not None else max(used_kb, memory.swap_usage_kb or 0)
    if more_kb < _NO_LIMIT_KB and known_kb > 0:
        known_kb = max(known_kb, more_kb)
    return (memory.limit_kb + min(more_kb, known_kb)) // kill.page_kb


def rank(kill: OomKill, adj_of: Callable[[Task], int | None] | None = None) -> list[Ranked]:
    """The rows of the table in the order in which the kernel would choose them, the victim first. `adj_of` gives a
    value of oom_score_adj in place of a logged one; None: the logged one."""
    return _rank(kill, adj_of, root_bonus=_root_has_bonus(kill))


def _rank(kill: OomKill, adj_of: Callable[[Task], int | None] | None = None, *, root_bonus: bool) -> list[Ranked]:
    if not kill.tasks:
        return []
    total = total_pages(kill) or 0
    era, page_bytes = _era(kill), 1024 * kill.page_kb
    bonus = _root_bonus(kill) if root_bonus else None
    ranked = []
    for task in kill.tasks:
        pid, _, uid, _, rss, pgtables_bytes, swapents, adj, _ = task
        if adj_of is not None and (new := adj_of(task)) is not None:
            adj = new
        if adj == OOM_SCORE_ADJ_MIN or pid == 1:
            ranked.append(Ranked(task, None))
            continue
        memory, adj = rss + (swapents or 0) + (pgtables_bytes or 0) // page_bytes, adj or 0
        if bonus is not None and uid == 0:
            memory, adj = bonus(memory, adj)
        points = badness(memory, adj, total)
        ranked.append(Ranked(task, max(1, points) if era.clamps else points))
    # A sort in reverse leaves equals in their order.
    if era.last_of_equals:
        ranked.reverse()
    ranked.sort(key=_order, reverse=True)
    return ranked


def _order(one: Ranked) -> int:
    return -(1 << 62) if one.points is None else one.points


def _era(kill: OomKill) -> Era:
    """The era of the kernel. If the log doesn't name its release, the table's columns tell whether it is old."""
    if kill.kernel is not None:
        return era_of(kill.kernel)
    return ERAS[0] if "pgtables_bytes" in (kill.columns or ("pgtables_bytes",)) else ERAS[-1]


def _root_bonus(kill: OomKill) -> Callable[[int, int], tuple[int, int]] | None:
    """The bonus of root: it turns memory and oom_score_adj into those that count. 3 % of the memory from 3.14 on, 30 of
    oom_score_adj before; None since 4.17. (The table got pgtables_bytes little before that, and nr_pmds in 4.1.)"""
    columns = kill.columns or ()
    if "pgtables_bytes" in columns:
        return None
    release = _RELEASE.match(kill.kernel) if kill.kernel is not None else None
    if "nr_pmds" in columns or (release is not None and (int(release[1]), int(release[2])) >= (3, 14)):
        return lambda memory, adj: (memory - root_bonus(memory), adj)
    return lambda memory, adj: (memory, adj - _ROOT_BONUS_ADJ)


def _root_has_bonus(kill: OomKill) -> bool:
    """Whether root had its bonus. It needs CAP_SYS_ADMIN, which root in a container may lack. The score that the kernel
    logged tells, where it differs with and without the bonus."""
    chosen, total = kill.chosen, total_pages(kill)
    if chosen is None or not total or _root_bonus(kill) is None:
        return True
    errors = []
    for bonus in (True, False):
        found = next(
            (one for one in _rank(kill, root_bonus=bonus) if chosen.pid in (one.task.pid, one.task.tgid)), None
        )
        if found is None or found.points is None or found.task.uid != 0:
            return True
        errors.append(abs(found.points * 1000 // total - chosen.score))
    return errors[0] <= errors[1]


def replay(kill: OomKill, ranked: list[Ranked] | None = None) -> ReplayedChoice | None:
    """The choice by the table, and whether it agrees with what happened. `ranked`: the result of `rank`, if there is
    one.

    None where the log doesn't have what that takes: a table with its header, an outcome whose row is in the table, and,
    if they make a difference, the swap of each task and the memory that oom_score_adj is measured by."""
    if not kill.tasks or kill.columns is None or (kill.panic is not None and not kill.no_killable):
        return None
    values = {task.oom_score_adj for task in kill.tasks}
    if None in values or (total_pages(kill) is None and not values <= {0, OOM_SCORE_ADJ_MIN}):
        return None
    if kill.victim is None and not kill.no_killable:
        return None
    if kill.victim is not None and not _rows_of_chosen(kill):
        return None  # its row was cut out of the log, and perhaps others
    ranked = rank(kill) if ranked is None else ranked
    if _hangs_on_swap(kill, ranked):
        return None
    predicted = _predicted(kill, ranked)
    if kill.victim is None:
        return ReplayedChoice(predicted, predicted is None)
    return ReplayedChoice(predicted, predicted is not None and predicted.pid in _rows_of_chosen(kill))


def _predicted(kill: OomKill, ranked: list[Ranked]) -> Task | None:
    if kill.allocating_task:
        # vm.oom_kill_allocating_task: the process that asks for memory is taken.
        asked = (task for task in kill.tasks or () if kill.invoker.pid in (task.pid, task.tgid))
        return next(asked, None) or next((task for task in kill.tasks or () if task.comm == kill.invoker.comm), None)
    return ranked[0].task if ranked and ranked[0].points is not None else None


def _hangs_on_swap(kill: OomKill, ranked: list[Ranked]) -> bool:
    """Whether swap could have decided, in a table without a column for it (before 3.7). It could if the first is ahead
    of the second by less than all swap in use."""
    candidates = [one.points for one in ranked if one.points is not None]
    if "swapents" in (kill.columns or ()) or len(candidates) < 2:
        return False
    memory = kill.memory
    if memory.swap_total_kb is None or memory.swap_free_kb is None:
        return True
    return candidates[0] - candidates[1] <= (memory.swap_total_kb - memory.swap_free_kb) // kill.page_kb


def _rows_of_chosen(kill: OomKill) -> set[int]:
    """The PIDs of the rows that the kernel's line about its choice may mean. The old line may name a thread, whose
    process died."""
    assert kill.victim is not None
    tasks = kill.tasks or ()
    if kill.chosen is not None and (found := _rows(tasks, kill.chosen.pid)):
        return found
    return _rows(tasks, kill.victim.pid)


def _rows(tasks: Iterable[Task], pid: int) -> set[int]:
    return {task.pid for task in tasks if pid in (task.pid, task.tgid)}
