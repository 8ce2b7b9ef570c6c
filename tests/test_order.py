"""Events are dealt with in their order, each as it comes; over a made-up /proc, which shows what has become of the
processes since. And what the ledger's file looks like."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.base import clock
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

PARENT, PID, CHILD, GRANDCHILD = 10, 20, 30, 40
FITS = (Criterion("comm", (Pattern("fits"),)),)
RULE = Rule("fits", FITS, Action(500, 500))
RESETTING = Rule("fits", FITS, Action(500, 500), children="reset")


def value(tree: Tree, pid: int) -> int:
    return int((tree.root / f"proc/{pid}/oom_score_adj").read_text())


@pytest.fixture(autouse=True)
def fine_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start times are nanoseconds here."""
    monkeypatch.setattr(clock, "TICKS_PER_SECOND", 1_000_000_000)


def pinner_with(tree: Tree, *rules: Rule) -> Pinner:
    return Pinner(RuleSet(rules), Ledger(None, ""), proc=tree.proc)


def forked(tree: Tree, pid: int, comm: bytes, *, ppid: int = 1, adj: int = 0, sid: int | None = None) -> int:
    """Another process with a PID. Returns when it was forked, CLOCK_MONOTONIC ns, which is its start time too."""
    now = time.monotonic_ns()
    tree.process(pid, comm, ppid=ppid, adj=adj)
    tree.write(f"proc/{pid}/comm", comm + b"\n")
    tree.write(
        f"proc/{pid}/stat",
        b"%d (%s) S %d %d %d 0 -1 0 " % (pid, comm, ppid, pid, sid or pid) + b"0 " * 10 + b"1 0 %d 0" % now,
    )
    return now


def ended(tree: Tree, pid: int) -> None:
    shutil.rmtree(tree.root / f"proc/{pid}")


def executed(pinner: Pinner, pid: int) -> None:
    """Its exec event is read."""
    if pinner.candidates.concerns(pid):
        pinner.look(pid, Trigger("exec", time.monotonic_ns()))


def test_daemonized_grandchildren_are_known_however_late_their_events_are_read(tree: Tree) -> None:
    pinner = pinner_with(tree, RESETTING)
    times = [forked(tree, PARENT, b"fits"), forked(tree, PID, b"other"), forked(tree, CHILD, b"other", adj=500)]
    executed(pinner, PARENT)
    ended(tree, PID)

    pinner.forked(PID, PARENT, times[1])
    for other in range(100, 40_000):
        pinner.forked(other, 99, times[1])
    pinner.forked(CHILD, PID, times[2])
    pinner.family.exited(PID, time.monotonic_ns())

    assert value(tree, CHILD) == 0
    assert pinner.ledger.nodes.keys() == {PARENT, CHILD}


def test_one_that_had_ended_when_its_exec_event_was_read_has_children_that_are_looked_at(tree: Tree) -> None:
    pinner = pinner_with(tree, RULE)
    at = forked(tree, GRANDCHILD, b"fits")

    executed(pinner, PID)
    pinner.forked(CHILD, PID, at)
    pinner.forked(GRANDCHILD, CHILD, at)
    for pid in (PID, CHILD):
        pinner.family.exited(pid, at)

    assert value(tree, GRANDCHILD) == 500
    assert pinner.tracking.table.items().keys() == {GRANDCHILD}


def test_children_from_before_the_exec_are_found(tree: Tree) -> None:
    """As of `sh -c 'worker & exec server'`."""
    worker = Rule("worker", (Criterion("comm", (Pattern("worker"),)),), Action(300, 300))
    pinner = pinner_with(tree, RESETTING, worker)
    forked(tree, PID, b"sh")
    forked(tree, CHILD, b"worker", ppid=PID)
    executed(pinner, CHILD)
    forked(tree, PID, b"fits")
    forked(tree, CHILD, b"worker", ppid=PID, adj=300)
    forked(tree, GRANDCHILD, b"other", ppid=PID, adj=500)
    tree.write(f"proc/{PID}/task/{PID}/children", b"%d %d " % (CHILD, GRANDCHILD))

    executed(pinner, PID)

    assert value(tree, GRANDCHILD) == 0
    assert pinner.ledger.nodes[GRANDCHILD].parent is pinner.ledger.nodes[PID]


