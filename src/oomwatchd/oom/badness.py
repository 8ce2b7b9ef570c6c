"""The kernel's choice of a victim when memory runs out, as pure functions over facts of processes.

All amounts are pages. Source: mm/oom_kill.c (oom_badness, oom_evaluate_task) and mm/memcontrol.c (mem_cgroup_get_max)
of Linux 6.18. How older kernels differ is in `base.badness_formula`.

The kernel knows more than /proc shows: a vfork child before its exec, an address space that the reaper has already
emptied, a task in swapoff (which is taken first of all), the nodes of a cpuset or memory policy."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from oomwatchd.base import badness_formula as formula
from oomwatchd.base.badness_formula import ERAS, Era
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MIN


@dataclass(frozen=True, slots=True)
class Task:
    """The facts of one process (thread group) that the kernel's choice depends on."""

    pid: int
    comm: bytes
    uid: int  # effective
    oom_score_adj: int
    rss: int  # anonymous, file and shared memory pages (get_mm_rss)
    swap: int  # MM_SWAPENTS
    pgtables: int  # mm_pgtables_bytes / PAGE_SIZE
    starttime: int = 0  # clock ticks since boot; stands for the order of the kernel's list of processes
    has_mm: bool = True  # whether any of its threads still has an address space
    kernel_thread: bool = False  # PF_KTHREAD
    global_init: bool = False  # PID 1 of the initial PID namespace
    sys_admin: bool = False  # CAP_SYS_ADMIN is effective
    memcg: bytes | None = None  # path of its memory cgroup; None: not known

    @property
    def memory(self) -> int:
        """The part of the points that is memory: resident, swapped out, page tables."""
        return self.rss + self.swap + self.pgtables


@dataclass(frozen=True, slots=True)
class Candidate:
    """One process in the kernel's order."""

    task: Task
    points: int  # by the formula, also for processes that can't be chosen, for which the kernel doesn't calculate it
    why_not: str | None  # why it can never be chosen; None: it can be
    grow: int | None  # pages it must grow to become the victim; None: never, within what is left


def points(task: Task, total: int, era: Era = ERAS[0]) -> int:
    """oom_badness() of `task` before any clamping, in pages. `total`: `totalpages` of the kernel, the memory that runs
    out. The kernel divides `total` by 1000 first, so that below 1000 pages oom_score_adj counts for nothing."""
    bonus = formula.root_bonus(task.memory) if era.root_bonus and task.sys_admin else 0
    return formula.badness(task.memory - bonus, task.oom_score_adj, total)


