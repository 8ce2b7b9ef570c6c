"""Which descendants have to be looked at after a change of a pin, and how those are entered that only the table has."""

import shutil
from collections.abc import Callable

import pytest

from oomwatchd.kernel.exec_filter import ALL_KINDS, Member
from oomwatchd.kernel.facts import View
from oomwatchd.pinning.descendants import Descendants
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.rules.model import Action, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

ORIGIN, PID, CHILD, LATER, OTHER = 10, 20, 30, 40, 90


def pin(rule: str = "r", original: int = 0, target: int = 500) -> Pin:
    return Pin(rule, original, target, target, 0.0, "exec")


class Parts:
    """A pinned process, its child, another process that is pinned, and what finds descendants."""

    def __init__(self, tree: Tree, rules: tuple[Rule, ...] = ()) -> None:
        self.tree, self.ledger, self.rules = tree, Ledger(None, ""), RuleSet(rules)
        self.tracking = Tracking(self.ledger, self.rules)
        self.family = Family(self.ledger, self.rules, View(tree.proc), self.tracking)
        self.descendants = Descendants(self.ledger, self.rules, self.family, self.tracking, tree.proc)
        self.origin = self.node(ORIGIN)
        self.origin.pin = pin()
        self.child = self.node(PID, self.origin)
        self.other = self.node(OTHER)
        self.other.pin = pin()
        for node in (self.origin, self.child):
            self.tracking.hear(node, ALL_KINDS)

    def node(self, pid: int, parent: Node | None = None) -> Node:
        """A process in the ledger that also runs."""
        node = Node(pid, pid * 10, parent)
        self.ledger.add(node)
        self.tree.process(pid, ppid=1 if parent is None else parent.pid)
        return node

    def in_table(self, pid: int, *, hear: int = ALL_KINDS, origin: int | None = None) -> None:
        """A process that only the table has."""
        self.tree.process(pid)
        self.tracking.table.set(pid, Member(0, self.origin.number if origin is None else origin, hear))

    def descend(self, at: Callable[[int | None], None] = lambda _: None) -> list[int]:
        """The PIDs that descend() yields. `at` is called at each step."""
        found = list[int]()
        for pid in self.descendants.descend(self.origin):
            at(pid)
            found += [] if pid is None else [pid]
        return found


@pytest.fixture
def parts(tree: Tree) -> Parts:
    return Parts(tree)


# After a change of a pin


def test_only_the_descendants_of_the_origin_are_found_and_each_once(parts: Parts) -> None:
    parts.node(CHILD, parts.child)
    assert parts.descend() == [PID, CHILD]
    assert parts.origin.descending is False


def test_one_without_descendants_is_not_held_up(parts: Parts) -> None:
    assert list(parts.descendants.descend(parts.other)) == []
    assert parts.other.descending is False


def test_those_who_come_or_die_meanwhile(parts: Parts) -> None:
    dies = parts.node(CHILD, parts.child)
    paused = list[int]()

    def at(pid: int | None) -> None:
        if pid is None and not paused:
            paused.append(1)
            parts.node(LATER, parts.child)
            parts.node(OTHER + 1)
            parts.family.died(dies)

    assert parts.descend(at) == [PID, LATER]


def test_those_whom_only_the_table_has_and_what_they_fork_meanwhile(parts: Parts) -> None:
    parts.in_table(CHILD)
    parts.tracking.table.set(CHILD + 1, Member(0, parts.origin.number))  # has ended
    forked = list[int]()

    def at(pid: int | None) -> None:
        if pid == CHILD and not forked:
            forked.append(LATER)
            parts.in_table(LATER)
            parts.tracking.table.set(LATER + 1, Member(0, parts.origin.number))

    found = parts.descend(at)

    assert set(found) == {PID, CHILD, LATER}
    assert parts.ledger.nodes[LATER].parent is parts.origin


def test_a_look_that_was_left_out_is_made_up_for_once(parts: Parts) -> None:
    parts.origin.missed_look = True
    assert parts.descend() == [PID, ORIGIN]
    assert parts.descend() == [PID]


def test_after_a_restart_all_whose_pin_had_just_changed_are_gone_on_with(parts: Parts) -> None:
    parts.node(OTHER + 1, parts.other)
    for node in (parts.origin, parts.other):
        node.former = pin(target=300)

    unfinished = parts.descendants.unfinished()

    assert [[pid for pid in each if pid is not None] for each in unfinished] == [[PID], [OTHER + 1]]


# Pins of the dead after a change of rules


@pytest.mark.parametrize("ending", [False, True])
def test_pins_of_dead_processes_go_with_their_rules_and_runtime_pins_stay_until_the_end(
    tree: Tree, ending: bool
) -> None:
    parts = Parts(tree, (Rule("r", (), Action(700, 700)), Rule("off", (), Action(5, 5), enabled=False)))
    dead = []
    for pid, rule in ((50, "pin 50"), (52, "off"), (54, "gone"), (56, "r")):
        above = parts.node(pid)
        above.pin = pin(rule)
        parts.node(pid + 1, above)
        parts.family.died(above)
        dead.append(above)

    found = parts.descendants.dead_to_refresh(ending=ending)

    targets = [None if node.pin is None else node.pin.target for node in dead]
    assert (found, targets) == (dead[0 if ending else 1 :], [None if ending else 500, None, None, 700])
    assert parts.descendants.dead_to_refresh(ending=ending) == []


def test_one_whose_descendants_are_looked_at_is_refreshed_by_the_next_scan(parts: Parts) -> None:
    dead = [parts.node(50), parts.node(60)]
    for node in dead:
        node.pin = pin("gone")
        parts.node(node.pid + 1, node)
        parts.family.died(node)
    dead[0].descending = True
    assert parts.descendants.dead_to_refresh(ending=False) == [dead[1]]

    dead[0].descending = False
    assert parts.descendants.dead_to_refresh(ending=False) == [dead[0]]


# Those whom only the table has


def test_who_is_entered_and_who_has_to_be_looked_at(parts: Parts) -> None:
    parts.in_table(CHILD, hear=0)  # settled, so that its value was right from its fork on
    parts.in_table(LATER)
    parts.in_table(OTHER + 1, origin=0)  # it descends from nobody
    parts.tracking.table.set(CHILD + 1, Member(0, parts.origin.number))  # has ended

    assert parts.descendants.adopt_untold() == [LATER]

    nodes = parts.ledger.nodes
    assert sorted(nodes) == [ORIGIN, PID, CHILD, LATER, OTHER]
    assert (nodes[CHILD].settled, nodes[CHILD].recorded, nodes[CHILD].hear) == (True, True, 0)
    assert (nodes[LATER].settled, nodes[LATER].hear) == (False, ALL_KINDS)


def test_while_descendants_are_looked_at_nobody_counts_as_settled(parts: Parts) -> None:
    parts.in_table(CHILD, hear=0)
    parts.origin.descending = True
    assert parts.descendants.adopt_untold() == [CHILD]


def test_all_are_identified_before_they_are_saved(parts: Parts) -> None:
    for pid in (CHILD, LATER):
        parts.node(pid, parts.origin).starttime = None
    shutil.rmtree(parts.tree.root / f"proc/{LATER}")
    shutil.rmtree(parts.tree.root / f"proc/{OTHER}")  # its exit event comes last
    parts.in_table(CHILD + 1, hear=0)

    parts.descendants.identify_all()

    assert sorted(parts.ledger.nodes) == [ORIGIN, PID, CHILD, CHILD + 1, OTHER]
    assert parts.ledger.nodes[CHILD].starttime == CHILD * 10
