"""The kernel's OOM killer: when it acts for the machine and for memory cgroups near their limits, and whom it would
take. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from oomwatchd.base.badness_formula import Era
from oomwatchd.base.text import printable
from oomwatchd.oom import badness
from oomwatchd.oom.badness import Candidate, Machine, Memcg, Task
from oomwatchd.oom.killers.model import Condition, Killer, Victim, by_distance
from oomwatchd.oom.memcgs import is_within
from oomwatchd.oom.small_files import PAGE

_NEAR_PERCENT = 10
"""A cgroup is near its limit if less than this share of the limit is left."""
_KIB = 1024


@dataclass(frozen=True, slots=True)
class OomSysctls:
    """vm.panic_on_oom and vm.oom_kill_allocating_task; None: it can't be read."""

    panic_on_oom: int | None = None
    oom_kill_allocating_task: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """All facts that the kernel's choice depends on."""

    machine: Machine
    tasks: tuple[Task, ...]
    limited: tuple[Memcg, ...]  # memory cgroups with a limit
    era: Era
    sysctls: OomSysctls = OomSysctls()
    tie_pages: int = 96  # RSS that is closer than this is a tie: per-CPU counters


def assess(scene: Scene) -> Killer:
    """The kernel as a killer. It is always present. With vm.panic_on_oom it panics when the machine is out of memory,
    and kills nobody."""
    panic = scene.sysctls.panic_on_oom or 0
    notes = []
    conditions = []
    if panic == 0:
        conditions.append(_of_machine(scene))
    else:
        notes.append(f"vm.panic_on_oom is {panic}: when the machine runs out of memory the kernel panics.")
    if panic < 2:
        conditions += [_of_group(scene, group) for group in near_their_limits(scene)]
    return Killer("kernel", None, True, bool(conditions), "yes", by_distance(conditions), tuple(notes))


def near_their_limits(scene: Scene) -> list[Memcg]:
    """The groups that have processes, are near their limits, and would run out of memory before the machine does."""
    machine = scene.machine.room
    near = []
    for group in scene.limited:
        room = group.room(scene.machine)
        if room is None or (machine is not None and room >= machine):
            continue
        inhabited = any(task.has_mm and is_within(task.memcg, group.path) for task in scene.tasks)
        if inhabited and 100 * room <= _NEAR_PERCENT * group.total(scene.machine):
            near.append(group)
    return near


def _of_machine(scene: Scene) -> Condition:
    machine, room = scene.machine, scene.machine.room
    ranked = badness.rank(scene.tasks, machine.total, lambda _: None, scene.era)
    victim, doubts = _choice(ranked, scene, allocating=bool(scene.sysctls.oom_kill_allocating_task))
    return Condition(
        kind="memory",
        text="no memory and no swap left",
        now=None if room is None else max(machine.total - room, 0) * PAGE,
        limit=machine.total * PAGE,
        unit="bytes",
        distance=None if room is None else room * PAGE // _KIB,
        victim=victim,
        doubts=doubts,
    )


def _of_group(scene: Scene, group: Memcg) -> Condition:
    total = group.total(scene.machine)
    room = group.room(scene.machine) or 0
    members = [task for task in scene.tasks if is_within(task.memcg, group.path)]
    ranked = badness.rank(members, total, lambda _: None, scene.era)
    victim, doubts = _choice(ranked, scene)
    return Condition(
        kind="memory-cgroup",
        text="its memory cgroup at its limit, if anything in it grows",
        now=max(total - room, 0) * PAGE,
        limit=total * PAGE,
        unit="bytes",
        distance=room * PAGE // _KIB,
        victim=victim,
        doubts=doubts,
        cgroup=group.path,
    )


def _choice(
    ranked: Sequence[Candidate], scene: Scene, *, allocating: bool = False
) -> tuple[Victim | None, tuple[str, ...]]:
    killable = [candidate for candidate in ranked if candidate.why_not is None]
    if allocating:
        return None, ("vm.oom_kill_allocating_task is set: the process that asks for memory then dies.",)
    if not killable:
        return None, ("Nobody can be killed there.",)
    first = killable[0]
    doubts: tuple[str, ...] = ()
    if len(killable) > 1 and first.points - killable[1].points <= scene.tie_pages:
        other = killable[1].task
        doubts = (f"{printable(other.comm)} ({other.pid}) is as high, but for some pages: either may be the one.",)
    return Victim("process", first.task.pid, first.task.comm, first.task.memcg), doubts
