"""What comes before a write and what after it: a program runs on while it isn't pinned yet. Over a made-up /proc, which
stands still between the one and the other."""

import errno
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Hold, Node
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

PARENT, PID, CHILD = 10, 20, 30
RULE = Rule("fits", (Criterion("comm", (Pattern("fits"),)),), Action(500, 500))
EXEC = Trigger("exec", 3)


def value(tree: Tree, pid: int) -> int:
    return int((tree.root / f"proc/{pid}/oom_score_adj").read_text())


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.me()
    return tree


@pytest.fixture
def pinner(tree: Tree) -> Pinner:
    pinner = Pinner(RuleSet([RULE]), Ledger(None, ""), proc=tree.proc)
    pinner.family_unknown = False
    return pinner


def test_births_are_heard_of_after_the_write_and_reach_the_children_from_before_it(tree: Tree, pinner: Pinner) -> None:
    tree.process(PID, b"fits")
    tree.process(CHILD, b"child", ppid=PID)
    seen = []

    def hear() -> None:
        seen.append(value(tree, PID))
        pinner.forked(PID, 1, 1)
        pinner.forked(CHILD, PID, 2)

    pinner.look_and_hear(PID, EXEC, hear)

    assert (seen, value(tree, PID), value(tree, CHILD)) == ([500], 500, 500)
    assert not pinner.family_unknown


def test_of_one_whose_own_birth_is_not_heard_of_children_have_to_be_looked_for(tree: Tree, pinner: Pinner) -> None:
    tree.process(PID, b"fits")
    pinner.look_and_hear(PID, EXEC, lambda: pinner.forked(CHILD, PARENT, 1))
    assert pinner.family_unknown


@pytest.mark.parametrize("known", [PARENT, PID])
def test_births_are_heard_of_before_the_write_where_a_pid_of_the_family_is_known(
    tree: Tree, pinner: Pinner, known: int
) -> None:
    tree.process(known, b"fits")
    pinner.look(known, SCAN)
    tree.process(PID, b"fits", ppid=PARENT, adj=100)
    seen = []

    def hear() -> None:
        seen.append(value(tree, PID))
        pinner.forked(PID, PARENT, 2)

    pinner.look_and_hear(PID, EXEC, hear)

    assert (seen, value(tree, PID)) == ([100], 500)


def test_who_turns_out_to_be_a_child_of_a_dead_one_gives_back_what_that_had_before(tree: Tree, pinner: Pinner) -> None:
    tree.process(PARENT, b"fits")
    pinner.look(PARENT, SCAN)
    pinner.set_rules(RuleSet([Rule("low", RULE.criteria, Action(300, 300), children="reset")]))
    pinner.look(PARENT, SCAN)
    tree.process(PID, b"fits", adj=300)  # adopted: its parent is 1

    pinner.look_and_hear(PID, EXEC, lambda: pinner.forked(PID, PARENT, 2))

    hold = pinner.ledger.nodes[PID].hold
    assert hold is not None
    assert (hold.first, hold.value) == (0, 300)


def test_others_may_run_after_a_write_that_an_event_led_to(tree: Tree) -> None:
    pauses: list[int] = []
    pinner = Pinner(RuleSet([RULE]), Ledger(None, ""), proc=tree.proc, pause=lambda: pauses.append(value(tree, PID)))
    tree.process(PID, b"fits")
    pinner.look(PID, EXEC)
    assert pauses == [500]

    tree.process(PID, b"fits", adj=7)
    pinner.look(PID, SCAN)
    assert (pauses, value(tree, PID)) == ([500], 500)


# PIDs that came to mean another process before births were heard of.


def born(tree: Tree, pid: int, comm: bytes, *, ppid: int = 1, adj: int = 0) -> int:
    """Another process with a PID. Returns when it was born, CLOCK_MONOTONIC ns, which is its start time too."""
    now = time.monotonic_ns()
    tree.process(pid, comm, ppid=ppid, adj=adj)
    tree.write(
        f"proc/{pid}/stat", b"%d (%s) S %d %d %d 0 -1 0 " % (pid, comm, ppid, pid, pid) + b"0 " * 12 + b"%d 0" % now
    )
    return now


