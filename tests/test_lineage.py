"""Families: who concerns whom after any forks, exits, pins and restarts."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.pinning import lineage
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Inheritance, Node, Pin, may_descend


@dataclass
class Member:
    """A process in the model, which forgets nothing."""

    parent: "Member | None"
    rule: str = ""
    alive: bool = True
    children: int = 0
    pid: int = field(default=0)

    def rules_above(self) -> list[str]:
        above, found = self.parent, []
        while above is not None:
            found += [above.rule] if above.rule and above.rule not in found else []
            above = above.parent
        return found


def pin(rule: str) -> Pin:
    return Pin(rule, 0, 500, 0, 0.0, "scan")


STEPS = st.lists(
    st.tuples(st.sampled_from(["fork", "exit", "pin", "release", "restart"]), st.integers(0, 30)), max_size=40
)


@given(STEPS)
def test_lineage_is_what_it_was(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "ledger.json")
        ledger = Ledger(path, "boot")
        ledger.load(lambda _pid, _starttime: True)
        members = [Member(None, "root", pid=100)]
        _add(ledger, members[0], None)
        for step, number in steps:
            living = [member for member in members if member.alive]
            if not living:
                break
            member = living[number % len(living)]
            if step == "fork":
                child = Member(member, pid=100 + len(members))
                members.append(child)
                _add(ledger, child, ledger.nodes[member.pid])
            elif step == "exit":
                member.alive = False
                ledger.died(member.pid)
            elif step in ("pin", "release"):
                member.rule = f"rule {number % 3}" if step == "pin" else ""
                node = ledger.nodes[member.pid]
                node.pin = pin(member.rule) if member.rule else None
                ledger.record(node)
            else:
                ledger.flush()
                ledger.close()
                ledger = Ledger(path, "boot")
                assert ledger.load(_alive(members)) is None
        for member in members:
            if member.alive:
                _compare(ledger.nodes[member.pid], member)
        assert set(ledger.nodes) == {member.pid for member in members if member.alive}
        ledger.close()


def _add(ledger: Ledger, member: Member, parent: Node | None) -> None:
    node = Node(member.pid, 7, parent)
    node.pin = pin(member.rule) if member.rule else None
    ledger.add(node)
    ledger.record(node)


def _alive(members: list[Member]) -> Callable[[int, int], bool]:
    living = {member.pid for member in members if member.alive}
    return lambda pid, _starttime: pid in living


def _compare(node: Node, member: Member) -> None:
    above = member.rules_above()
    assert set(above) == {each.rule for each in node.ancestors()}
    origin = node.origin()
    assert (origin.rule if origin is not None else None) == (above[0] if above else None)


def test_chain_of_the_dead_stays_short() -> None:
    """A pinned process that has a successor and dies, again and again."""
    node = Node(1, 1, None)
    node.pin = pin("phoenix")
    for pid in range(2, 1000):
        child = Node(pid, pid, node)
        child.pin = pin("phoenix")
        node.dead = True
        node = child

    assert len(list(node.ancestors())) <= 3


def test_of_several_dead_above_an_orphan_by_one_rule_the_nearest_stays() -> None:
    farthest = Node(1, 1, None)
    farthest.pin = Pin("rule", 7, 500, 7, 0.0, "exec")
    nearest = Node(2, 2, farthest)
    nearest.pin = Pin("rule", 500, 500, 500, 0.0, "exec")
    farthest.dead = nearest.dead = True

    orphan = Node(3, 3, nearest)

    assert list(orphan.ancestors()) == [nearest]
    assert nearest.pin is not None and nearest.pin.original == 7


def chain(*dead: bool) -> list[Node]:
    """A node, its child, and so on; which of them have died."""
    nodes: list[Node] = []
    for number in range(1, len(dead) + 1):
        nodes.append(Node(number, number, nodes[-1] if nodes else None))
    for node, ended in zip(nodes, dead, strict=True):
        node.dead = ended
    return nodes


def test_dead_ancestors_that_no_rule_fitted_are_removed_all_of_them() -> None:
    top, *_, last = chain(True, True, True, True, False)
    top.pin = pin("rule")

    last.prune()

    assert last.parent is top


def test_a_dead_ancestor_that_no_rule_fitted_hides_no_second_one_of_a_rule() -> None:
    first, second, _, third, last = chain(True, True, True, True, False)
    for node in (first, second, third):
        node.pin = pin("rule")

    last.prune()

    assert last.parent is third
    assert third.parent is None


def test_of_a_rule_that_ignores_processes_the_nearest_stays() -> None:
    far, near, last = chain(True, True, False)
    far.left_to = near.left_to = "rule"

    last.prune()

    assert list(last.ancestors()) == [near]
    assert near.pin is None


@pytest.mark.parametrize(
    ("mine", "theirs", "original"),
    [
        (Pin("r", 500, 500, 500, 0.0, "exec"), Pin("r", 7, 500, 500, 0.0, "exec"), 7),
        (Pin("r", 250, 500, 250, 0.0, "exec"), Pin("r", 7, 500, 250, 0.0, "exec"), 7),
        (Pin("r", 300, 500, 300, 0.0, "exec"), Pin("r", 7, 500, 250, 0.0, "exec"), 300),  # its own value
        (Pin("r", 500, 500, 500, 0.0, "exec"), None, 500),
        (None, Pin("r", 7, 500, 500, 0.0, "exec"), None),
    ],
)
def test_who_takes_the_place_of_an_ancestor(mine: Pin | None, theirs: Pin | None, original: int | None) -> None:
    far, near = chain(True, True)
    near.pin, far.pin = mine, theirs

    near.succeed(far)

    assert (near.pin and near.pin.original) == original


def test_what_a_pin_was_before_its_change() -> None:
    childless, parent, _ = Node(9, 9, None), *chain(False, False)
    first, second = pin("first"), pin("second")

    childless.change_pin(first)
    assert (childless.pin, childless.former) == (first, None)
    parent.change_pin(None)
    assert (parent.pin, parent.former) == (None, None)
    parent.change_pin(first)
    assert (parent.pin, parent.former) == (first, Pin("first", 0, 0, 0, 0.0, "scan"))
    parent.change_pin(None)
    assert (parent.pin, parent.former) == (None, first)
    parent.change_pin(second)
    assert (parent.pin, parent.former) == (second, first)
    parent.change_pin(first)
    assert (parent.pin, parent.former) == (first, second)


def test_before_the_first_pin_descendants_had_no_value_of_it() -> None:
    parent, _ = chain(False, False)
    parent.change_pin(Pin("r", 0, 500, 250, 0.0, "scan"))
    assert parent.inheritance is not None
    assert parent.inheritance.shown == {0, 500}


def test_which_rule_a_process_has() -> None:
    node = Node(1, 1, None)
    assert (node.rule, node.fitting, node.affects_descendants) == ("", "", False)
    node.refused = ("refused", 1)
    assert (node.rule, node.fitting, node.affects_descendants) == ("", "refused", False)
    node.left_to = "ignoring"
    assert (node.rule, node.fitting, node.affects_descendants) == ("ignoring", "ignoring", True)
    node.left_to, node.pin = "", pin("pinning")
    assert (node.rule, node.fitting, node.affects_descendants) == ("pinning", "pinning", True)
    node.pin, node.former = None, pin("before")
    assert (node.rule, node.fitting, node.affects_descendants) == ("", "refused", True)


@pytest.mark.parametrize(
    ("starttime", "started_by", "may_be"),
    [(7, None, True), (8, 9, False), (None, None, True), (None, 7, True), (None, 8, True), (None, 6, False)],
)
def test_which_process_a_node_may_be(starttime: int | None, started_by: int | None, may_be: bool) -> None:
    node = Node(1, starttime, None)
    node.started_by = started_by

    assert node.may_be(7) is may_be


def test_a_rule_that_ignores_a_process_leaves_its_descendants_to_the_pin_above() -> None:
    top, ignored, last = chain(False, False, False)
    ignored.left_to = "ignoring"
    assert last.origin() is None

    top.former = pin("before")
    assert last.origin() is top
    top.pin = pin("now")
    assert last.origin() is top
    assert list(last.ancestors()) == [ignored, top]


@pytest.mark.parametrize(
    ("target", "original", "floor"), [(499, 500, 499), (500, 500, None), (501, 500, None), (-1000, -999, -1000)]
)
def test_only_a_pin_below_the_original_value_lowers_the_floor(target: int, original: int, floor: int | None) -> None:
    node = Node(1, 1, None)
    node.pin = Pin("r", original, target, target, 0.0, "exec")

    assert node.inheritance is not None and node.inheritance.floor == floor


def test_many_pinned_ancestors_with_equal_values_are_reckoned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user can make a chain of thousands out of a program that a rule fits."""
    node = Node(2, 1, None)
    for number in range(1000):
        node.pin = Pin("r", 0, 400 + number % 2, 400, float(number), "exec")
        node = Node(3 + number, 2 + number, node)
    make = Mock(wraps=Inheritance)
    monkeypatch.setattr(lineage, "Inheritance", make)

    inherited = node.inherited()

    assert make.call_count == 3  # one for each pair of values, and the sum
    assert inherited is not None
    assert (inherited.shown, inherited.value) == (frozenset({0, 400, 401}), 400)


