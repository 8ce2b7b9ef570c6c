"""Where a value comes from, as `explain` says it; on a made-up /proc, without systemd."""

import pytest

from oomwatchd.ctl import origin
from oomwatchd.ctl.examine import Explanation
from oomwatchd.ctl.origin import Origin, find_origin
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.rules.criteria import Process
from tests.faketree import Tree

TOP, PARENT, PID = 10, 20, 30


def explanation(value: int | None, node: Node | None = None, unit: str = "") -> Explanation:
    process = Process(PID, PID * 10, PARENT, "tool", False, unit=unit)
    return Explanation(PID, process, "", value, (), None, "none", None, node)


def below(pin: Pin | None) -> Node:
    parent = Node(PARENT, PARENT * 10, None)
    parent.comm, parent.pin = "server", pin
    return Node(PID, PID * 10, parent)


@pytest.mark.parametrize(
    ("child_value", "value", "found"),
    [
        (250, 250, Origin("children", rule="r", pid=PARENT, comm="server")),
        (250, 500, Origin("inherited", rule="r", pid=PARENT, comm="server")),
        (500, 500, Origin("inherited", rule="r", pid=PARENT, comm="server")),
        (0, 0, Origin("children", rule="r", pid=PARENT, comm="server")),
        (250, 0, Origin("default")),
        (250, 700, Origin("process")),
    ],
)
def test_a_descendant_of_a_pinned_process(tree: Tree, child_value: int, value: int, found: Origin) -> None:
    node = below(Pin("r", 0, 500, child_value, 0.0, "scan"))

    assert find_origin(explanation(value, node), tree.proc) == found


def test_a_pinned_process(tree: Tree) -> None:
    node = below(Pin("above", 0, 500, 500, 0.0, "scan"))
    node.pin = Pin("own", 0, 300, 300, 0.0, "scan")

    assert find_origin(explanation(300, node), tree.proc) == Origin("pin", rule="own")
    assert find_origin(explanation(700, node), tree.proc) == Origin("process")


def test_one_that_is_gone_has_no_value(tree: Tree) -> None:
    assert find_origin(explanation(None), tree.proc) is None
    assert find_origin(Explanation(PID, None, "", 5, (), None, "none", None, None), tree.proc) is None


@pytest.mark.parametrize(("top", "parent", "found"), [(7, 7, (TOP, "top")), (8, 7, (PARENT, "parent")), (7, 8, None)])
def test_the_topmost_one_with_the_value_is_named(
    tree: Tree, top: int, parent: int, found: tuple[int, str] | None
) -> None:
    tree.process(1, b"init", ppid=0, adj=0)
    tree.process(TOP, b"top", adj=top)
    tree.process(PARENT, b"parent", ppid=TOP, adj=parent)

    expected = Origin("process") if found is None else Origin("inherited", pid=found[0], comm=found[1])
    assert find_origin(explanation(7), tree.proc) == expected


@pytest.mark.parametrize(("adjust", "kind"), [(7, "unit"), (8, "process"), (None, "process")])
def test_a_unit_with_that_value(tree: Tree, monkeypatch: pytest.MonkeyPatch, adjust: int | None, kind: str) -> None:
    monkeypatch.setattr(origin, "unit_oom_score_adjust", lambda _unit: adjust)

    found = find_origin(explanation(7, unit="a.service"), tree.proc)

    assert found == Origin(kind, unit="a.service" if kind == "unit" else None)
