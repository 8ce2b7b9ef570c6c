"""The lineage by fork and exit events, and by what the kernel still shows; on a made-up /proc."""

import shutil

import pytest

from oomwatchd.base.uapi import PF_EXITING
from oomwatchd.kernel.exec_filter import ALL_KINDS, Member
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.rules.model import Action, Criterion, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

TOP, PARENT, PID = 10, 20, 30
LATER = 10**17
"""A time of an event, later than FORK_NS after all others. Start times are 10 ticks for each number of the PID."""
BY_SESSION = RuleSet((Rule("r", (Criterion("session_leader", flag=False),), Action(5, 5)),))


class Parts:
    """A family of a pinned process and a child that has settled, and what they are made of."""

    def __init__(self, tree: Tree, rules: RuleSet | None = None) -> None:
        self.tree = tree
        self.ledger = Ledger(None, "")
        rules = RuleSet(()) if rules is None else rules
        self.tracking = Tracking(self.ledger, rules)
        self.family = Family(self.ledger, rules, View(tree.proc), self.tracking)
        self.top = self.node(TOP)
        self.top.pin = pin()
        self.parent = self.node(PARENT, self.top)
        self.parent.settled_ns = 5
        for node in (self.top, self.parent):
            self.tracking.hear(node, ALL_KINDS)
            tree.process(node.pid, ppid=1 if node is self.top else TOP)

    def node(self, pid: int, parent: Node | None = None) -> Node:
        node = Node(pid, pid * 10, parent)
        self.ledger.add(node)
        return node


@pytest.fixture
def parts(tree: Tree) -> Parts:
    return Parts(tree)


def pin(original: int = 0, target: int = 500, child_value: int = 0, rule: str = "r") -> Pin:
    return Pin(rule, original, target, child_value, 0.0, "exec")


def stat(pid: int, ppid: int = 1, session: int = 0, starttime: int | None = None) -> Stat:
    return Stat(b"a", False, ppid, session or pid, 0, 1, pid * 10 if starttime is None else starttime)


# Forks


