"""The back-off from a fight over a value begins, doubles and ends; time is the test's."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomwatchd.pinning.decisions import SCAN
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet


class Fight:
    """A process that a rule pins to 500, and that someone keeps setting to 20."""

    def __init__(self, program: Path, pid: int) -> None:
        self.now = 1000.0
        self.pid = pid
        rule = Rule("r", (Criterion("exe", (Pattern(str(program)),)),), Action(500, 500))
        self.pinner = Pinner(RuleSet([rule]), Ledger(None, ""), clock=lambda: self.now)
        self.file = Path(f"/proc/{pid}/oom_score_adj")
        self.pinner.look(pid, SCAN)
        self.pinner.writer.take_decisions()

    def round(self, seconds: float) -> list[str]:
        """Let `seconds` pass, change the value, scan: what was decided."""
        self.now += seconds
        self.file.write_text("20")
        self.pinner.look(self.pid, SCAN)
        return [decision.event for decision in self.pinner.writer.take_decisions()]

    def value(self) -> int:
        return int(self.file.read_text())


@pytest.fixture
def fight(tmp_path: Path) -> Iterator[Fight]:
    program = tmp_path / "sleeper"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "1000"])
    yield Fight(program, child.pid)
    child.kill()
    child.wait()


def test_one_warning_and_a_back_off_that_ends(fight: Fight) -> None:
    assert [fight.round(5.0) for _ in range(3)] == [["drift"]] * 3
    assert fight.value() == 500
    assert fight.round(5.0) == ["contended"]
    assert fight.value() == 20
    assert [fight.round(5.0) for _ in range(11)] == [[]] * 11
    assert fight.round(10.0) == ["drift"]
    assert fight.value() == 500
    assert fight.round(60.0) == []
    assert fight.round(61.0) == ["drift"]


def test_after_calm_the_next_one_is_the_first(fight: Fight) -> None:
    for _ in range(4):
        fight.round(5.0)

    assert fight.round(2000.0) == ["drift"]
    assert [fight.round(5.0) for _ in range(2)] == [["drift"]] * 2
    assert fight.round(5.0) == ["contended"]
