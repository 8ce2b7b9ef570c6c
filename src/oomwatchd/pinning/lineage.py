"""What pinned processes leave to descendants that no rule fits. Pure.

The kernel forgets the lineage of a process when its parent ends. So dead ancestors are kept while a descendant is."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from oomwatchd.pinning.backoff import Backoff

_numbers = count(1)


@dataclass(slots=True)
class Pin:
    """A pin in force. Not frozen, as `Process` isn't."""

    rule: str
    original: int
    """What the process had before, and gets back."""
    target: int
    child_value: int
    """What descendants that no rule fits get."""
    since: float
    """Seconds since the epoch."""
    source: str

    @property
    def inherits(self) -> bool:
        """Whether children have the right value from their fork on."""
        return self.child_value == self.target

    @property
    def lowers(self) -> bool:
        """Whether descendants may have inherited a floor below what they should have."""
        return self.target < self.original


@dataclass(frozen=True, slots=True)
class VerifiedExe:
    """The executable by which a rule pins a process."""

    path: str
    file: tuple[int, int]
    """Device and inode of the file that runs, to which the path has been found to lead."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a process that is pinned, or was a moment ago, leaves to descendants that no rule fits."""

    rule: str
    shown: frozenset[int]
    """It concerns a descendant that shows one of these; one that has set itself another value keeps it."""
    value: int
    """What such a descendant gets."""
    floor: int | None
    """The lowest value that any descendant may have inherited the right to take; None: none below its own."""


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """A process that is pinned, or a descendant of one. Dead processes are included while a descendant lives.

    It has 14 public methods, two more than usual: most of them are one question about the lineage each."""

    pid: int
    starttime: int | None
    """Clock ticks since boot. None: known from an event only, not looked at yet."""
    parent: "Node | None"
    number: int = field(init=False, default_factory=_numbers.__next__)
    """By which the kernel's filter knows it, see exec_filter.Member. A PID comes to mean another process."""
    hear: int | None = None
    """Which kinds of its events the filter was told to let through; None: not told yet."""
    started_by: int | None = None
    """When it had started, by that event. Whoever has its PID and started later is another process."""
    ppid: int = 0
    """Its parent when it was looked at last, which needn't be a node."""
    seen_ns: int = 0
    """CLOCK_MONOTONIC when it was looked at first."""
    has_children: bool = False
    """Whether a process has ever been found to descend from it."""
    pin: Pin | None = None
    former: Pin | None = None
    """The pin before the last change, for as long as a child may be found that was forked before it."""
    changed_ns: int = 0
    """CLOCK_MONOTONIC of that change."""
    dead: bool = False
    left_to: str = ""
    """The rule that says to ignore it, so that no `children` concerns it."""
    nameable: bool = False
    """Whether its executable and name leave a rule in question, which another event may make fit."""
    settled_ns: int = 0
    """CLOCK_MONOTONIC after the write by which it got its value and floor, or by which the ancestor got them from
    which it has inherited both; 0: not yet."""
    refused: tuple[str, int] | None = None
    """Rule and errno of a write that failed: not tried again before something changes."""
    backoff: Backoff = field(default_factory=Backoff)
    recorded: bool = False
    """Whether the ledger's file knows of it."""
    verified_exe: VerifiedExe | None = None
    """While it is pinned by a rule that asks for a verified executable."""
    comm: str = ""
    exe: str = ""
    uid: int | None = None
    unit: str = ""
    described: bool = False
    """Whether the last four have been read by this daemon."""

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.descend_from(self.parent)

    @property
    def rule(self) -> str:
        """The rule that fits; empty: none."""
        return self.left_to if self.pin is None else self.pin.rule

    @property
    def fitting(self) -> str:
        """The same, also where the kernel refused what the rule wants."""
        return self.rule or ("" if self.refused is None else self.refused[0])

    @property
    def affects_descendants(self) -> bool:
        """Whether the process means something for its descendants."""
        return self.pin is not None or self.left_to != "" or self.former is not None

    @property
    def settled(self) -> bool:
        """Whether it is a descendant that has got what `children` says, and nothing else."""
        return self.settled_ns > 0 and not self.affects_descendants

    def may_be(self, starttime: int) -> bool:
        """Whether the process that has its PID now, and started then, may be this one."""
        if self.starttime is not None:
            return self.starttime == starttime
        return self.started_by is None or starttime <= self.started_by

    def forgive(self) -> None:
        """Forget that a write was refused, or that somebody keeps changing the value: the next look tries again."""
        self.refused = None
        self.backoff.reset()

    def descend_from(self, parent: "Node") -> None:
        """Take note of the parent."""
        self.parent = parent
        parent.has_children = True
        parent.prune()
        self.prune()

    def prune(self) -> None:
        """Forget, of the dead just above, what can't affect anybody: those that no rule fitted, and all but the
        nearest of a rule. What stands above a living one concerns its other descendants too."""
        node = self
        kept: dict[str, Node] = {}
        while (above := node.parent) is not None and above.dead:
            if not above.affects_descendants or (above.former is None and above.rule in kept):
                if above.rule:
                    kept[above.rule].succeed(above)
                node.parent = above.parent
                continue
            kept[above.rule] = above
            node = above

    def succeed(self, other: "Node") -> None:
        """Take the place of an ancestor that the same rule pinned: they are released together, and what this one had
        before may be what the other left it."""
        mine, theirs = self.pin, other.pin
        if mine is not None and theirs is not None and mine.original in (theirs.target, theirs.child_value):
            self.pin = replace(mine, original=theirs.original)

    def ancestors(self) -> Iterator["Node"]:
        """Those that affect their descendants, nearest first."""
        above = self.parent
        while above is not None:
            if above.affects_descendants:
                yield above
            above = above.parent

    def origin(self) -> "Node | None":
        """The nearest ancestor whose rule's `children` concerns this process."""
        return next((above for above in self.ancestors() if above.pin is not None or above.former is not None), None)

    @property
    def inheritance(self) -> Inheritance | None:
        """What it leaves to its descendants."""
        pins = [each for each in (self.pin, self.former) if each is not None]
        if not pins:
            return None
        shown = {value for each in pins for value in (each.target, each.original)}
        if self.former is not None:
            shown.add(self.former.child_value)
        value = pins[0].original if self.pin is None else self.pin.child_value
        floor = min((each.target for each in pins if each.lowers), default=None)
        return Inheritance(pins[0].rule, frozenset(shown), value, floor)

    def inherited(self) -> Inheritance | None:
        """What this process has from its ancestors. The nearest of them decides; but it has inherited itself, and may
        have handed that on before it was put right."""
        every = [each for above in self.ancestors() if (each := above.inheritance) is not None]
        if not every:
            return None
        shown = every[0].shown.union(*(each.shown for each in every))
        floor = min((each.floor for each in every if each.floor is not None), default=None)
        return Inheritance(every[0].rule, shown, every[0].value, floor)

    def handing_on(self, other: "Node") -> "list[Node] | None":
        """Those between this process and its ancestor `other` that hand on what that one leaves: the dead that were
        pinned, and who was released a moment ago. The uppermost first. None if it isn't an ancestor, or if a living one
        is pinned between, which hands it on itself."""
        between: list[Node] = []
        above = self.parent
        while above is not None and above is not other:
            if above.pin is not None and not above.dead:
                return None
            if above.pin is not None or above.former is not None:
                between.append(above)
            above = above.parent
        return None if above is None else between[::-1]


def may_descend(node: Node, parent: Node) -> bool:
    """Whether nothing that is known of the two speaks against it: forks may tell of who had their PIDs before."""
    above: Node | None = parent
    while above is not None:
        younger = above.starttime is not None and node.starttime is not None and above.starttime > node.starttime
        if above is node or younger:
            return False
        above = above.parent
    return True
