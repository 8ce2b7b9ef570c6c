"""What becomes of descendants that no rule fits, however they came to be, whenever the daemon came."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until

SECONDS = "100"
KINDS = Counter(
    {
        "parent": 1,
        "exec": 1,
        "fork": 4,
        "grandchild": 1,
        "grandchild-exec": 1,
        "orphan": 1,
        "orphan-exec": 1,
        "far-orphan": 1,
        "adopted": 1,
        "daemon": 1,
        "own": 1,
        "spawn": 1,
    }
)
OWN = 850
"""What those have set themselves that keep it."""


class Families:
    """Many times the same family: tests/kernel/family.c has children in every way there is."""

    def __init__(self, compiled: Compiler, directory: Path) -> None:
        program = compiled("family")
        self.parent, self.other, self.launcher = (directory / name for name in ("parent", "other", "launcher"))
        shutil.copy(program, self.parent)
        shutil.copy(program, self.launcher)
        shutil.copy("/bin/sleep", self.other)
        self.members: dict[str, list[int]] = {}
        self.launching: subprocess.Popen[str] | None = None

    def start(self, count: int, value: int, pause_us: int = 0) -> None:
        """Start `count` of them, each at oom_score_adj `value`. Doesn't wait."""
        command = [self.launcher, SECONDS, self.other, str(count), str(value), self.parent, str(pause_us)]
        self.count = count
        self.launching = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.launching is not None and self.launching.stdout is not None
        for _ in range(self.count * KINDS.total()):
            kind, pid = self.launching.stdout.readline().split()
            self.members.setdefault(kind, []).append(int(pid))

    def wait(self) -> None:
        """Wait until everyone is there."""
        assert self.launching is not None
        self.launching.wait(60)
        self.reader.join(60)
        found = {kind: len(pids) for kind, pids in self.members.items()}
        assert found == {kind: number * self.count for kind, number in KINDS.items()}

    def wait_for(self, value: int, children: int, *, beyond: int | None = None) -> None:
        """Wait for all values: of the parents, of the others, of those that nobody can know to be theirs."""
        for kind, pids in self.members.items():
            wanted = {"parent": value, "own": OWN, "daemon": children if beyond is None else beyond}.get(kind, children)
            with contextlib.suppress(AssertionError):
                wait_for_value(pids, wanted)
            wrong = Counter(oom_score_adj(pid) for pid in pids if oom_score_adj(pid) != wanted)
            assert not wrong, f"of {len(pids)} {kind}, not {wanted}: {dict(wrong)}"

    def end(self) -> None:
        if self.launching is None:
            return
        self.launching.kill()
        for pid in [pid for pids in self.members.values() for pid in pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.reader.join(60)
        assert self.launching.stdout is not None
        self.launching.stdout.close()
        self.launching.wait()


@pytest.fixture
def families(compiled: Compiler, tmp_path: Path) -> Iterator[Families]:
    started = Families(compiled, tmp_path)
    yield started
    started.end()


def parents(families: Families, value: int, children: object, scan: str = "1h") -> str:
    """A rule for the parents alone: a child that never execs is the same program."""
    policy = f'"{children}"' if isinstance(children, str) else children
    more = f"session_leader = true\nchildren = {policy}"
    return rule(families.parent, value, name="parents", scan=scan, more=more)


RAISED, LOWERED = (0, 500), (800, 300)
POLICIES = [
    ("inherit", RAISED, 500),
    ("reset", RAISED, 0),
    (250, RAISED, 250),
    ("inherit", LOWERED, 300),
    ("reset", LOWERED, 800),
    (650, LOWERED, 650),
]
policies = pytest.mark.parametrize(("children", "values", "wanted"), POLICIES)


@pytest.fixture
def storm(compiled: Compiler) -> Iterator[None]:
    """Short-lived programs on both cores, as fast as they start."""
    program = compiled("storm")
    storms = [subprocess.Popen([program, "1000000"]) for _ in range(2)]
    yield
    for each in storms:
        each.kill()
        each.wait()


# Where the kernel by itself lets children inherit what they should, births are looked at with the next exec, or scan.
def patience(children: object) -> str:
    return "500ms" if children == "inherit" else "1h"


@policies
def test_daemon_before_the_families(
    daemon: Daemon, families: Families, storm: None, children: object, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    daemon.start(parents(families, value, children, patience(children)))

    families.start(100, first)

    families.wait()
    families.wait_for(value, wanted)


@policies
def test_daemon_in_the_midst(
    daemon: Daemon, families: Families, children: object, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    families.start(100, first, pause_us=5000)

    daemon.start(parents(families, value, children, patience(children)))

    families.wait()
    del families.members["daemon"]  # some have left family and session before the daemon came
    families.wait_for(value, wanted)


@policies
def test_daemon_after_the_families(
    daemon: Daemon, families: Families, children: object, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    families.start(100, first)
    families.wait()

    daemon.start(parents(families, value, children))

    # Nobody knows any more whose children have left both, their parent having died; they have what they had.
    families.wait_for(value, wanted, beyond=first)