def test_where_the_kernel_does_not_tell_of_children_a_scan_has_to_find_them(tree: Tree) -> None:
    pinner = pinner_with(tree, RULE)
    pinner.relatives.unknown = False
    forked(tree, PID, b"fits")
    executed(pinner, PID)
    assert pinner.relatives.unknown


def test_one_that_is_gone_makes_no_scan_look_for_its_children(tree: Tree) -> None:
    """The kernel doesn't know any more whose children they were, and to ask for it takes four times what a scan does
    without."""
    pinner = pinner_with(tree, RULE)
    pinner.relatives.unknown = False
    forked(tree, PID, b"fits")
    pinner.begin(PID, "exec", time.monotonic_ns())
    shutil.rmtree(tree.root / f"proc/{PID}")
    pinner.finish()
    assert not pinner.relatives.unknown


def test_looking_for_relatives_pauses_after_each_process(tree: Tree) -> None:
    pinner = pinner_with(tree, RULE)
    pids = range(100, 150)
    for pid in pids:
        forked(tree, pid, b"other")
    assert len(list(pinner.relatives.gather(pids))) == len(pids)
    assert len(list(pinner.look_at_relatives(()))) >= len(pids)


def test_a_dead_one_does_not_take_the_children_of_who_has_its_pid_next(tree: Tree) -> None:
    pinner = pinner_with(tree, RULE)
    first = forked(tree, PID, b"fits")
    executed(pinner, PID)

    second = forked(tree, PID, b"other")
    third = forked(tree, CHILD, b"other", ppid=PID)
    pinner.family.exited(PID, first)
    pinner.forked(PID, 1, second)
    pinner.forked(CHILD, PID, third)

    assert (value(tree, PID), value(tree, CHILD)) == (0, 0)
    assert not pinner.ledger.nodes


@pytest.mark.parametrize("known", [True, False])
def test_who_has_the_pid_of_a_child_next_is_not_taken_for_it(tree: Tree, known: bool) -> None:
    """The child has ended, and another process had its PID, before any of this was read."""
    pinner = pinner_with(tree, RESETTING)
    forked(tree, PARENT, b"fits")
    executed(pinner, PARENT)
    first = forked(tree, CHILD, b"other", ppid=PARENT, adj=500)
    ended(tree, CHILD)
    end = time.monotonic_ns()
    second = forked(tree, CHILD, b"other", ppid=99, adj=500)

    pinner.forked(CHILD, PARENT, first)
    assert value(tree, CHILD) == 500
    if known:
        pinner.look(CHILD, SCAN)
    pinner.family.exited(CHILD, end)
    pinner.forked(CHILD, 99, second)
    pinner.look(CHILD, SCAN)

    assert value(tree, CHILD) == 500
    assert pinner.ledger.nodes.keys() == {PARENT}


def test_who_has_the_pid_of_an_early_pin_next_is_not_pinned(tree: Tree) -> None:
    """The process ended after the write, before its start time could be read."""
    exe = Rule("program", (Criterion("exe", (Pattern("/srv/fits"),)),), Action(500, 500), guarded=False)
    pinner = pinner_with(tree, exe)
    for pid in (PARENT, PID):  # the first one makes the executable known
        forked(tree, pid, b"fits", ppid=99)
        (tree.root / f"proc/{pid}/exe").symlink_to("/srv/fits")
        assert pinner.begin(pid, "exec", time.monotonic_ns())
        ended(tree, pid)
        pinner.finish()
    pinner.family.exited(PARENT, time.monotonic_ns())
    forked(tree, PID, b"other", adj=500)

    pinner.look(PID, SCAN)

    assert value(tree, PID) == 500
    assert not pinner.ledger.nodes


