"""Which rule fits a process, also where its path leads to another file by now; on a made-up /proc."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from oomwatchd.kernel.facts import View
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.decider import Decider
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.lineage import Node, Pin, VerifiedExe
from oomwatchd.pinning.look import Look
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

PARENT, PID = 10, 20
BEFORE = "/srv/before"
"""The path at which the program was verified."""
LOWERS, RAISES = Action(-5, -5), Action(low=5)


def rule(name: str, *criteria: tuple[str, str], action: Action = LOWERS) -> Rule:
    return Rule(name, tuple(Criterion(key, (Pattern(value),)) for key, value in criteria), action)


BY_PATH, BY_NAME = rule("by path", ("exe", BEFORE)), rule("by name", ("comm", "program"), action=RAISES)


@dataclass
class Made:
    """A process that runs a file, whose path is another one than before; and its parent, which runs the same."""

    tree: Tree
    directory: ProcessDir
    exe: bytes
    verified: VerifiedExe
    parent: Node
    node: Node

    def look(self, source: str = "scan", event_ns: int = 0, rule_before: str = "") -> Look:
        return Look(self.directory, self.node, Trigger(source, event_ns), rule_before=rule_before)

    def decide(self, rules: Sequence[Rule], look: Look | None = None, pin: RuntimePin | None = None) -> str | None:
        """The name of the rule that fits."""
        return self.decided(rules, look, pin)[0]

    def decided(
        self, rules: Sequence[Rule], look: Look | None = None, pin: RuntimePin | None = None
    ) -> tuple[str | None, bool]:
        """The name of the rule that fits, and whether facts were read."""
        rule_set = RuleSet(rules)
        decider = Decider(rule_set, View(self.tree.proc), Prefilter(rule_set, self.tree.proc))
        found, process = decider.decide(look or self.look(), self.directory.read_stat(), self.exe, pin)
        return (None if found is None else found.name), process is not None


@pytest.fixture
def made(tree: Tree) -> Iterator[Made]:
    tree.write("program", "")
    file = tree.root / "program"
    for pid, ppid in ((PARENT, 1), (PID, PARENT)):
        tree.process(pid, b"program", ppid=ppid)
        (tree.root / f"proc/{pid}/exe").symlink_to(file)
    status = file.stat()
    parent = Node(PARENT, PARENT * 10, None)
    with ProcessDir(PID, tree.proc) as directory:
        node = Node(PID, PID * 10, parent)
        verified = VerifiedExe(BEFORE, (status.st_dev, status.st_ino))
        yield Made(tree, directory, os.fsencode(file), verified, parent, node)


def test_a_runtime_pin_comes_before_all_rules(made: Made) -> None:
    assert made.decided([BY_NAME], pin=RuntimePin(PID, PID * 10, 300)) == (f"pin {PID}", False)
    assert made.decide([BY_NAME], pin=RuntimePin(PID, PID * 10 + 1, 300)) == "by name"


def test_nothing_is_read_of_a_process_that_no_rule_can_fit(made: Made) -> None:
    assert made.decided([rule("r", ("comm", "other"))]) == (None, False)
    assert made.decided([BY_NAME]) == ("by name", True)


def test_a_program_that_was_verified_keeps_its_rule(made: Made) -> None:
    assert made.decide([BY_PATH]) is None

    made.node.verified_exe = made.verified

    assert made.decided([BY_PATH]) == ("by path", True)
    assert made.decide([BY_NAME, BY_PATH]) == "by name"
    made.node.verified_exe = VerifiedExe(BEFORE, (made.verified.file[0], made.verified.file[1] + 1))
    assert made.decide([BY_PATH]) is None


@pytest.mark.parametrize(
    ("source", "event_ns", "keeps"),
    [("scan", 0, True), ("comm", 7, True), ("exec", 0, True), ("exec", 7, False), ("exec", 6, True), ("exec", 5, True)],
)
def test_another_program_has_to_be_verified_anew(made: Made, source: str, event_ns: int, keeps: bool) -> None:
    """Not the one that a scan has seen before its event was read."""
    made.node.verified_exe, made.node.seen_ns = made.verified, 6

    assert made.decide([BY_PATH], made.look(source, event_ns)) == ("by path" if keeps else None)


def test_the_path_before_comes_before_the_path_now_but_not_before_the_rule_in_force(made: Made) -> None:
    now = rule("now", ("exe", os.fsdecode(made.exe)), action=RAISES)
    made.node.verified_exe = made.verified
    assert made.decide([now, BY_PATH]) == "by path"
    assert made.decide([now]) == "now"

    made.node.pin = Pin("now", 0, 5, 5, 0.0, "scan")

    assert made.decide([now, BY_PATH]) == "now"
    made.node.pin = Pin("by path", 0, -5, 0, 0.0, "scan")
    assert made.decide([now, BY_PATH]) == "by path"


@pytest.mark.parametrize("change", ["", "dead", "other path", "gone"])
def test_a_child_of_a_verified_program_that_runs_it_too_has_its_rule(made: Made, change: str) -> None:
    made.parent.verified_exe = made.verified
    link = made.tree.root / f"proc/{PARENT}/exe"
    if change == "dead":
        made.parent.dead = True
    elif change == "other path":
        link.unlink()
        link.symlink_to("/srv/other")
    elif change == "gone":
        shutil.rmtree(link.parent)

    assert made.decide([BY_PATH]) == (None if change else "by path")
    # A look that follows an exec of a relative has no time of an event.
    assert made.decide([BY_PATH], made.look("exec", 0)) == (None if change else "by path")


def test_the_program_of_the_process_counts_before_that_of_its_parent(made: Made) -> None:
    made.parent.verified_exe = made.verified
    made.node.verified_exe = VerifiedExe("/srv/own", made.verified.file)

    assert made.decide([rule("own", ("exe", "/srv/own")), BY_PATH]) == "own"
    assert made.decide([BY_PATH]) is None


def test_the_rules_of_ancestors_are_asked_for(made: Made) -> None:
    below = Rule("below", (Criterion("descendant_of", names=("above",)),), RAISES)
    assert made.decide([below]) is None

    made.parent.pin = Pin("above", 0, 5, 5, 0.0, "scan")

    assert made.decide([below]) == "below"
    made.node.parent = None
    assert made.decide([below]) is None


@pytest.mark.parametrize(
    ("rules", "verified", "nameable"),
    [
        ([rule("r", ("comm", "program"))], False, True),
        ([rule("r", ("comm", "other"))], False, False),
        ([BY_PATH], False, False),
        ([BY_PATH], True, True),
    ],
)
def test_whether_a_rule_may_fit_after_another_event(
    made: Made, rules: list[Rule], verified: bool, nameable: bool
) -> None:
    made.node.verified_exe = made.verified if verified else None

    made.decide(rules)

    assert made.node.nameable is nameable


def test_a_rule_that_asks_for_this_executable_and_another_name_may_fit_after_a_change_of_the_name(made: Made) -> None:
    made.decide([rule("r", ("exe", os.fsdecode(made.exe)), ("comm", "other"))])

    assert made.node.nameable


@pytest.mark.parametrize(
    ("rule_before", "rules", "ends", "raises"),
    [
        ("before", ["before"], True, True),  # what the rule asks for is gone
        ("before", ["before"], False, False),
        ("", ["before"], True, False),
        ("gone", ["before"], True, False),
        ("by name", ["before", "by name"], True, False),  # it fits still
        ("before", ["before", "by name"], True, True),
    ],
)
def test_a_process_that_is_being_ended_keeps_its_rule(
    made: Made, rule_before: str, rules: list[str], ends: bool, raises: bool
) -> None:
    known = {"before": rule("before", ("unit", "a.service")), "by name": BY_NAME}
    if ends:
        made.tree.write(f"proc/{PID}/stat", f"{PID} (program) Z 1 20 20 0 -1 0 " + "0 " * 10 + "1 0 200 0")
    look = made.look(rule_before=rule_before)

    if raises:
        with pytest.raises(Vanished):
            made.decide([known[name] for name in rules], look)
        return
    assert made.decide([known[name] for name in rules], look) == ("by name" if "by name" in rules else None)


def test_after_an_exec_the_budgets_of_the_program_before_are_forgotten(made: Made) -> None:
    rules, view, told = RuleSet(()), View(made.tree.proc), list[tuple[int, int]]()
    decider = Decider(rules, view, Prefilter(rules, made.tree.proc))
    for part in (rules.searches, view.command_lines):
        part.executed = lambda pid, event_ns: told.append((pid, event_ns))  # type: ignore

    decider.note_exec(made.look("exec", 7))

    assert told == [(PID, 7)] * 2
