"""Processes that share their memory without being threads of one process, so that the kernel gives them one value; over
a made-up /proc, where the file of the value is one file."""

import shutil
import time
from dataclasses import replace

import pytest

from oomwatchd.base.uapi import PF_FORKNOEXEC
from oomwatchd.kernel.exec_filter import ALL_KINDS
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

PID, CHILD = 10, 20
ORIGINAL, PINNED = 100, 500
"""These and all other values have three digits, because a made-up file keeps the rest of a longer value."""
RULE = Rule("r", (Criterion("comm", (Pattern("fits"),)),), Action(PINNED, PINNED), children="reset")
SECOND = Rule("second", (Criterion("comm", (Pattern("second"),)),), Action(PINNED, PINNED))


class Machine:
    """A pinned process, and a fork of it."""

    def __init__(self, tree: Tree, *rules: Rule, dry_run: bool = False, original: int = ORIGINAL) -> None:
        self.tree = tree
        self.pinner = Pinner(RuleSet(rules or (RULE,)), Ledger(None, ""), proc=tree.proc, dry_run=dry_run)
        self.show(PID, b"fits", ppid=1)
        tree.write(f"proc/{PID}/oom_score_adj", original)
        self.pinner.look(PID, SCAN)
        self.pinner.writer.take_decisions()

    def show(self, pid: int, comm: bytes, *, ppid: int = PID, flags: int = 0, starttime: int = 0) -> None:
        value = self.tree.root / f"proc/{pid}/oom_score_adj"
        kept = value.read_bytes() if value.exists() else b""
        if not value.is_symlink():
            self.tree.process(pid, comm, ppid=ppid)
            value.write_bytes(kept)
        stat = f"{pid} ({comm.decode()}) S {ppid} {pid} {pid} 0 -1 {flags} " + "0 " * 12 + f"{starttime or pid * 10} 0"
        self.tree.write(f"proc/{pid}/stat", stat)

    def fork(self, comm: bytes = b"other", *, shares: bool = True, adj: int = PINNED, executed: bool = False) -> None:
        self.show(CHILD, comm, flags=0 if executed else PF_FORKNOEXEC)
        value = self.tree.root / f"proc/{CHILD}/oom_score_adj"
        value.unlink()
        if shares:
            value.symlink_to(f"../{PID}/oom_score_adj")
        else:
            value.write_text(f"{adj}\n")
        self.pinner.forked(CHILD, PID, time.monotonic_ns())
        self.pinner.look(CHILD, SCAN)

    def unshare(self) -> None:
        """The fork executes a program, so that it gets a memory and a value of its own."""
        value = self.tree.root / f"proc/{CHILD}/oom_score_adj"
        value.unlink()
        value.write_text(f"{PINNED}\n")
        self.show(CHILD, b"other")

    @property
    def values(self) -> tuple[int, int]:
        first, second = ((self.tree.root / f"proc/{pid}/oom_score_adj").read_text() for pid in (PID, CHILD))
        return int(first), int(second)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """PID and value of each write."""
    really, made = ProcessDir.write_oom_score_adj, list[tuple[int, int]]()

    def write(directory: ProcessDir, value: int) -> None:
        made.append((directory.pid, value))
        really(directory, value)

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", write)
    return made


def test_a_fork_that_shares_the_memory_is_left_the_pinned_value(tree: Tree, written: list[tuple[int, int]]) -> None:
    machine = Machine(tree)
    machine.fork()

    assert machine.values == (PINNED, PINNED)
    node = machine.pinner.ledger.nodes[CHILD]
    assert (node.memory_of, node.settled) == (machine.pinner.ledger.nodes[PID], False)
    assert machine.pinner.writer.take_decisions() == []
    written.clear()
    machine.pinner.look(CHILD, SCAN)
    assert written == []


def test_a_fork_that_has_a_memory_of_its_own_gets_what_children_says(tree: Tree) -> None:
    machine = Machine(tree)
    machine.fork(shares=False)

    assert machine.values == (PINNED, ORIGINAL)
    assert machine.pinner.ledger.nodes[CHILD].settled


def test_when_the_fork_executes_a_program_it_gets_what_children_says(tree: Tree) -> None:
    machine = Machine(tree)
    machine.fork()
    machine.unshare()

    machine.pinner.look(CHILD, Trigger("exec", time.monotonic_ns()))

    assert machine.values == (PINNED, ORIGINAL)
    assert machine.pinner.ledger.nodes[CHILD].memory_of is None