def test_a_dead_one_does_not_take_the_children_of_who_has_its_pid_next(tree: Tree, pinner: Pinner) -> None:
    first = born(tree, PID, b"fits")

    def hear() -> None:
        second = born(tree, PID, b"other")
        pinner.forked(PID, 1, first)
        pinner.forked(PID, 1, second)
        pinner.forked(CHILD, PID, born(tree, CHILD, b"other", ppid=PID))

    pinner.look_and_hear(PID, Trigger("exec", time.monotonic_ns()), hear)

    assert (value(tree, PID), value(tree, CHILD)) == (0, 0)


def test_nobody_descends_from_himself(tree: Tree, pinner: Pinner) -> None:
    """A process, its child, and a child of that, which has the PID of the first."""
    times = [born(tree, PID, b"fits") for _ in range(3)]

    def hear() -> None:
        pinner.forked(PID, 1, times[0])
        pinner.forked(CHILD, PID, times[1])
        pinner.forked(PID, CHILD, times[2])

    pinner.look_and_hear(PID, Trigger("exec", time.monotonic_ns()), hear)

    assert list(pinner.ledger.nodes[PID].ancestors()) == []


def test_who_has_the_pid_by_now_is_looked_at_and_not_who_had_it(tree: Tree, pinner: Pinner) -> None:
    born(tree, PARENT, b"fits")
    pinner.look(PARENT, SCAN)
    times = [born(tree, PID, b"other", ppid=PARENT, adj=500)]

    def hear() -> None:
        times.append(born(tree, PID, b"child", ppid=PARENT, adj=500))
        for at in times:
            pinner.forked(PID, PARENT, at)

    pinner.look_and_hear(PID, Trigger("exec", time.monotonic_ns()), hear)

    assert pinner.ledger.nodes[PID].starttime == times[1]


def test_a_child_that_is_held_before_its_parent_is_found_to_be_its_child(tree: Tree) -> None:
    """As of `sh -c 'worker & exec server'`."""
    worker = Rule("worker", (Criterion("comm", (Pattern("worker"),)),), Action(300, 300))
    pinner = Pinner(RuleSet([RULE, worker]), Ledger(None, ""), proc=tree.proc)
    born(tree, PID, b"sh")
    pinner.forked(PID, 1, time.monotonic_ns())
    at = born(tree, CHILD, b"worker", ppid=PID)
    pinner.look_and_hear(CHILD, Trigger("exec", time.monotonic_ns()), lambda: pinner.forked(CHILD, PID, at))

    tree.process(PID, b"fits")
    pinner.look_and_hear(PID, Trigger("exec", time.monotonic_ns()), lambda: None)

    assert pinner.ledger.nodes[CHILD].parent is pinner.ledger.nodes[PID]


def test_children_do_not_wait_for_each_other(tree: Tree) -> None:
    pauses: list[None] = []
    rule = Rule("fits", RULE.criteria, Action(500, 500), children=300)
    pinner = Pinner(RuleSet([rule]), Ledger(None, ""), proc=tree.proc, pause=lambda: pauses.append(None))
    tree.process(PARENT, b"fits")
    pinner.look(PARENT, SCAN)
    for child in (PID, CHILD):
        tree.process(child, b"child", ppid=PARENT, adj=500)
        pinner.forked(child, PARENT, time.monotonic_ns())
        assert value(tree, child) == 300
    assert pauses == []


def test_what_may_not_be_written_is_read(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A /proc that is mounted read-only."""
    really = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really(path, flags, mode, dir_fd=dir_fd)

    tree.process(PID, b"fits", adj=7)
    monkeypatch.setattr(os, "open", refuse)
    with ProcessDir(PID, tree.proc) as directory:
        assert directory.open_oom_score_adj() == 7
        with pytest.raises(OSError, match="Read-only"):
            directory.write_oom_score_adj(8)


names = st.text(st.characters(), max_size=20)


@given(rule=names)
def test_a_line_of_the_ledger_is_json(tmp_path_factory: pytest.TempPathFactory, rule: str) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    ledger = Ledger(str(path), "boot")
    ledger.rewrite()
    node = Node(PID, 7, None)
    node.hold = Hold(rule, -3, 500, 0, 1e9 + 0.25, "exec")
    node.left_to, node.settled_ns = rule, 5
    ledger.record(node)
    ledger.flush()
    ledger.close()

    hold = {"rule": rule, "first": -3, "value": 500, "child_value": 0, "since": 1e9 + 0.25, "source": "exec"}
    left = {"left_to": rule} if rule else {}
    line = json.loads(path.read_text().splitlines()[1])
    assert line == {"pid": PID, "starttime": 7, **left, "settled_ns": 5, "hold": hold}
