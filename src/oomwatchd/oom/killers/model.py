"""The assessment of a killer: on which conditions it acts, how far it is from acting, whom it would take. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NAMES = ("kernel", "systemd-oomd", "earlyoom", "nohang", "oomd")


@dataclass(frozen=True, slots=True)
class Meminfo:
    """The machine's memory as the killers in user space read it in /proc/meminfo. All in KiB; None: no such line."""

    total: int
    available: int | None
    anon: int | None
    swap_total: int
    swap_free: int

    @property
    def available_percent(self) -> float | None:
        """MemAvailable in percent of MemTotal."""
        return None if self.available is None or self.total == 0 else 100 * self.available / self.total

    @property
    def swap_free_percent(self) -> float:
        """SwapFree in percent of SwapTotal, 0 without swap."""
        return 100 * self.swap_free / self.swap_total if self.swap_total else 0.0


@dataclass(frozen=True, slots=True)
class Suspect:
    """A process as a killer in user space sees it."""

    pid: int
    comm: bytes
    uid: int  # effective
    ppid: int
    oom_score: int  # /proc/PID/oom_score
    oom_score_adj: int
    rss: int  # KiB
    points: int = 0  # of the kernel's own choice, before oom_score rounds them: KiB
    cgroup: bytes | None = None
    kernel_thread: bool = False


@dataclass(frozen=True, slots=True)
class Victim:
    """Whom a killer would take: a process, or all of a cgroup."""

    kind: str  # "process" or "cgroup"
    pid: int | None
    comm: bytes | None
    cgroup: bytes | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on which a killer acts."""

    kind: str  # "memory", "swap", "pressure" or "memory-cgroup"
    text: str  # the condition in words, for people
    now: float | None
    limit: float | None
    unit: str  # of `now` and `limit`: "percent" or "bytes"
    distance: int | None  # KiB that processes can grow by until it is met; 0: it is met; None: never, or not known
    victim: Victim | None
    doubts: tuple[str, ...] = ()  # why the victim isn't certain
    cgroup: bytes | None = None  # whose pressure or limit it is; None: the machine's
    follows: tuple[str, ...] = ()  # what else follows from the kill


@dataclass(frozen=True, slots=True)
class Killer:
    """A killer, with its conditions in the order in which they would be met."""

    name: str
    pid: int | None  # of a killer in user space that runs
    present: bool
    armed: bool  # whether it can act: it is present, isn't disabled or stuck, and has something to watch
    heeds: str  # oom_score_adj: "yes", "partly" or "no"
    conditions: tuple[Condition, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Condition | None:
        """The condition that would be met first."""
        return next(iter(self.conditions), None)

    @property
    def distance(self) -> int | None:
        """KiB by which processes can grow until the killer acts; None: it doesn't act, or that isn't known."""
        return self.first.distance if self.armed and self.first is not None else None


def absent(name: str) -> Killer:
    """A killer that doesn't run."""
    return Killer(name, None, present=False, armed=False, heeds=HEEDS[name])


HEEDS = {"kernel": "yes", "systemd-oomd": "no", "earlyoom": "yes", "nohang": "yes", "oomd": "no"}


def in_order(killers: Iterable[Killer]) -> list[Killer]:
    """Killers in the order in which they would act. Killers whose distance isn't known come later, and killers that
    can't act come last. Of equals, a killer in user space comes before the kernel, since it acts while the kernel still
    reclaims memory."""

    def key(killer: Killer) -> tuple[int, int, int]:
        if killer.distance is not None:
            return 0, killer.distance, killer.name == "kernel"
        state = 1 if killer.armed else 2 if killer.present else 3
        return state, 0, NAMES.index(killer.name)

    return sorted(killers, key=key)


def by_distance(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """Triggers in the order in which they would be met. Equals stay in their order."""
    return tuple(sorted(conditions, key=lambda t: (t.distance is None, t.distance or 0)))


def growth_until(memory: Meminfo, available: float, swap_free: float) -> int | None:
    """KiB by which processes can grow until at most `available` KiB of memory and `swap_free` KiB of swap are left.
    Memory is used up first, then swap. None: MemAvailable isn't known."""
    if memory.available is None:
        return None
    left = max(memory.available - available, 0) + max(memory.swap_free - swap_free, 0)
    return -int(-left // 1)
