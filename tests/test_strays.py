"""Guesses by a value, a unit and a session which process made another; over a made-up /proc."""

import pytest

from oomwatchd.base.uapi import PF_FORKNOEXEC
from oomwatchd.kernel.facts import View
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.pinning.strays import ancestor_of, gives_away, is_telling, sibling_of
from tests.faketree import Tree

PINNED, PID, PARENT, LEADER = 10, 20, 30, 40
UNIT = "/system.slice/a.service"
SCOPE = "/user.slice/user-0.slice/session-3.scope"
LOST_FROM = 100


def add(
    tree: Tree,
    pid: int,
    *,
    ppid: int = 1,
    session: int | None = None,
    adj: int = 0,
    cgroup: str = UNIT,
    starttime: int = LOST_FROM,
    state: str = "S",
    flags: int = 0,
    stack: int = 0,
) -> None:
    tree.process(pid, b"x", adj=adj, cgroup=cgroup)
    begin = f"{pid} (x) {state} {ppid} {pid} {pid if session is None else session} 0 -1 {flags}"
    tree.write(f"proc/{pid}/stat", f"{begin} {'0 ' * 10}1 0 {starttime} 0 0 0 0 0 {stack} 0")


def pinned(target: int = -500, *, former: bool = False, unit: str = "a.service") -> Node:
    """A process that was at 0, is pinned or was a moment ago, and leaves 0 to its descendants."""
    node = Node(PINNED, 5, None)
    node.unit, pin = unit, Pin("r", 0, target, 0, 0.0, "exec")
    node.pin, node.former = (None, pin) if former else (pin, None)
    return node


@pytest.mark.parametrize("former", [False, True])
def test_an_orphan_with_the_value_and_the_unit_of_a_pinned_process_descends_from_it(tree: Tree, former: bool) -> None:
    add(tree, PID, adj=-500)
    node = pinned(former=former)
    assert ancestor_of(PID, [Node(9, 5, None), node], LOST_FROM, View(tree.proc)) is node


@pytest.mark.parametrize(
    ("adj", "cgroup", "starttime"),
    [
        (-400, UNIT, LOST_FROM),
        (-500, "/system.slice/b.service", LOST_FROM),
        (-500, UNIT, LOST_FROM - 1),
    ],
    ids=["value", "unit", "forked before"],
)
def test_an_orphan_of_another_value_unit_or_time_descends_from_nobody(
    tree: Tree, adj: int, cgroup: str, starttime: int
) -> None:
    add(tree, PID, adj=adj, cgroup=cgroup, starttime=starttime)
    assert ancestor_of(PID, [pinned()], LOST_FROM, View(tree.proc)) is None


@pytest.mark.parametrize(
    ("target", "cgroup", "descends"),
    [
        (-500, SCOPE, True),
        (500, SCOPE, False),  # any user can take that value
        (0, SCOPE, False),
        (-500, SCOPE.replace(".scope", ".service"), False),
        (-500, SCOPE.replace("session-", "run-"), False),
    ],
)
def test_in_a_login_session_a_lowered_value_is_enough(tree: Tree, target: int, cgroup: str, descends: bool) -> None:
    """logind puts what sshd starts into a scope of its own."""
    add(tree, PID, adj=target, cgroup=cgroup)
    found = ancestor_of(PID, [pinned(target)], LOST_FROM, View(tree.proc))
    assert (found is not None) is descends


