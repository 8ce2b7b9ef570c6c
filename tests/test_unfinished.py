"""A daemon that is killed while descendants are looked at, because a pin has begun, changed or ended: the next daemon
leaves all as if nothing had happened. Over a made-up /proc, with a real file of the ledger."""

from collections.abc import Callable
from pathlib import Path

import pytest

from oomwatchd.daemon.ledger_opening import open_ledger
from oomwatchd.pinning.decisions import SCAN, Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.pinner import Pinner
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule
from oomwatchd.rules.ruleset import RuleSet
from tests.faketree import Tree

GRANDPARENT, PARENT = 10, 20
ABOVE = {GRANDPARENT: 1, PARENT: GRANDPARENT, 30: PARENT, 31: PARENT, 32: 31}
"""The parent of each process."""
ORIGINAL = 100
"""This and all other values have three digits, because a made-up file keeps the rest of a longer value."""


def rule(name: str, value: int, children: str | int) -> Rule:
    return Rule(name, (Criterion("comm", (Pattern(name),)),), Action(value, value), children=children)


GRAND, OLD, NEW = rule("grand", 300, "inherit"), rule("fits", 500, "inherit"), rule("fits", 700, 250)


class Machine:
    """Processes that descend from each other, and a daemon that is killed and started again."""

    def __init__(self, root: Path, rules: list[Rule], names: dict[int, bytes]) -> None:
        self.tree, self.ledger = Tree(root), str(root / "ledger.json")
        self.tree.me()
        self.names = names
        self.start(rules)
        for pid, parent in ABOVE.items():
            self.write(pid, ORIGINAL if parent == 1 else self.values()[parent])
            self.pinner.forked(pid, parent, 1)
            self.pinner.look(pid, SCAN)
            self.pinner.catch_up()
        self.pinner.ledger.flush()

    def start(self, rules: list[Rule]) -> None:
        """Start a daemon. It does nothing by itself."""
        self.pinner = Pinner(RuleSet(rules), Ledger(self.ledger, "boot"), proc=self.tree.proc, effort_at_once=0)
        damaged: list[str] = []
        open_ledger(self.pinner, damaged.append)
        assert damaged == []

    def write(self, pid: int, adj: int) -> None:
        self.tree.process(pid, self.names.get(pid, b"other"), ppid=ABOVE[pid], adj=adj)
        self.tree.write(f"proc/{pid}/comm", self.names.get(pid, b"other") + b"\n")

    def values(self) -> dict[int, int]:
        files = {pid: self.tree.root / f"proc/{pid}/oom_score_adj" for pid in ABOVE}
        return {pid: int(file.read_text()) for pid, file in files.items() if file.exists()}

    def execute(self, pid: int, name: bytes) -> None:
        self.names[pid] = name
        self.write(pid, self.values()[pid])
        self.pinner.look(pid, Trigger("exec", 2))

    def end(self, pid: int) -> None:
        (self.tree.root / f"proc/{pid}").rename(self.tree.root / "ended")
        self.pinner.family.exited(pid, 3)

    def reload(self, rules: list[Rule]) -> None:
        self.pinner.set_rules(RuleSet(rules))
        for pid in list(self.values()):
            self.pinner.look(pid, Trigger("reload"))
        self.pinner.refresh_dead()

    def work(self, steps: int) -> bool:
        """Do so many of the looks that wait. Returns whether these were all."""
        for _ in range(steps):
            if self.pinner.agenda.empty:
                return True
            next(self.pinner.catching_up(), None)
        return self.pinner.agenda.empty

    def kill(self) -> None:
        """End the daemon, so that nothing is saved that isn't saved yet."""
        self.pinner.ledger.close()

    def scan(self) -> None:
        """What each start does."""
        pids = list(self.values())
        for _ in self.pinner.relatives.gather(pids):
            pass
        for pid in pids:
            self.pinner.look(pid, SCAN)
        for _ in self.pinner.look_at_relatives(()):
            pass
        self.pinner.catch_up()
        self.pinner.refresh_dead()
        self.pinner.catch_up()


def released(machine: Machine) -> None:
    machine.execute(PARENT, b"other")


def released_and_dead(machine: Machine) -> None:
    machine.execute(PARENT, b"other")
    machine.end(PARENT)


def pinned(machine: Machine) -> None:
    machine.execute(PARENT, b"other")
    machine.pinner.catch_up()
    machine.execute(PARENT, b"fits")


def reloaded(machine: Machine) -> None:
    machine.reload([GRAND, NEW])


def dead_and_reloaded(machine: Machine) -> None:
    machine.end(PARENT)
    machine.reload([GRAND, NEW])


def other_children_while_it_drifts(machine: Machine) -> None:
    machine.write(PARENT, 800)
    machine.reload([GRAND, rule("fits", 500, 250)])


CHANGES = (released, released_and_dead, pinned, reloaded, dead_and_reloaded, other_children_while_it_drifts)


@pytest.mark.parametrize("rules", [[GRAND, OLD], [GRAND, NEW], [GRAND], []], ids=["old", "new", "grand", "none"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_crash_at_any_step(tmp_path: Path, change: Callable[[Machine], None], rules: list[Rule]) -> None:
    """`rules`: those that the next daemon has."""

    def made(name: str) -> Machine:
        machine = Machine(tmp_path / name, [GRAND, OLD], {GRANDPARENT: b"grand", PARENT: b"fits"})
        assert list(machine.values().values()) == [300, 500, 500, 500, 500]
        change(machine)
        return machine

    lucky = made("lucky")
    lucky.pinner.catch_up()
    lucky.reload(rules)
    lucky.pinner.catch_up()
    lucky.kill()
    for step in range(100):
        machine = made(str(step))
        done = machine.work(step)
        machine.pinner.ledger.flush()
        machine.kill()
        machine.start(rules)

        machine.scan()

        assert machine.values() == lucky.values(), f"killed after {step} steps"
        machine.kill()
        if done:
            break
    assert 0 < step < 99