def test_a_child_of_a_settled_process_is_settled_as_it_is(parts: Parts) -> None:
    assert not parts.family.forked(PID, PARENT, LATER)

    node = parts.ledger.nodes[PID]
    assert (node.parent, node.settled_ns, node.starttime) == (parts.parent, 5, None)
    assert node.may_be(LATER // 10**7)


@pytest.mark.parametrize("change", ["at the same time", "a descent", "another origin", "a rule decides by forks"])
def test_a_child_of_a_settled_process_is_looked_at_if_its_value_is_in_doubt(tree: Tree, change: str) -> None:
    parts = Parts(tree, BY_SESSION if change == "a rule decides by forks" else None)
    event_ns = LATER
    if change == "at the same time":
        event_ns = 6
    elif change == "a descent":
        parts.tracking.begin_descent(parts.top)
    elif change == "another origin":
        parts.tracking.table.set(PARENT, Member(0, 0, ALL_KINDS))

    assert parts.family.forked(PID, PARENT, event_ns)
    assert parts.ledger.nodes[PID].settled_ns == 0


def test_a_child_of_a_stranger_is_looked_at_only_if_forks_decide(tree: Tree) -> None:
    assert not Parts(tree).family.forked(PID, 99, LATER)
    assert Parts(tree, BY_SESSION).family.forked(PID, 99, LATER)


def test_the_parent_of_a_member_that_has_no_node_is_its_origin(parts: Parts) -> None:
    parts.tracking.table.set(99, Member(0, parts.top.number, ALL_KINDS))

    assert parts.family.forked(PID, 99, LATER)

    assert parts.ledger.nodes[PID].parent is parts.top


def test_the_maker_counts_and_not_the_parent_by_clone_parent(parts: Parts) -> None:
    """The filter names the maker."""
    parts.tracking.table.forked = lambda _parent, _child: Member(PARENT, parts.top.number)  # type: ignore

    parts.family.forked(PID, TOP, LATER)

    assert parts.ledger.nodes[PID].parent is parts.parent


@pytest.mark.parametrize(
    ("starttime", "seen_ns", "alive", "stays"),
    [
        (None, LATER + 1, True, False),  # only an event has shown it
        (PID * 10, LATER + 1, False, True),  # it was looked at after the fork
        (PID * 10, LATER, False, False),
        (PID * 10, LATER, True, True),
        (PID * 10 + 1, LATER, True, False),  # another process has the PID
    ],
)
def test_a_fork_event_of_a_known_pid(
    parts: Parts, starttime: int | None, seen_ns: int, alive: bool, stays: bool
) -> None:
    known = parts.node(PID)
    known.starttime, known.seen_ns = starttime, seen_ns
    if alive:
        parts.tree.process(PID)

    parts.family.forked(PID, PARENT, LATER)

    assert (parts.ledger.nodes[PID] is known) is stays
    assert known.dead is not stays
    assert parts.ledger.nodes[PID].parent is parts.parent


# Exits


@pytest.mark.parametrize(
    ("state", "flags", "threads", "starttime", "seen_ns", "lives"),
    [
        ("S", 0, 2, 0, 0, True),  # one thread of several has ended
        ("Z", PF_EXITING, 2, 0, 0, True),
        ("S", 0, 1, 0, 0, True),  # another thread has executed a program, and has the place of the first one
        ("R", PF_EXITING, 1, 0, 0, False),
        ("R", PF_EXITING, 1, 0, LATER + 1, True),  # the event is about an earlier process
        ("R", PF_EXITING, 1, 0, LATER, False),
        ("Z", PF_EXITING, 1, 0, LATER + 1, False),
        ("S", 0, 2, 1, LATER + 1, False),  # another process has the PID
        (None, 0, 1, 0, LATER + 1, False),
    ],
)
def test_which_exit_event_is_the_end_of_a_process(
    parts: Parts, state: str | None, flags: int, threads: int, starttime: int, seen_ns: int, lives: bool
) -> None:
    parts.parent.seen_ns = seen_ns
    if state is None:
        shutil.rmtree(parts.tree.root / f"proc/{PARENT}")
    else:
        rest = f"{state} {TOP} 20 20 0 -1 {flags} " + "0 " * 10 + f"{threads} 0 {PARENT * 10 + starttime} 0"
        parts.tree.write(f"proc/{PARENT}/stat", f"{PARENT} (a) {rest}")

    parts.family.exited(PARENT, LATER)

    assert (PARENT in parts.ledger.nodes) is lives
    assert (PARENT in parts.tracking.table.items()) is lives


def test_the_exit_of_a_member_without_a_node_removes_it(parts: Parts) -> None:
    parts.tracking.table.set(99, Member())

    parts.family.exited(99, LATER)

    assert 99 not in parts.tracking.table.items()


def test_a_member_without_a_node_stays_one_when_only_its_first_thread_ends(parts: Parts) -> None:
    parts.tracking.table.set(99, Member())
    parts.tree.write("proc/99/stat", f"99 (a) S {TOP} 20 20 0 -1 0 " + "0 " * 10 + "1 0 990 0")

    parts.family.exited(99, LATER)

    assert 99 in parts.tracking.table.items()


def test_dead_processes_whose_pins_may_be_stale(parts: Parts) -> None:
    family = parts.family
    assert family.take_stale()
    assert not family.take_stale()

    family.died(parts.parent)  # it has no children
    assert not family.take_stale()
    family.died(parts.top)
    assert family.take_stale()
    family.note_stale()
    assert family.take_stale()
    family.set_rules(RuleSet(()))
    assert family.take_stale()
    assert not family.take_stale()


def test_the_last_that_died_at_a_lowered_value_are_remembered(parts: Parts) -> None:
    lowered = parts.node(40)
    lowered.pin = pin(original=0, target=-500)
    for node in (lowered, parts.top):
        parts.family.died(node)
    ((died, _),) = parts.family._last_dead

    assert parts.family.died_since(died) == [lowered]
    assert parts.family.died_since(died + 1) == []


# Identity and parent


def test_what_a_look_shows_of_a_process_that_only_an_event_has_shown(parts: Parts) -> None:
    parts.family.forked(PID, PARENT, LATER)
    node = parts.ledger.nodes[PID]

    assert parts.family.node_of(PID, stat(PID, ppid=7)) is node

    assert (node.starttime, node.ppid, node.parent) == (PID * 10, 7, parts.parent)
    assert node.seen_ns > 0


def test_a_parent_that_is_younger_was_another_process(parts: Parts) -> None:
    parts.family.forked(PID, PARENT, LATER)

    node = parts.family.node_of(PID, stat(PID, starttime=1))

    assert node.parent is None
    assert node is parts.ledger.nodes[PID]


def test_another_process_with_the_pid_gets_a_node_of_its_own(parts: Parts) -> None:
    known = parts.node(PID, parts.parent)

    node = parts.family.node_of(PID, stat(PID, starttime=PID * 10 + 1))

    assert node is not known
    assert (known.dead, PID in parts.ledger.nodes, node.parent) == (True, False, None)


@pytest.mark.parametrize(
    ("ppid", "session", "gone", "found"),
    [
        (PARENT, 99, None, PARENT),
        (99, TOP, None, TOP),
        (PARENT, TOP, None, PARENT),
        (PARENT, TOP, PARENT, TOP),  # the PID of a dead parent may mean another process
        (99, TOP, TOP, TOP),  # that of a session's leader isn't used again
        (99, 98, None, None),
        (PID, PID, None, None),
    ],
)
def test_the_parent_that_the_kernel_shows(
    parts: Parts, ppid: int, session: int, gone: int | None, found: int | None
) -> None:
    if gone is not None:
        shutil.rmtree(parts.tree.root / f"proc/{gone}")

    node = parts.family.node_of(PID, stat(PID, ppid, session))

    assert (node.parent and node.parent.pid) == found


def test_adopted_is_one_that_lives_and_is_younger(parts: Parts) -> None:
    assert parts.family.adopt(PID, parts.top) is None
    parts.tree.process(PID, ppid=1)

    node = parts.family.adopt(PID, parts.top)

    assert node is not None
    assert (node.parent, parts.ledger.nodes[PID]) == (parts.top, node)
    assert parts.family.adopt(PID, parts.parent) is node
    assert node.parent is parts.top  # it is known already
    parts.tree.process(5, ppid=1)
    older = parts.family.adopt(5, parts.top)
    assert older is not None and older.parent is None


@pytest.mark.parametrize(
    ("own", "former", "dead", "original", "target"),
    [
        (pin(500, 800, 800), False, False, 0, 800),  # its original came from the pin above
        (pin(500, 800, 800), True, False, 0, 800),
        (pin(500, 800, 800), False, True, 0, 700),  # and a dead one goes by its rule of today
        (pin(300, 800, 800), False, False, 300, 800),  # its own value
        (pin(0, 800, 800), False, False, 0, 800),
    ],
)
def test_an_original_value_that_was_inherited_is_corrected(
    parts: Parts, own: Pin, former: bool, dead: bool, original: int, target: int
) -> None:
    parts.family.set_rules(RuleSet((Rule("r", (), Action(700, 700)),)))
    node = Node(PID, PID * 10, None)
    node.pin, node.former = (None, own) if former else (own, None)
    node.dead, node.recorded = dead, True

    parts.family.acknowledge(node, parts.top)

    after = node.former if former else node.pin
    assert after is not None
    assert (after.original, after.target) == (original, target)
    assert (node.pin is None, node.recorded) == (former, False)
    node.recorded = True
    parts.family.rebase(node)
    assert node.recorded  # nothing is left to correct


def test_nothing_is_corrected_without_a_pin_or_without_an_ancestor_that_has_one(parts: Parts) -> None:
    for node in (Node(PID, 1, parts.top), Node(PID, 1, None)):
        node.recorded = True
        parts.family.rebase(node)
        assert node.recorded


def test_a_pin_of_a_rule_that_has_gone_stays(parts: Parts) -> None:
    parts.family.set_rules(RuleSet((Rule("r", (), Action(700, 700), children=250),)))

    assert parts.family.under_todays_rule(pin()) == pin(0, 700, 250)
    gone = pin(rule="gone")
    assert parts.family.under_todays_rule(gone) is gone


@pytest.mark.parametrize(
    ("starttime", "known_parent", "found"), [(PID * 10, None, PARENT), (PID * 10, TOP, TOP), (1, None, None)]
)
def test_a_fork_event_of_one_that_was_looked_at_before_tells_its_parent(
    parts: Parts, starttime: int, known_parent: int | None, found: int | None
) -> None:
    """Unless that is known already, or the parent is younger, so that the event is about another process."""
    known = parts.node(PID, None if known_parent is None else parts.ledger.nodes[known_parent])
    known.starttime, known.seen_ns = starttime, LATER + 1

    parts.family.forked(PID, PARENT, LATER)

    assert (known.parent and known.parent.pid) == found


def test_the_node_of_the_parent_counts_although_the_table_does_not_have_it(parts: Parts) -> None:
    parts.tracking.table.remove(PARENT)

    assert not parts.family.forked(PID, PARENT, 6)  # the child has ended, since the table doesn't have it either

    assert parts.ledger.nodes[PID].parent is parts.parent
