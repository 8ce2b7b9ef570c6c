"""Which events and scans have to look at a process, and what the filter's table keeps; over a made-up /proc."""

import pytest

from oomwatchd.kernel.exec_filter import ALL_KINDS, Member
from oomwatchd.pinning.candidates import Candidates
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.pinning.prefilter import ROUNDS, Prefilter
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

TOP, PID, INODE = 10, 20, 77


class Parts:
    """A pinned process, and a process PID that no rule fits."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        rules = RuleSet([Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(500, 500))])
        self.ledger = Ledger(None, "")
        self.tracking = Tracking(self.ledger, rules)
        self.table = self.tracking.table
        self.prefilter = Prefilter(rules, tree.proc)
        self.candidates = Candidates(self.ledger, self.tracking, self.prefilter)
        self.top = self.node(TOP)
        self.top.pin = Pin("r", 0, 500, 500, 0.0, "exec")
        self.tracking.hear(self.top, ALL_KINDS)
        self.named(PID, b"other")

    def node(self, pid: int, parent: Node | None = None) -> Node:
        node = Node(pid, pid * 10, parent)
        self.ledger.add(node)
        return node

    def named(self, pid: int, comm: bytes) -> None:
        self.tree.process(pid, comm)
        self.tree.write(f"proc/{pid}/comm", comm + b"\n")


@pytest.fixture
def parts(tree: Tree) -> Parts:
    return Parts(tree)


def test_an_event_of_one_that_no_rule_can_fit(parts: Parts) -> None:
    assert not parts.candidates.concerns(PID)
    assert parts.table.get(PID) is None


def test_an_event_of_one_that_a_rule_may_fit(parts: Parts) -> None:
    """The next scan asks about it, too, and the filter lets its further events through."""
    parts.named(PID, b"fits")
    parts.prefilter.ruled_out[PID] = INODE

    assert parts.candidates.concerns(PID)

    assert (parts.table.get(PID), parts.prefilter.ruled_out) == (Member(), {})


def test_an_event_of_one_that_has_ended_needs_no_look(parts: Parts) -> None:
    """Its children may be others' concern by now."""
    assert not parts.candidates.concerns(PID + 1)
    assert parts.table.get(PID + 1) == Member()


def test_an_event_of_one_in_the_ledger_unless_it_is_settled(parts: Parts) -> None:
    node = parts.node(PID, parts.top)
    assert parts.candidates.concerns(PID)

    node.settled_ns = 5
    parts.tracking.hear(node, ALL_KINDS)
    assert not parts.candidates.concerns(PID)
    assert parts.table.get(PID) is not None


def test_an_event_of_one_with_a_runtime_pin(parts: Parts) -> None:
    parts.ledger.add_pin(RuntimePin(PID, PID * 10, 300))
    assert parts.candidates.concerns(PID)


@pytest.mark.parametrize("descends", [True, False])
def test_the_table_keeps_descendants_whose_fork_events_were_lost(parts: Parts, descends: bool) -> None:
    parts.table.set(PID, Member(0, parts.top.number if descends else 0))

    assert not parts.candidates.concerns(PID)

    assert (parts.table.get(PID) is not None) is descends


def test_a_scan_remembers_whom_no_rule_can_fit(parts: Parts) -> None:
    assert not parts.candidates.may_fit(PID, INODE)
    assert parts.prefilter.ruled_out[PID] == INODE


def test_a_scan_opens_one_in_the_ledger(parts: Parts) -> None:
    parts.node(PID, parts.top)
    assert parts.candidates.may_fit(PID, INODE)
    assert parts.prefilter.ruled_out == {}


def test_a_scan_asks_about_those_in_the_ledger_and_some_of_the_others(parts: Parts) -> None:
    present = {TOP: 1, PID: 2, 30: 3, 40: 4}
    parts.prefilter.ruled_out.update(present)
    parts.ledger.add_pin(RuntimePin(30, 300, 300))
    parts.prefilter.ruled_out[40] = 5  # another process has that PID now
    scan = -PID % ROUNDS

    assert list(parts.candidates.doubtful(present, scan + 1)) == [TOP, 30, 40]
    assert list(parts.candidates.doubtful(present, scan)) == [TOP, PID, 30, 40]
