"""Which events of a process pass the filter, and when a process is forgotten; the table is the daemon's own."""

import pytest

from oomwatchd.kernel.exec_filter import ALL_KINDS, Member
from oomwatchd.kernel.proc_connector import PROC_EVENT_EXIT, PROC_EVENT_FORK
from oomwatchd.pinning import tracking
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.pinning.pid_table import OwnTable
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.rules.model import Action, Criterion, Rule
from oomwatchd.rules.ruleset import RuleSet

SERVER, CHILD, GRANDCHILD = 10, 20, 30
FORKS_AND_EXIT = PROC_EVENT_FORK | PROC_EVENT_EXIT
NONE = RuleSet(())
NAMING = RuleSet((Rule("r", (Criterion("descendant_of", names=("server",)),), Action(5, 5)),))
RESETS, INHERITS, FIXED = (Pin("server", 0, 500, value, 0.0, "exec") for value in (0, 500, 250))
LOWER = Pin("server", 0, 300, 0, 0.0, "exec")


class Kernel:
    """The table of the filter in the kernel, as far as it is asked here."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}

    def set(self, pid: int, member: Member) -> None:
        self.members[pid] = member


def family(pin: Pin | None = RESETS, rules: RuleSet = NONE) -> tuple[Tracking, Node, Node]:
    """A server with this pin, and its child, which has settled; both are in the ledger."""
    ledger = Ledger(None, "")
    server = Node(SERVER, 1, None)
    server.pin = pin
    child = Node(CHILD, 2, server)
    child.settled_ns = 5
    for node in (server, child):
        ledger.add(node)
    tracked = Tracking(ledger, rules)
    tracked.settle(child)
    return tracked, server, child


def changed(tracked: Tracking, node: Node, pin: Pin | None) -> None:
    """The pin of the process changes or ends."""
    node.change_pin(pin)
    tracked.note_change(node)


def expired(tracked: Tracking, monkeypatch: pytest.MonkeyPatch, fork_ns: int = -1) -> dict[int, Node]:
    """The nodes after a call of expire(), as if FORK_NS had passed."""
    monkeypatch.setattr(tracking, "FORK_NS", fork_ns)
    tracked.expire()
    return tracked._ledger.nodes


@pytest.mark.parametrize(
    ("rules", "nameable", "kinds"),
    [
        (NONE, False, FORKS_AND_EXIT),
        (NONE, True, ALL_KINDS),
        (NAMING, False, ALL_KINDS),
        (NAMING, True, ALL_KINDS),
    ],
)
def test_which_events_of_a_settled_descendant_pass(rules: RuleSet, nameable: bool, kinds: int) -> None:
    tracked, server, child = family(rules=rules)

    child.nameable = nameable
    tracked.settle(child)

    assert child.hear == kinds
    assert tracked.table.items()[CHILD] == Member(0, server.number, kinds)


def test_an_event_that_is_heard_already_is_not_asked_for_again() -> None:
    tracked, _, child = family()
    tracked.table.remove(CHILD)

    tracked.hear(child, FORKS_AND_EXIT)
    assert CHILD not in tracked.table.items()
    tracked.hear(child, ALL_KINDS)
    assert tracked.table.items()[CHILD].hear == ALL_KINDS


def test_of_what_a_member_descends() -> None:
    tracked, server, _ = family()
    stranger = Node(40, 4, None)

    tracked.hear(server, ALL_KINDS)
    tracked.hear(stranger, ALL_KINDS)

    table = tracked.table.items()
    assert table == {
        SERVER: Member(0, server.number, ALL_KINDS),
        CHILD: Member(0, server.number, FORKS_AND_EXIT),
        40: Member(0, 0, ALL_KINDS),
    }
    assert tracked.origin_of(table[CHILD]) is server
    assert tracked.origin_of(table[40]) is None


@pytest.mark.parametrize("nameable", [False, True])
def test_one_that_a_rule_may_fit_now_has_other_events_pass(nameable: bool) -> None:
    tracked, _, child = family()
    tracked.keep_settled(child)
    assert len(tracked._leaving) == 1  # nothing has changed

    child.nameable = nameable
    tracked.keep_settled(child)

    assert child.hear == (ALL_KINDS if nameable else FORKS_AND_EXIT)
    assert len(tracked._leaving) == 1 + nameable
    child.nameable = False
    tracked.keep_settled(child)
    assert child.hear == FORKS_AND_EXIT


def test_another_table_has_all_that_are_in_the_ledger() -> None:
    tracked, server, _ = family()
    tracked.hear(server, ALL_KINDS)
    before = tracked.table.items()

    tracked.use(OwnTable())

    assert tracked.table.items() == before


def test_other_rules_have_other_events_of_the_settled_ones_pass() -> None:
    tracked, server, child = family()
    tracked.hear(server, FORKS_AND_EXIT)

    tracked.set_rules(NAMING)

    assert (server.hear, child.hear) == (FORKS_AND_EXIT, ALL_KINDS)


@pytest.mark.parametrize(
    ("pin", "in_ledger", "in_table"),
    [
        (RESETS, False, False),  # a release has nothing to give back to it
        (INHERITS, True, True),
        (FIXED, True, True),
        (None, False, False),
    ],
)
def test_a_settled_descendant_is_forgotten_if_no_release_has_to_find_it(
    pin: Pin | None, in_ledger: bool, in_table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked, _, child = family(pin)

    assert (CHILD in expired(tracked, monkeypatch)) is in_ledger
    assert (CHILD in tracked.table.items()) is in_table
    assert child.hear == (0 if in_ledger else FORKS_AND_EXIT)
    assert not tracked._leaving


@pytest.mark.parametrize("pin", [RESETS, None])
def test_one_that_a_rule_may_fit_keeps_its_events(pin: Pin | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its node, as long as it descends from a pinned process."""
    tracked, _, child = family(pin)
    child.nameable = True
    tracked.settle(child)

    assert (CHILD in expired(tracked, monkeypatch)) is (pin is not None)
    assert tracked.table.items()[CHILD].hear == ALL_KINDS


