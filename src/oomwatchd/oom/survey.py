"""All processes that the kernel would choose from when memory runs out: read at one time, and ranked as the kernel
would rank them."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from oomwatchd.base.badness_formula import Era, era_of
from oomwatchd.base.text import printable
from oomwatchd.oom import badness
from oomwatchd.oom.badness import Candidate, Machine, Memcg, Task
from oomwatchd.oom.machine import read_machine
from oomwatchd.oom.memcgs import MemcgHierarchy, ancestry, find_hierarchy, group_path, is_within, read_memcg
from oomwatchd.oom.processes import OomProcess, read_processes


@dataclass(frozen=True, slots=True)
class Survey:
    """The processes that the kernel would choose from, and the memory that would run out. Plain data."""

    asked: bytes | None  # the cgroup that was asked for
    machine: Machine
    memcg: Memcg | None  # the group that runs out of memory; None: the machine does
    processes: tuple[OomProcess, ...]  # all of the machine
    competing: tuple[Task, ...]  # those among whom the kernel chooses
    rooms: Mapping[int, int | None]  # by PID: pages it can still grow by
    refused: int  # processes that may not be read
    era: Era
    values: Mapping[int, int] = field(default_factory=dict)  # other oom_score_adj than they have, by PID

    @property
    def total(self) -> int:
        """`totalpages`."""
        return self.machine.total if self.memcg is None else self.memcg.total(self.machine)

    @property
    def room(self) -> int | None:
        """Pages that are left until memory runs out."""
        return self.machine.room if self.memcg is None else self.memcg.room(self.machine)

    def under(self, values: Mapping[int, int]) -> "Survey":
        """This survey with other values of oom_score_adj; `values` has them by PID."""
        changed = (replace(t, oom_score_adj=values.get(t.pid, t.oom_score_adj)) for t in self.competing)
        return replace(self, competing=tuple(changed), values={**self.values, **values})

    def ranked(self) -> list[Candidate]:
        """The processes of the group that was asked for, in the kernel's order."""
        return self._rank([task for task in self.competing if self._asked_for(task)])

    def outsider(self) -> Task | None:
        """The process that would die before all processes of the group that was asked for, and isn't one of them; None:
        there is none."""
        first = next(iter(self._rank(self.competing)), None)
        if first is None or first.why_not is not None or self._asked_for(first.task):
            return None
        return first.task

    def _rank(self, tasks: Iterable[Task]) -> list[Candidate]:
        return badness.rank(tasks, self.total, lambda task: self.rooms[task.pid], self.era)

    def _asked_for(self, task: Task) -> bool:
        return self.asked is None or is_within(task.memcg, self.asked)


def take_survey(
    asked: bytes | None = None,
    proc: str = "/proc",
    cgroup: str = "/sys/fs/cgroup",
    era: Era | None = None,
) -> Survey:
    """Read all processes below `proc`. The kernel chooses among all of them; or, where `asked` is a memory cgroup,
    among those in the group that runs out of memory first: `asked` itself or an ancestor. `era` is that of the running
    kernel by default. Raises OSError with a sentence for the user."""
    machine = read_machine(proc)
    hierarchy = find_hierarchy(cgroup)
    group = None if asked is None else _find_group(hierarchy, asked)
    processes, refused = read_processes(proc, hierarchy.version if hierarchy else None)
    known: dict[bytes, Memcg | None] = {}

    def chain(path: bytes | None) -> list[Memcg]:
        """The group `path` and its ancestors, as far as they are memory cgroups."""
        if hierarchy is None or path is None:
            return []
        for each in ancestry(path):
            if each not in known:
                known[each] = read_memcg(hierarchy, each, machine)
        return [found for each in ancestry(path) if (found := known[each]) is not None]

    memcg = badness.tightest(chain(group), machine)
    if memcg is not None and _least([memcg.room(machine), machine.room]) != memcg.room(machine):
        memcg = None  # the machine is out of memory before the group reaches its limit
    tasks = tuple(p.task for p in processes if memcg is None or is_within(p.task.memcg, memcg.path))
    return Survey(
        asked=group,
        machine=machine,
        memcg=memcg,
        processes=tuple(processes),
        competing=tasks,
        rooms={t.pid: _least([machine.room, *(each.room(machine) for each in chain(t.memcg))]) for t in tasks},
        refused=refused,
        era=era_of(os.uname().release) if era is None else era,
    )


def _find_group(hierarchy: MemcgHierarchy | None, asked: bytes) -> bytes:
    if hierarchy is None:
        raise FileNotFoundError("there are no memory cgroups in '/sys/fs/cgroup'; leave out --cgroup")
    group = group_path(hierarchy, asked)
    if group is None:
        raise FileNotFoundError(
            f"there is no memory cgroup '{printable(asked)}' in '{printable(hierarchy.root)}'; "
            "give a path as in /proc/PID/cgroup, or a directory of the cgroup file system"
        )
    return group


def _least(amounts: list[int | None]) -> int | None:
    return min((amount for amount in amounts if amount is not None), default=None)