def oom_score(task: Task, total: int, era: Era = ERAS[0]) -> int:
    """What /proc/PID/oom_score shows for `task` on a machine with `total` pages of RAM and swap (proc_oom_score in
    fs/proc/base.c). It is 0 to 2000; a process without memory at oom_score_adj 0 has two thirds of 1000. Before Linux
    5.9 it is the points in permille of `total`."""
    if why_not_killable(task) is not None or total <= 0:
        return 0
    badness = points(task, total, era)
    if era.clamps:
        return max(badness, 1) * 1000 // total
    permille = abs(badness) * 1000 // total
    return max((1000 + (permille if badness >= 0 else -permille)) * 2 // 3, 0)


def why_not_killable(task: Task) -> str | None:
    """Why the kernel never chooses `task`; None: it can be chosen."""
    if task.global_init:
        return "PID 1 of the initial PID namespace"
    if task.kernel_thread:
        return "kernel thread"
    if not task.has_mm:
        return "no memory in any of its threads"
    if task.oom_score_adj == OOM_SCORE_ADJ_MIN:
        return "oom_score_adj is -1000"
    return None


def rank(
    tasks: Iterable[Task],
    total: int,
    room: Callable[[Task], int | None],
    era: Era = ERAS[0],
) -> list[Candidate]:
    """All of `tasks` in the order in which the kernel would choose them. Those that it never chooses come last.

    `room(task)` is the number of pages by which that process can still grow before memory runs out (None: without
    bound). A process that grows becomes the victim when its points exceed those of the first one; equal points are
    enough if the kernel prefers it by the order of scanning. When a process has used up its `room`, memory runs out. If
    it must grow by more than that, the first one dies."""

    def key(task: Task) -> tuple[int, int, int]:
        score = points(task, total, era)
        scanned = 1 if era.last_of_equals else -1
        return (max(score, 1) if era.clamps else score, scanned * task.starttime, scanned * task.pid)

    everyone = list(tasks)
    killable = sorted((t for t in everyone if why_not_killable(t) is None), key=key, reverse=True)
    never = sorted((t for t in everyone if why_not_killable(t) is not None), key=lambda task: task.pid)
    ranked = []
    for task in killable:
        need = _growth_needed(task, killable[0], key, points(task, total, era))
        left = room(task)
        grow = need if need == 0 or left is None or need <= left else None
        ranked.append(Candidate(task, points(task, total, era), None, grow))
    ranked += [Candidate(t, points(t, total, era), why_not_killable(t), None) for t in never]
    return ranked


def _growth_needed(task: Task, first: Task, key: Callable[[Task], tuple[int, int, int]], raw: int) -> int:
    if task is first:
        return 0
    wins_a_tie = key(task)[1:] > key(first)[1:]
    return key(first)[0] - raw + (0 if wins_a_tie else 1)


# --- How much memory can run out, and how much of it is left --------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """The whole machine. `available` and `swap_free` are estimates that the kernel itself makes."""

    ram: int  # totalram_pages()
    swap_total: int  # total_swap_pages
    available: int | None  # MemAvailable
    swap_free: int
    swappiness: int = 60

    @property
    def total(self) -> int:
        """`totalpages` when the machine is out of memory (constrained_alloc in mm/oom_kill.c)."""
        return self.ram + self.swap_total

    @property
    def room(self) -> int | None:
        """Pages by which processes can still grow before the machine is out of memory; None: not known."""
        return None if self.available is None else self.available + self.swap_free


@dataclass(frozen=True, slots=True)
class Memcg:
    """A memory cgroup of either version. None as a limit: there is none."""

    path: bytes
    version: int  # 1 or 2
    limit: int | None  # memory.limit_in_bytes; memory.max
    usage: int  # memory.usage_in_bytes; memory.current
    reclaimable: int = 0  # page cache and reclaimable slab within `usage`
    swap_limit: int | None = None  # v1: memory.memsw.limit_in_bytes (memory and swap); v2: memory.swap.max
    swap_usage: int = 0  # v1: memory.memsw.usage_in_bytes (memory and swap); v2: memory.swap.current
    swappiness: int = 60  # v1: memory.swappiness; v2: vm.swappiness

    def total(self, machine: Machine) -> int:
        """`totalpages` when this group is out of memory: mem_cgroup_get_max(). ValueError without a limit."""
        if self.limit is None:
            raise ValueError("a group without a limit is never out of memory by itself")
        if self.swappiness == 0:
            return self.limit
        extra = machine.swap_total
        if self.swap_limit is not None:
            beyond = self.swap_limit - self.limit if self.version == 1 else self.swap_limit
            extra = min(beyond, extra)
        return self.limit + max(extra, 0)

    def room(self, machine: Machine) -> int | None:
        """Pages by which its processes can still grow before this group is out of memory; None: the group has no limit.
        It is calculated from the group's usage. The sum of RSS would count shared pages twice, and miss page cache,
        tmpfs and kernel memory."""
        if self.limit is None:
            return None
        memory = self.limit - self.usage + self.reclaimable
        if self.swappiness == 0 or machine.swap_total == 0:
            return max(memory, 0)
        if self.swap_limit is None:
            return max(memory + machine.swap_free, 0)
        if self.version == 1:
            both = self.swap_limit - self.swap_usage + self.reclaimable
            return max(min(memory + machine.swap_free, both), 0)
        return max(memory + min(machine.swap_free, self.swap_limit - self.swap_usage), 0)


def tightest(groups: Sequence[Memcg], machine: Machine) -> Memcg | None:
    """The group that runs out of memory first when a process grows. `groups`: the group of the process and its
    ancestors, the nearest first. It is the group with the least room; of equal ones, the nearest. None: only the
    machine itself can run out."""
    limited = [(room, group) for group in groups if (room := group.room(machine)) is not None]
    if not limited:
        return None
    return min(limited, key=lambda pair: pair[0])[1]
