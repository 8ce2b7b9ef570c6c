"""The lineage of processes, and what pinned processes leave to descendants that no rule fits. Pure.

The kernel forgets who descends from a process when the process ends. So the node of a dead process is kept while a
descendant lives."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from oomwatchd.pinning.backoff import Backoff

_numbers = count(1)


@dataclass(slots=True)
class Pin:
    """A pin in force. It isn't frozen, because a frozen one takes four times as long to make."""

    rule: str
    original: int
    """The value that the process had before, and gets back."""
    target: int
    child_value: int
    """The value for descendants that no rule fits."""
    since: float
    """Seconds since the epoch."""
    source: str
    """Why the process was looked at when the pin began: as in Trigger."""

    @property
    def inherits(self) -> bool:
        """Whether descendants keep the value of the pin, so that they have the right value from their fork on."""
        return self.child_value == self.target

    @property
    def lowers(self) -> bool:
        """Whether the pin is below the original value, so that descendants may have inherited a floor below their
        value."""
        return self.target < self.original


@dataclass(frozen=True, slots=True)
class VerifiedExe:
    """The executable by which a rule pins a process."""

    path: str
    file: tuple[int, int]
    """Device and inode of the file that runs. The path led to this file when it was verified."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a process that is pinned, or was a moment ago, leaves to descendants that no rule fits."""

    rule: str
    shown: frozenset[int]
    """The values that come from the pin. A descendant that has another one has set it itself, and keeps it."""
    value: int
    """The value for a descendant that has one of `shown`."""
    floor: int | None
    """The lowest floor that a descendant may have inherited; None: no pin has lowered the floor."""


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """What the ledger knows of a process that is pinned, or that descends from a pinned one. The node of a dead process
    is kept while a descendant lives.

    It has more public methods than usual, because most of them answer one question about the lineage."""

    pid: int
    starttime: int | None
    """Clock ticks since boot. None: only an event has shown the process, and it wasn't looked at yet."""
    parent: "Node | None"
    number: int = field(init=False, default_factory=_numbers.__next__)
    """The number of the node in the filter's table, see exec_filter.Member. It isn't the PID, which may come to mean
    another process."""
    hear: int | None = None
    """Which kinds of events of the process the filter lets through, as bits (PROC_EVENT_*); None: that isn't set
    yet."""
    started_by: int | None = None
    """Without `starttime`: a time at which the process had started, in clock ticks since boot. A process with its PID
    that started later is another one."""
    ppid: int = 0
    """PID of the parent when the process was last looked at. The parent needn't be in the ledger."""
    seen_ns: int = 0
    """When the process was first looked at, CLOCK_MONOTONIC."""
    has_children: bool = False
    """Whether a descendant of the process was ever known."""
    pin: Pin | None = None
    former: Pin | None = None
    """The pin before the last change. It is kept for as long as a child may be found that was forked before the
    change, and the ledger's file has it until then: see Descendants.unfinished()."""
    changed_ns: int = 0
    """When the pin last changed or ended, CLOCK_MONOTONIC."""
    descending: bool = False
    """Whether its descendants are being looked at after that change, see Descendants.descend()."""
    missed_look: bool = False
    """Whether a look at the process was left out meanwhile."""
    dead: bool = False
    left_to: str = ""
    """The rule that says `ignore = true` for the process, so that no `children` concerns it; empty: none."""
    nameable: bool = False
    """Whether a rule may still fit the process, by its executable and name, after another event."""
    settled_ns: int = 0
    """For a descendant: CLOCK_MONOTONIC after the write that gave it its value and floor, or that gave them to the
    parent from which it has inherited both. 0: there was no such write yet."""
    memory_of: "Node | None" = None
    """The pinned ancestor or child whose memory the process shares without being a thread of it, so that the kernel
    gives both the same value; None: it isn't known to."""
    refused: tuple[str, int] | None = None
    """Rule and errno of a write that the kernel refused. By this rule it isn't tried again before the rules change."""
    backoff: Backoff = field(default_factory=Backoff)
    recorded: bool = False
    """Whether the ledger's file has the node as it is now."""
    verified_exe: VerifiedExe | None = None
    """Set while the process is pinned by a rule that asks for a verified executable."""
    comm: str = ""
    exe: str = ""
    uid: int | None = None
    unit: str = ""
    described: bool = False
    """Whether `comm`, `exe`, `uid` and `unit` have been read since this daemon started."""

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.descend_from(self.parent)

    @property
    def rule(self) -> str:
        """The rule that pins or ignores the process; empty: none."""
        return self.left_to if self.pin is None else self.pin.rule

    @property
    def fitting(self) -> str:
        """The rule that fits the process, also if the kernel refused its value; empty: none."""
        return self.rule or ("" if self.refused is None else self.refused[0])

    @property
    def affects_descendants(self) -> bool:
        """Whether `children` or `descendant_of` may concern descendants because of this process."""
        return self.pin is not None or self.left_to != "" or self.former is not None

    @property
    def settled(self) -> bool:
        """Whether the process is a descendant that has got what `children` says, and no rule fits it."""
        return self.settled_ns > 0 and not self.affects_descendants

    @property
    def awaits_descent(self) -> bool:
        """Whether descendants of an ancestor are being looked at, so that those who are settled may not be for long."""
        return any(above.descending for above in self.ancestors())

    def may_be(self, starttime: int) -> bool:
        """Whether a process that has this PID, and started at `starttime` (clock ticks since boot), may be this one."""
        if self.starttime is not None:
            return self.starttime == starttime
        return self.started_by is None or starttime <= self.started_by

    def forgive(self) -> None:
        """Have the next look write the value again, though a write was refused or the value was left alone for a
        while."""
        self.refused = None
        self.backoff.reset()

    def descend_from(self, parent: "Node") -> None:
        """Note that the process descends from `parent`."""
        self.parent = parent
        parent.has_children = True
        parent.prune()
        self.prune()

    def change_pin(self, pin: Pin | None) -> None:
        """Begin, change or end the pin. What it was becomes `former`. If there was none, but there are descendants,
        that is a pin that has left the value as it was."""
        if self.pin is not None:
            self.former = self.pin
        elif pin is not None and self.former is None and self.has_children:
            self.former = replace(pin, target=pin.original, child_value=pin.original)
        self.pin = pin

    def prune(self) -> None:
        """Remove dead ancestors, up to the nearest living one, that don't matter any more: those that no rule fitted,
        and, of several that one rule fitted, all but the nearest. Ancestors above a living one stay, because they
        matter for its other descendants."""
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
        """Take the place of the ancestor `other`, which the same rule pinned, when that is removed. If the original
        value of this process came from the pin of the ancestor, the ancestor's original value takes its place."""
        mine, theirs = self.pin, other.pin
        if mine is not None and theirs is not None and mine.original in (theirs.target, theirs.child_value):
            self.pin = replace(mine, original=theirs.original)

    def ancestors(self) -> Iterator["Node"]:
        """The ancestors that affect their descendants, nearest first."""
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
        """What the process leaves to its descendants; None: it was never pinned, or not for a while."""
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
        """What the process has inherited from its ancestors; None: nothing. The nearest one decides on the value.
        Values and floors of the others count, too, because the nearest one may have passed them on before it was
        pinned."""
        if self.parent is None:  # as of most processes, and each write waits for this
            return None
        # A user can put thousands of pinned processes above one. Nearly all of them have the same values then.
        by_values: dict[tuple[object, object], Inheritance] = {}
        for above in self.ancestors():
            values = _values(above.pin), _values(above.former)
            if values not in by_values and (each := above.inheritance) is not None:
                by_values[values] = each
        if not by_values:
            return None
        every = list(by_values.values())
        shown = every[0].shown.union(*(each.shown for each in every))
        floor = min((each.floor for each in every if each.floor is not None), default=None)
        return Inheritance(every[0].rule, shown, every[0].value, floor)

    def handing_on(self, other: "Node") -> "list[Node] | None":
        """The processes between this one and its ancestor `other` whose pins depend on that of `other`: dead ones that
        were pinned, and ones that were released a moment ago. The nearest to `other` comes first. None: `other` isn't
        an ancestor, or a living process between is pinned, so that only its pin matters here."""
        between: list[Node] = []
        above = self.parent
        while above is not None and above is not other:
            if above.pin is not None and not above.dead:
                return None
            if above.pin is not None or above.former is not None:
                between.append(above)
            above = above.parent
        return None if above is None else between[::-1]


def _values(pin: Pin | None) -> tuple[int, int, int] | None:
    return None if pin is None else (pin.target, pin.original, pin.child_value)


def may_descend(node: Node, parent: Node) -> bool:
    """Whether `node` may descend from `parent`: no process above it is younger than it or is `node` itself. A fork
    event may be about earlier processes with the same PIDs."""
    above: Node | None = parent
    while above is not None:
        younger = above.starttime is not None and node.starttime is not None and above.starttime > node.starttime
        if above is node or younger:
            return False
        above = above.parent
    return True