def test_nothing_is_forgotten_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked, server, child = family()
    changed(tracked, server, LOWER)

    assert expired(tracked, monkeypatch, 10**18).keys() == {SERVER, CHILD}
    assert server.former is RESETS
    assert [node for _, node in tracked._leaving] == [child, server]


def test_the_first_are_forgotten_early_if_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked, server, child = family()
    monkeypatch.setattr(tracking, "_LEAVING", 1)
    changed(tracked, server, LOWER)

    expired(tracked, monkeypatch, 10**18)

    assert [node for _, node in tracked._leaving] == [server]
    assert child.settled  # it is in the ledger until it is found that so much time has passed


def test_a_former_pin_is_forgotten_after_the_last_change(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked, server, child = family()
    changed(tracked, server, None)
    assert server.changed_ns > 0

    expired(tracked, monkeypatch)

    assert server.former is None
    assert not child.affects_descendants


def test_while_descendants_are_looked_at_nothing_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked, server, child = family()
    changed(tracked, server, LOWER)
    tracked.begin_descent(server)
    other = Node(40, 4, None)
    tracked.begin_descent(other)
    assert tracked.descents == 2

    assert CHILD in expired(tracked, monkeypatch)
    assert server.former is RESETS
    assert [node for _, node in tracked._leaving] == [child]

    tracked.end_descent(server)
    assert (tracked.descents, server.descending, other.descending) == (1, False, True)
    assert [node for _, node in tracked._leaving] == [child, server]
    assert CHILD not in expired(tracked, monkeypatch)
    assert server.former is None
    tracked.end_descent(other)
    assert tracked.descents == 0
    assert not tracked._leaving


@pytest.mark.parametrize("change", ["another process", "not settled", "pinned"])
def test_one_that_is_not_what_it_was_is_not_forgotten(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked, _, child = family()
    if change == "another process":
        tracked._ledger.add(Node(CHILD, 9, None))
    elif change == "not settled":
        child.settled_ns = 0
    else:
        child.pin = RESETS

    assert CHILD in expired(tracked, monkeypatch)


@pytest.mark.parametrize(
    ("pin", "former", "left_to", "rules", "related"),
    [
        (None, None, "", NAMING, False),
        (RESETS, None, "", NONE, True),
        (None, RESETS, "", NONE, True),
        (None, None, "server", NONE, False),
        (None, None, "server", NAMING, True),
        (None, None, "another", NAMING, False),
    ],
)
def test_who_is_related(pin: Pin | None, former: Pin | None, left_to: str, rules: RuleSet, related: bool) -> None:
    tracked, server, child = family(pin, rules)
    server.former, server.left_to = former, left_to

    assert tracked.related(child) is related
    assert tracked.related(server) is (pin is not None or former is not None or left_to != "")


def test_who_may_have_adopted_a_child_by_clone_parent() -> None:
    tracked, server, child = family()
    server.ppid, child.ppid = 3, SERVER
    tracked.hear(server, ALL_KINDS)

    assert [tracked.may_have_adopted(pid) for pid in (1, 3, SERVER, 4)] == [True, True, False, False]

    tracked.table = Kernel()  # type: ignore[assignment]
    assert not tracked.may_have_adopted(1)
    assert not tracked.may_have_adopted(3)


def test_one_whose_children_keep_its_value_tells_nothing() -> None:
    tracked, server, _ = family(INHERITS)
    server.ppid = 3
    tracked.hear(server, ALL_KINDS)

    assert not tracked.may_have_adopted(3)


def test_after_a_scan_those_that_are_gone_are_forgotten() -> None:
    tracked, server, child = family()
    server.ppid = 3
    tracked.hear(server, ALL_KINDS)
    gone, quiet = Node(40, 4, None), Node(50, 5, None)
    gone.pin = quiet.pin = RESETS
    gone.ppid, quiet.ppid = 5, 6
    for node in (gone, quiet):
        tracked.hear(node, ALL_KINDS)
    tracked.table.set(60, Member(40, quiet.number, 0))  # a descendant that only the table has
    del tracked._ledger.nodes[CHILD]
    members = tracked.table.items()

    tracked.prune({pid: member for pid, member in members.items() if pid not in (40, 50)}, {SERVER, 50, 60})

    assert tracked.table.items().keys() == {SERVER, 40, 50, 60}  # the child is gone; 40 came after the scan had begun
    assert tracked.origin_of(members[SERVER]) is server
    assert tracked.origin_of(members[40]) is None
    assert tracked.origin_of(members[60]) is quiet
    assert [tracked.may_have_adopted(pid) for pid in (3, 5, 6)] == [True, False, False]
    assert child.hear == FORKS_AND_EXIT


def test_with_the_filter_a_scan_finds_no_parents_that_may_have_adopted() -> None:
    tracked, server, _ = family()
    server.ppid = 3
    tracked.hear(server, ALL_KINDS)
    tracked.table = Kernel()  # type: ignore[assignment]

    tracked.prune({}, set())

    tracked.table = OwnTable()
    assert not tracked.may_have_adopted(3)


def test_the_daemons_own_table_goes_by_fork_events() -> None:
    """A child inherits what its parent's entry says. The entry of a process that had its PID before is removed."""
    table = OwnTable()
    table.set(SERVER, Member(0, 7, PROC_EVENT_EXIT))
    assert table.forked(SERVER, CHILD) == table.get(CHILD) == Member(SERVER, 7, PROC_EVENT_EXIT)

    assert table.forked(SERVER + 1, CHILD) is None
    assert list(table.pids()) == [SERVER]