def test_nobody_descends_from_himself(tree: Tree) -> None:
    """A process, its child, and a child of that, which has the PID of the first. Its end was lost."""
    pinner = pinner_with(tree, RULE)
    forked(tree, PID, b"fits")
    executed(pinner, PID)
    times = [forked(tree, CHILD, b"fits", ppid=PID), forked(tree, PID, b"fits", ppid=CHILD, adj=500)]

    pinner.forked(CHILD, PID, times[0])
    pinner.forked(PID, CHILD, times[1])

    assert [node.pid for node in pinner.ledger.nodes[PID].ancestors()] == [CHILD, PID]
    assert pinner.ledger.nodes[PID] not in pinner.ledger.nodes[PID].ancestors()


def test_an_end_is_not_that_of_who_has_the_pid_by_now(tree: Tree) -> None:
    pinner = pinner_with(tree, RULE)
    at = time.monotonic_ns()
    forked(tree, PID, b"fits")
    pinner.look(PID, SCAN)

    pinner.family.exited(PID, at)

    assert pinner.ledger.nodes.keys() == {PID}


def test_the_end_of_the_first_thread_is_not_the_end(tree: Tree) -> None:
    pinner = pinner_with(tree, RULE)
    forked(tree, PID, b"fits")
    executed(pinner, PID)
    stat = tree.root / f"proc/{PID}/stat"
    stat.write_bytes(stat.read_bytes().replace(b") S", b") Z").replace(b" 1 0 ", b" 2 0 "))

    pinner.family.exited(PID, time.monotonic_ns())

    assert pinner.ledger.nodes.keys() == {PID}


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
    node.pin = Pin(rule, -3, 500, 0, 1e9 + 0.25, "exec")
    node.left_to, node.settled_ns = rule, 5
    ledger.record(node)
    ledger.flush()
    ledger.close()

    saved = {"rule": rule, "first": -3, "value": 500, "child_value": 0, "since": 1e9 + 0.25, "source": "exec"}
    left = {"left_to": rule} if rule else {}
    line = json.loads(path.read_text().splitlines()[1])
    assert line == {"pid": PID, "starttime": 7, **left, "settled_ns": 5, "hold": saved}


def saved_pin(ledger: Path) -> object:
    """The pin that a daemon would find which starts now."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()[1:]]
    return next((line.get("hold", {}).get("first") for line in reversed(lines) if line["pid"] == PID), None)


def test_what_a_process_had_is_saved_before_it_is_written(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger(str(path), "")
    ledger.load(lambda pid, starttime: True)
    pinner = Pinner(RuleSet([RULE]), ledger, proc=tree.proc)
    really, seen = ProcessDir.write_oom_score_adj, list[object]()

    def write(directory: ProcessDir, value: int) -> None:
        seen.append(saved_pin(path))
        really(directory, value)

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", write)
    forked(tree, PID, b"fits", adj=3)

    pinner.look(PID, SCAN)

    assert seen == [3]
    assert value(tree, PID) == 500


def no_such_process(directory: ProcessDir, value: int) -> None:
    raise Vanished


def not_permitted(directory: ProcessDir, value: int) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize("write", [no_such_process, not_permitted])
def test_only_written_values_are_held(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[ProcessDir, int], None]
) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger(str(path), "")
    ledger.load(lambda pid, starttime: True)
    pinner = Pinner(RuleSet([RULE]), ledger, proc=tree.proc)
    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", write)
    forked(tree, PID, b"fits", adj=3)

    pinner.look(PID, SCAN)
    ledger.flush()

    assert ledger.pinned() == []
    assert saved_pin(path) is None
    assert pinner.writer.hits == {}
