"""What is written when a rule fits, and what the ledger has before the write and after a refusal: a made-up /proc."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from oomwatchd.kernel.facts import View
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.ledger_codec import decode
from oomwatchd.pinning.lineage import Node, Pin, VerifiedExe
from oomwatchd.pinning.look import Look, Written
from oomwatchd.pinning.pin_writer import PinWriter
from oomwatchd.pinning.writer import Writer
from oomwatchd.rules.criteria import Process
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from tests.faketree import Tree

PID, PARENT = 20, 10
RULE = Rule("r", (Criterion("exe", (Pattern("/srv/program"),)),), Action(500, 500), children="reset", guarded=False)


@dataclass
class Made:
    """The parts, one process with the value 100, and a ledger with a file."""

    tree: Tree
    directory: ProcessDir
    ledger: Ledger
    writer: Writer
    pins: PinWriter
    path: Path
    now: float = 1000.0

    @property
    def value(self) -> int:
        return int((self.tree.root / f"proc/{PID}/oom_score_adj").read_text())

    def saved(self) -> list[Node]:
        """What the file says of processes, line by line."""
        lines = self.path.read_bytes().splitlines()[1:]
        return [line[0] for line in map(decode, lines) if isinstance(line, tuple)]

    def look(self, node: Node, source: str = "exec", event_ns: int = 0) -> Look:
        return Look(self.directory, node, Trigger(source, event_ns), stat=self.directory.read_stat())

    def pin(self, node: Node, rule: Rule = RULE, source: str = "exec", event_ns: int = 0) -> Look:
        look = self.look(node, source, event_ns)
        assert look.stat is not None
        self.pins.pin(look, look.stat, rule)
        return look


@pytest.fixture
def made(tree: Tree, tmp_path: Path) -> Iterator[Made]:
    tree.process(PID, b"program", adj=100)
    ledger = Ledger(str(tmp_path / "ledger.json"), "boot")
    assert ledger.load(lambda _pid, _starttime: True) is None
    view = View(tree.proc)
    writer = Writer(ledger, view, dry_run=False)
    with ProcessDir(PID, tree.proc) as directory:
        made = Made(tree, directory, ledger, writer, None, tmp_path / "ledger.json")  # type: ignore[arg-type]
        made.pins = PinWriter(ledger, writer, view, lambda: made.now)
        yield made
    ledger.close()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(directory: ProcessDir, value: int) -> None:
        raise PermissionError(errno.EACCES, "")

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", refuse)


# By the executable alone


def test_an_early_pin_is_in_the_file_before_the_write(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Node] = []
    really = ProcessDir.write_oom_score_adj

    def write(directory: ProcessDir, value: int) -> None:
        saved.extend(made.saved())
        really(directory, value)

    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", write)

    early = made.pins.pin_early(made.directory, b"/srv/program", RULE, 7_000)

    assert early is not None
    directory, exe, rule, was, event_ns, written_ns = early
    assert (directory, exe, rule, was, event_ns) == (made.directory, b"/srv/program", RULE, 100, 7_000)
    assert written_ns > event_ns
    assert made.value == 500
    (node,) = saved
    assert (node.pid, node.pin and (node.pin.original, node.pin.target)) == (PID, (100, 500))
    assert (node.pin and node.pin.source) == "exec"


def test_what_is_known_after_an_early_pin(made: Made) -> None:
    look = made.pins.complete_early(made.directory, b"/srv/program (deleted)", RULE, 100, 7_000, 2_007_999)

    assert look.written == Written("r", 100, 500, same=False, latency_us=2_000)
    assert (look.trigger.source, look.trigger.event_ns, look.changed, look.exe) == ("exec", 7_000, True, "/srv/program")
    node = made.ledger.nodes[PID]
    assert look.node is node
    assert (node.nameable, node.starttime, node.pin and node.pin.original) == (True, None, 100)
    look = made.pins.complete_early(made.directory, b"/srv/program", RULE, 100, 0, 2_007_999)
    assert look.written is not None and look.written.latency_us is None


def test_each_present_value_has_an_early_pin_of_its_own(made: Made) -> None:
    raising = Rule("r", RULE.criteria, Action(low=300))

    for was, target in ((100, 300), (200, 300), (100, 300)):
        made.tree.write(f"proc/{PID}/oom_score_adj", was)
        early = made.pins.pin_early(made.directory, b"/srv/program", raising, 0)
        assert early is not None and (early[3], made.value) == (was, target)
    assert [node.pin.original for node in made.saved() if node.pin is not None] == [100, 200, 100]


def test_nothing_is_written_early_if_the_value_is_right(made: Made) -> None:
    assert made.pins.pin_early(made.directory, b"", Rule("r", (), Action(100, 100)), 0) is None
    assert made.saved() == []


def test_nothing_is_written_early_in_a_dry_run(made: Made) -> None:
    made.writer.use(made.ledger, dry_run=True)

    assert made.pins.pin_early(made.directory, b"", RULE, 0) is None
    assert (made.saved(), made.value) == ([], 100)


@pytest.mark.parametrize(("link", "containers", "writes"), [(5, False, True), (6, False, False), (6, True, True)])
def test_a_process_in_another_pid_namespace_is_not_pinned_early(
    made: Made, link: int, containers: bool, writes: bool
) -> None:
    made.tree.me(pid_ns=5)
    view = View(made.tree.proc)
    pins = PinWriter(made.ledger, made.writer, view, lambda: 0.0)
    (made.tree.root / f"proc/{PID}/ns").mkdir()
    (made.tree.root / f"proc/{PID}/ns/pid").symlink_to(f"pid:[{link}]")
    rule = Rule("r", (), Action(500, 500), containers=containers)

    assert (pins.pin_early(made.directory, b"", rule, 0) is not None) is writes


@pytest.mark.usefixtures("refusing")
def test_a_refused_early_pin_is_taken_back(made: Made) -> None:
    assert made.pins.pin_early(made.directory, b"/srv/program", RULE, 0) is None

    made.ledger.flush()
    assert [(node.pid, node.pin is None) for node in made.saved()] == [(PID, False), (PID, True)]


# By all facts


def test_a_pin_is_written_and_told(made: Made) -> None:
    node = Node(PID, PID * 10, None)

    look = made.pin(node, event_ns=1)

    assert made.value == 500
    assert look.written is not None and look.written.latency_us is not None and look.written.latency_us > 0
    assert (look.written.rule, look.written.was, look.written.target, look.written.same) == ("r", 100, 500, False)
    assert look.changed
    assert made.ledger.nodes[PID] is node
    (saved,) = made.saved()
    assert saved.pin == node.pin is not None
    again = made.pin(node)
    assert (again.written, again.changed) == (None, False)
    made.ledger.flush()
    assert len(made.saved()) == 1


def test_without_an_event_nothing_took_long(made: Made) -> None:
    look = made.pin(Node(PID, PID * 10, None), source="scan")

    assert look.written is not None and look.written.latency_us is None


def test_a_value_that_was_changed_is_written_back_until_it_is_contended(made: Made) -> None:
    node = Node(PID, PID * 10, None)
    made.pin(node)

    events = []
    for _ in range(5):
        made.tree.write(f"proc/{PID}/oom_score_adj", 300)
        look = made.pin(node, source="scan")
        events.append((look.written and look.written.same, look.changed, made.value))

    assert events == [(True, False, 500)] * 3 + [(None, False, 300)] * 2
    (contended,) = made.writer.take_decisions()
    assert (contended.event, contended.rule, contended.old, contended.new) == ("contended", "r", 300, 500)
    made.now += 60
    assert made.pin(node, source="scan").written is not None


def test_a_right_value_is_noted_as_a_pin(made: Made) -> None:
    node = Node(PID, PID * 10, None)

    look = made.pin(node, Rule("r", (), Action(100, 100)))

    assert (look.written, look.changed) == (None, True)
    assert node.pin is not None and (node.pin.original, node.pin.target) == (100, 100)
    assert [saved.pin for saved in made.saved()] == [node.pin]
    assert node.described


def test_a_dry_run_notes_a_pin_and_no_drift(made: Made) -> None:
    made.writer.use(made.ledger, dry_run=True)
    node = Node(PID, PID * 10, None)

    assert made.pin(node).written is not None
    again = made.pin(node)

    assert (again.written, again.changed, made.value) == (None, False, 100)
    assert made.writer.take_decisions() == []


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("before", [None, Pin("old", 50, 100, 50, 0.0, "scan")])
def test_after_a_refusal_the_pin_is_what_it_was(made: Made, before: Pin | None) -> None:
    node = Node(PID, PID * 10, None)
    node.pin = before
    if before is not None:
        made.ledger.enter(node)

    assert made.pin(node).written is None

    assert (node.pin, node.former, node.refused) == (before, None, ("r", errno.EACCES))
    assert (PID in made.ledger.nodes) is (before is not None)
    made.ledger.flush()
    last = made.saved()[-1]
    assert (last.pin, last.dead) == (before, before is None)
    decisions = [(each.event, each.rule, each.old, each.new) for each in made.writer.take_decisions()]
    assert decisions == [("pin-failed", "r", 100, 500)]
    made.pin(node)
    assert made.writer.counters.failures == 1  # it isn't tried again by this rule
    made.pin(node, Rule("another", (), Action(300, 300)))
    assert made.writer.counters.failures == 2


@pytest.mark.parametrize(
    ("target", "source", "known", "writes"),
    [(100, "scan", False, True), (100, "fork", True, True), (100, "scan", True, False), (-300, "scan", False, False)],
)
def test_an_inherited_floor_is_raised_although_the_value_is_right(
    made: Made, monkeypatch: pytest.MonkeyPatch, target: int, source: str, known: bool, writes: bool
) -> None:
    written: list[int] = []
    monkeypatch.setattr(ProcessDir, "write_oom_score_adj", lambda _directory, value: written.append(value))
    made.tree.write(f"proc/{PID}/oom_score_adj", target)
    parent = Node(PARENT, 1, None)
    parent.pin = Pin("parent", 0, -300, -300, 0.0, "scan")
    node = Node(PID, PID * 10, parent)
    rule = Rule("r", (), Action(target, target))
    if known:
        node.pin = Pin("r", 100, target, target, 0.0, "scan")

    made.pin(node, rule, source)

    assert written == ([target] if writes else [])


@pytest.mark.usefixtures("refusing")
def test_a_floor_that_can_not_be_raised_is_reported(made: Made) -> None:
    parent = Node(PARENT, 1, None)
    parent.pin = Pin("parent", 0, -300, -300, 0.0, "scan")

    made.pin(Node(PID, PID * 10, parent), Rule("r", (), Action(100, 100)))

    decisions = [(each.event, each.rule, each.old, each.new) for each in made.writer.take_decisions()]
    assert decisions == [("pin-failed", "r", 100, 100)]


@pytest.mark.parametrize(
    ("source", "comm", "described", "reads"),
    [
        ("scan", "program", True, False),
        ("scan", "program", False, True),
        ("scan", "before", True, True),  # another program, perhaps
        ("exec", "program", True, True),
    ],
)
def test_facts_for_records_are_read_anew_of_another_program(
    made: Made, source: str, comm: str, described: bool, reads: bool
) -> None:
    node = Node(PID, PID * 10, None)
    node.comm, node.described, node.uid = comm, described, 77

    made.pin(node, Rule("r", (), Action(100, 100)), source)

    assert (node.uid, node.comm) == (0 if reads else 77, "program")


@pytest.mark.parametrize(
    ("exe_file", "path", "rule", "remembered"),
    [
        ((8, 1), "/srv/program", RULE, VerifiedExe("/srv/program", (8, 1))),
        ((8, 1), "/" + "a" * 254, RULE, VerifiedExe("/" + "a" * 254, (8, 1))),
        ((8, 1), "/" + "a" * 255, RULE, None),
        (None, "/srv/program", RULE, None),
        ((8, 1), "/srv/program", Rule("r", (), Action(500, 500)), None),
    ],
)
def test_the_verified_executable_is_remembered(
    made: Made, exe_file: tuple[int, int] | None, path: str, rule: Rule, remembered: VerifiedExe | None
) -> None:
    node = Node(PID, PID * 10, None)
    look = made.look(node)
    look.process = Process(PID, PID * 10, 1, "program", False, exe=path, exe_file=exe_file)
    assert look.stat is not None

    made.pins.pin(look, look.stat, rule)

    assert node.verified_exe == remembered
    assert made.saved()[-1].verified_exe == remembered
    look.process = None
    made.pins.pin(look, look.stat, rule)
    assert node.verified_exe is None
    assert node.recorded is (remembered is None)
