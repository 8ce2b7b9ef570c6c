"""The short way from an exec event to the write, for programs whose executable alone says which rule fits."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.look import Look
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

PROGRAM, OTHER = "/srv/a-program-with-a-long-name", "/srv/other"
FIRST, PID, CHILD = 10, 20, 30
BY_EXE = Rule("program", (Criterion("exe", (Pattern(PROGRAM),)),), Action(500, 500), guarded=False)
BY_COMM = Rule("named", (Criterion("comm", (Pattern("named"),)),), Action(300, 300), guarded=False)
RESETTING = Rule("program", BY_EXE.criteria, Action(500, 500), children="reset", guarded=False)


def started(
    tree: Tree, pid: int, exe: str = PROGRAM, *, ppid: int = 1, adj: int = 100, nspid: str | None = None
) -> None:
    tree.process(pid, b"program", ppid=ppid, adj=adj, nspid=nspid)
    tree.write(f"proc/{pid}/comm", b"program\n")
    (tree.root / f"proc/{pid}/exe").symlink_to(exe)


def value(tree: Tree, pid: int) -> int:
    return int((tree.root / f"proc/{pid}/oom_score_adj").read_text())


def pinner_that_knows(tree: Tree, *rules: Rule) -> Pinner:
    """One that has met the program before."""
    pinner = Pinner(RuleSet(rules), Ledger(None, ""), proc=tree.proc)
    started(tree, FIRST)
    pinner.look(FIRST, SCAN)
    shutil.rmtree(tree.root / f"proc/{FIRST}")
    pinner.family.exited(FIRST, time.monotonic_ns())
    pinner.writer.take_decisions()
    return pinner


def executed() -> Trigger:
    return Trigger("exec", time.monotonic_ns())


def test_all_but_the_executable_is_read_after_the_write(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    pinner = pinner_that_knows(tree, BY_EXE)
    started(tree, PID)
    really, read = ProcessDir._read, set[str]()

    def reading(directory: ProcessDir, path: str, limit: int, offset: int = 0) -> bytes:
        read.add(path)
        return really(directory, path, limit, offset)

    monkeypatch.setattr(ProcessDir, "_read", reading)

    assert pinner.begin(PID, "exec", time.monotonic_ns())
    assert (value(tree, PID), read) == (500, {"status"})  # its namespace, where the link isn't to be had
    pinner.finish()

    (decision,) = pinner.writer.take_decisions()
    assert (decision.event, decision.old, decision.new, decision.comm) == ("pinned", 100, 500, "program")
    assert (decision.exe, decision.uid, decision.source) == (PROGRAM, 0, "exec")
    node = pinner.ledger.nodes[PID]
    assert node.starttime == PID * 10
    assert node.pin is not None
    assert node.pin.original == 100


def test_a_value_may_come_from_an_ancestor_that_is_found_only_then(tree: Tree) -> None:
    below = Rule("below", (Criterion("exe", (Pattern(OTHER),)),), Action(700), guarded=False)
    pinner = pinner_that_knows(tree, RESETTING, below)
    started(tree, FIRST, OTHER)
    pinner.look(FIRST, SCAN)  # so that the other executable is known, too
    started(tree, PID)
    pinner.look(PID, executed())
    started(tree, CHILD, OTHER, ppid=PID, adj=500)  # a child whose fork wasn't heard of

    assert pinner.begin(CHILD, "exec", time.monotonic_ns())
    assert value(tree, CHILD) == 700
    pinner.finish()

    pin = pinner.ledger.nodes[CHILD].pin
    assert pin is not None
    assert (pin.original, pin.target, pin.child_value) == (100, 700, 700)
    assert [node.pid for node in pinner.ledger.nodes[CHILD].ancestors()] == [PID]


@pytest.mark.parametrize(
    ("rules", "nspid"),
    [
        ((BY_COMM, BY_EXE), None),  # the name may make the rule before it fit
        ((BY_EXE,), "20 1"),  # a container or a sandbox
    ],
)
def test_more_has_to_be_known(tree: Tree, rules: tuple[Rule, ...], nspid: str | None) -> None:
    pinner = pinner_that_knows(tree, *rules)
    started(tree, PID, nspid=nspid)

    pinner.begin(PID, "exec", time.monotonic_ns())

    assert isinstance(pinner._unfinished, Look)
    assert pinner._unfinished.stat is not None
    pinner.finish()


def test_a_refused_write_is_logged_once(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinner = pinner_that_knows(tree, BY_EXE)
    started(tree, PID)

    def refuse(directory: ProcessDir, value: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", refuse)

    pinner.look(PID, executed())
    pinner.look(PID, executed())

    assert [decision.event for decision in pinner.writer.take_decisions()] == ["pin-failed"]
    assert pinner.ledger.pinned() == []


def test_an_early_pin_of_a_process_that_ends_at_once_is_logged(tree: Tree) -> None:
    pinner = pinner_that_knows(tree, BY_EXE)
    started(tree, PID)
    assert pinner.begin(PID, "exec", time.monotonic_ns())
    shutil.rmtree(tree.root / f"proc/{PID}")

    pinner.finish()
    pinner.family.exited(PID, time.monotonic_ns())

    (decision,) = pinner.writer.take_decisions()
    assert (decision.event, decision.comm, decision.uid) == ("pinned", "a-program-with-", None)
    assert pinner.ledger.nodes == {}
