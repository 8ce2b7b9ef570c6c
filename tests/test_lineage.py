"""Families: who concerns whom after any forks, exits, pins and restarts."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin


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