@pytest.mark.usefixtures("deadline")
def test_each_dead_ancestor_is_found_once_in_a_long_chain() -> None:
    """This took 15 s: the way up was walked from each process of the chain."""
    ledger, node = Ledger(None, "boot"), None
    for pid in range(2, 14_000):
        node = Node(pid, pid, node)
        node.pin, node.dead = Pin("r", 0, 400, 400, 0.0, "exec"), pid in (5, 9)
        ledger.nodes[pid] = node
    assert [node.pid for node in ledger.dead_origins()] == [5, 9]


def test_which_pins_between_depend_on_one_above() -> None:
    top, dead, plain, released, ignored, last = chain(False, True, False, False, False, False)
    dead.pin, released.former, ignored.left_to = pin("dead"), pin("released"), "ignoring"

    assert last.handing_on(top) == [dead, released]
    assert last.handing_on(ignored) == []
    assert last.handing_on(last) is None
    assert top.handing_on(last) is None

    plain.pin = pin("living")
    assert last.handing_on(top) is None
    assert last.handing_on(plain) == [released]


@pytest.mark.parametrize(
    ("grandparent", "parent", "own", "may"),
    [
        (5, 6, 7, True),
        (7, 7, 7, True),
        (5, 8, 7, False),
        (8, 6, 7, False),
        (8, None, 7, False),
        (None, None, 7, True),
        (8, 8, None, True),
    ],
)
def test_no_ancestor_is_younger(grandparent: int | None, parent: int | None, own: int | None, may: bool) -> None:
    above = Node(2, parent, Node(1, grandparent, None))

    assert may_descend(Node(3, own, None), above) is may


def test_no_process_descends_from_itself() -> None:
    top, _, last = chain(False, False, False)

    assert not may_descend(top, last)
    assert not may_descend(last, last)
    assert may_descend(last, top)


def test_damaged_ledger_with_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(
        '{"oomwatchd_ledger":1,"boot_id":"boot"}\n'
        '{"pid":5,"starttime":7,"parent":[6,7]}\n{"pid":6,"starttime":7,"parent":[7,7]}\n'
        '{"pid":7,"starttime":7,"parent":[5,7]}\n{"pid":8,"starttime":7,"parent":[8,7]}\n'
        '{"pid":9,"starttime":7,"pin":5000}\n'
    )
    ledger = Ledger(str(path), "boot")

    assert ledger.load(lambda _pid, _starttime: True) is not None

    for node in ledger.nodes.values():
        assert list(node.ancestors()) == []
    assert ledger.runtime_pins == {}
    ledger.close()