@pytest.mark.parametrize(
    ("session", "parents", "leader", "descends"),
    [
        (LEADER, PARENT, None, True),
        (LEADER, PARENT, "Z", True),
        (LEADER, PARENT, "S", False),  # its maker may be the leader, and alive
        (LEADER, LEADER, None, False),  # the parent has the session, too, and made it
        (PID, PARENT, None, False),  # it has begun a session itself
    ],
    ids=["leader is gone", "leader is a zombie", "leader lives", "session of the parent", "session of its own"],
)
def test_a_subreaper_has_adopted_whom_it_cannot_have_made(
    tree: Tree, session: int, parents: int, leader: str | None, descends: bool
) -> None:
    add(tree, PARENT, session=parents)
    add(tree, PID, ppid=PARENT, session=session, adj=-500)
    if leader is not None:
        add(tree, LEADER, state=leader)
    found = ancestor_of(PID, [pinned()], LOST_FROM, View(tree.proc))
    assert (found is not None) is descends


@pytest.mark.parametrize(("session", "descends"), [(LEADER, True), (PID, False)])
def test_one_whose_parent_has_just_ended(tree: Tree, session: int, descends: bool) -> None:
    add(tree, PID, ppid=PARENT, session=session, adj=-500)
    found = ancestor_of(PID, [pinned()], LOST_FROM, View(tree.proc))
    assert (found is not None) is descends


def test_one_without_a_unit_is_no_orphan_because_of_pid_1_alone(tree: Tree) -> None:
    """Without systemd, PID 1 starts programs, too."""
    add(tree, 1)
    add(tree, PID, adj=-500, cgroup="/")
    assert ancestor_of(PID, [pinned(unit="")], LOST_FROM, View(tree.proc)) is None


@pytest.mark.parametrize(
    ("parents_adj", "flags", "stacks", "made"),
    [
        (0, 0, (7, 8, 7), True),
        (-500, 0, (7, 8, 7), False),  # the parent may have made it
        (0, PF_FORKNOEXEC, (7, 8, 7), False),  # a fork of the parent has its stack
        (0, PF_FORKNOEXEC, (7, 7, 7), True),  # all of them do
        (0, PF_FORKNOEXEC, (0, 8, 0), True),  # the kernel doesn't tell
        (0, PF_FORKNOEXEC, (7, 8, 9), True),
        (0, PF_FORKNOEXEC, (1, 8, 1), False),
    ],
)
def test_a_sibling_made_what_its_parent_cannot_have_made(
    tree: Tree, parents_adj: int, flags: int, stacks: tuple[int, int, int], made: bool
) -> None:
    """`stacks`: where those of the parent, of the pinned sibling and of the process begin."""
    add(tree, PARENT, adj=parents_adj, stack=stacks[0])
    add(tree, PINNED, ppid=PARENT, adj=-500, stack=stacks[1])
    add(tree, PID, ppid=PARENT, adj=-500, stack=stacks[2], flags=flags, session=PARENT)
    node = pinned()
    assert sibling_of(PID, PARENT, [node], View(tree.proc)) is (node if made else None)


def test_a_sibling_that_has_ended_may_have_made_it(tree: Tree) -> None:
    add(tree, PARENT, stack=7)
    add(tree, PID, ppid=PARENT, adj=-500, stack=7, flags=PF_FORKNOEXEC, session=PARENT)
    node = pinned()
    assert sibling_of(PID, PARENT, [node], View(tree.proc)) is node


def test_one_that_has_ended_has_no_maker(tree: Tree) -> None:
    assert sibling_of(PID, PARENT, [pinned()], View(tree.proc)) is None


@pytest.mark.parametrize(
    ("pin", "telling", "giving"),
    [
        (Pin("r", 0, -500, 0, 0.0, "exec"), True, True),
        (Pin("r", 0, -500, -500, 0.0, "exec"), False, False),
        (Pin("r", 0, 500, 0, 0.0, "exec"), True, False),
        (None, False, False),
    ],
)
def test_only_a_value_that_no_descendant_keeps_shows_the_parent(pin: Pin | None, telling: bool, giving: bool) -> None:
    node = Node(PINNED, 5, None)
    node.pin = pin
    assert (is_telling(node), gives_away(node)) == (telling, giving)
    node.pin, node.former = None, pin
    assert (is_telling(node), gives_away(node)) == (telling, False)