def test_when_the_pinned_process_is_released_both_get_its_original_value(tree: Tree) -> None:
    machine = Machine(tree)
    machine.fork()
    machine.show(PID, b"other", ppid=1)

    machine.pinner.look(PID, Trigger("comm", time.monotonic_ns()))

    assert machine.values == (ORIGINAL, ORIGINAL)
    assert machine.pinner.ledger.nodes[CHILD].settled


def test_when_the_pinned_process_has_ended_the_fork_gets_what_children_says(tree: Tree) -> None:
    machine = Machine(tree)
    machine.fork()
    value = tree.root / f"proc/{CHILD}/oom_score_adj"
    value.unlink()
    value.write_text(f"{PINNED}\n")
    shutil.rmtree(tree.root / f"proc/{PID}")
    machine.pinner.family.exited(PID, time.monotonic_ns())

    machine.pinner.look(CHILD, SCAN)

    assert int(value.read_text()) == ORIGINAL


def test_a_value_that_somebody_has_given_the_pinned_process_meanwhile_is_no_sign(tree: Tree) -> None:
    """The next scan deals with it."""
    machine = Machine(tree)
    tree.write(f"proc/{PID}/oom_score_adj", ORIGINAL)
    machine.fork(shares=False)

    assert machine.values == (ORIGINAL, ORIGINAL)
    assert machine.pinner.ledger.nodes[CHILD].settled
    assert [each.event for each in machine.pinner.writer.take_decisions()] == ["reset-child"]
    machine.pinner.look(PID, SCAN)
    assert machine.values == (PINNED, ORIGINAL)


@pytest.mark.parametrize("is_another", [False, True])
def test_only_the_pinned_process_and_a_fork_of_it_can_share(
    tree: Tree, written: list[tuple[int, int]], is_another: bool
) -> None:
    """Not another process that has its PID, and not one that has executed a program."""
    machine = Machine(tree)
    tree.write(f"proc/{PID}/oom_score_adj", ORIGINAL)
    machine.pinner.forked(CHILD, PID, time.monotonic_ns())
    if is_another:
        machine.show(PID, b"another", ppid=1, starttime=5)
    written.clear()

    machine.fork(shares=False, executed=not is_another)

    assert written == [(CHILD, ORIGINAL)]


def test_a_dry_run_writes_to_nobody(tree: Tree, written: list[tuple[int, int]]) -> None:
    machine = Machine(tree, dry_run=True)
    machine.fork(shares=False)

    assert (machine.values, written) == ((ORIGINAL, PINNED), [])


def test_a_release_of_the_fork_alone_leaves_both_the_pinned_value(tree: Tree) -> None:
    machine = Machine(tree, RULE, SECOND)
    machine.fork(b"second")
    assert machine.pinner.ledger.nodes[CHILD].rule == "second"
    machine.pinner.writer.take_decisions()
    machine.show(CHILD, b"other", flags=PF_FORKNOEXEC)

    machine.pinner.look(CHILD, Trigger("comm", time.monotonic_ns()))

    assert machine.values == (PINNED, PINNED)
    (decision,) = machine.pinner.writer.take_decisions()
    assert (decision.event, decision.rule, decision.old, decision.new) == ("released", "second", PINNED, PINNED)
    assert machine.pinner.ledger.nodes[CHILD].memory_of is machine.pinner.ledger.nodes[PID]
    assert machine.pinner.ledger.nodes[CHILD].settled_ns == 0


class Pair:
    """A parent that no rule fits, and a fork of it that a rule fits."""

    def __init__(self, tree: Tree, *, parent: int = PID, shares: bool = True, adj: int = ORIGINAL) -> None:
        self.tree, self.parent = tree, parent
        self.pinner = Pinner(RuleSet([SECOND]), Ledger(None, ""), proc=tree.proc)
        tree.process(parent, b"other", adj=adj)
        tree.process(CHILD, b"second", ppid=parent, adj=ORIGINAL)
        self.show(CHILD, "second", PF_FORKNOEXEC)
        if shares:
            value = tree.root / f"proc/{CHILD}/oom_score_adj"
            value.unlink()
            value.symlink_to(f"../{parent}/oom_score_adj")
        self.pinner.look(CHILD, Trigger("uid", time.monotonic_ns()))

    def show(self, pid: int, comm: str, flags: int = 0) -> None:
        ppid = self.parent if pid == CHILD else 1
        stat = f"{pid} ({comm}) S {ppid} {pid} {pid} 0 -1 {flags} " + "0 " * 12 + f"{pid * 10} 0"
        self.tree.write(f"proc/{pid}/stat", stat)

    def unshare(self) -> None:
        """Each has a memory and a value of its own from now on."""
        value = self.tree.root / f"proc/{CHILD}/oom_score_adj"
        current = value.read_text()
        value.unlink()
        value.write_text(current)

    @property
    def values(self) -> tuple[int, int]:
        first, second = ((self.tree.root / f"proc/{pid}/oom_score_adj").read_text() for pid in (self.parent, CHILD))
        return int(first), int(second)

    @property
    def pinned(self) -> list[int]:
        return sorted(node.pid for node in self.pinner.ledger.pinned())


def test_a_parent_that_gets_the_value_of_the_fork_is_pinned_by_its_rule(tree: Tree) -> None:
    pair = Pair(tree)

    assert (pair.values, pair.pinned) == ((PINNED, PINNED), [PID, CHILD])
    pin = pair.pinner.ledger.nodes[PID].pin
    assert pin is not None
    assert (pin.rule, pin.original, pin.target, pin.child_value) == ("second", ORIGINAL, PINNED, ORIGINAL)
    decisions = pair.pinner.writer.take_decisions()
    assert sorted((each.event, each.pid, each.rule, each.old, each.new) for each in decisions) == [
        ("pinned", PID, "second", ORIGINAL, PINNED),
        ("pinned", CHILD, "second", ORIGINAL, PINNED),
    ]
    assert pair.pinner.ledger.nodes[PID].hear == ALL_KINDS
    pair.pinner.look(PID, SCAN)
    assert (pair.values, pair.pinned) == ((PINNED, PINNED), [PID, CHILD])
    assert pair.pinner.writer.take_decisions() == []


@pytest.mark.parametrize("adj", [ORIGINAL, PINNED])
def test_a_parent_that_shares_nothing_is_left_alone(tree: Tree, adj: int) -> None:
    """It may have the pinned value by itself."""
    pair = Pair(tree, shares=False, adj=adj)
    assert pair.pinned == [CHILD]


def test_init_is_no_such_parent(tree: Tree) -> None:
    pair = Pair(tree, parent=1)
    assert pair.pinned == [CHILD]


def test_the_parent_follows_another_value_of_the_rule(tree: Tree) -> None:
    pair = Pair(tree)
    pair.pinner.set_rules(RuleSet([replace(SECOND, action=Action(600, 600))]))
    pair.pinner.writer.take_decisions()

    pair.pinner.look(CHILD, Trigger("reload"))

    pin = pair.pinner.ledger.nodes[PID].pin
    assert pin is not None
    assert (pair.values, pin.original, pin.target) == ((600, 600), ORIGINAL, 600)
    assert [each.pid for each in pair.pinner.writer.take_decisions()] == [CHILD]


def test_when_the_fork_executes_a_program_both_are_released(tree: Tree) -> None:
    pair = Pair(tree)
    pair.unshare()
    pair.show(CHILD, "other")

    pair.pinner.look(CHILD, Trigger("exec", time.monotonic_ns()))

    assert (pair.values, pair.pinned) == ((ORIGINAL, ORIGINAL), [])


def test_when_the_parent_executes_a_program_it_is_released(tree: Tree) -> None:
    pair = Pair(tree)
    pair.unshare()

    pair.pinner.look(PID, Trigger("exec", time.monotonic_ns()))

    assert (pair.values, pair.pinned) == ((ORIGINAL, PINNED), [CHILD])


@pytest.mark.parametrize("is_told", [True, False])
def test_when_the_fork_has_ended_the_parent_is_released(tree: Tree, is_told: bool) -> None:
    pair = Pair(tree)
    shutil.rmtree(tree.root / f"proc/{CHILD}")
    if is_told:
        pair.pinner.family.exited(CHILD, time.monotonic_ns())

    pair.pinner.look(PID, SCAN)

    assert int((tree.root / f"proc/{PID}/oom_score_adj").read_text()) == ORIGINAL
