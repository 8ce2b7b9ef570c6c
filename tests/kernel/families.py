"""Many families at once, that have children in every way there is: tests/kernel/family.c."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

from tests.kernel.running import DEADLINE_SECONDS, oom_score_adj, rule, wait_for_value

SECONDS = "1000"
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
OTHERS = ("exec", "grandchild-exec", "orphan-exec", "spawn")
"""Those that have executed another program."""
OWN = 850
"""What those have set themselves that keep it."""


class Families:
    """`parent` is the program that rules know; `other` and `launcher` are such that they don't."""

    def __init__(self, program: Path, directory: Path) -> None:
        self.parent, self.other, self.launcher = (directory / name for name in ("parent", "other", "launcher"))
        shutil.copy(program, self.parent)
        shutil.copy(program, self.launcher)
        shutil.copy("/bin/sleep", self.other)
        self.members: dict[str, list[int]] = {}
        self._left_out: list[int] = []
        self.count = 0
        self.launching: subprocess.Popen[str] | None = None

    def rule(self, value: int, children: str | int, scan: str = "1h", more: str = "") -> str:
        """A configuration with one rule, for the parents alone: a child that never execs is the same program, and a
        session's leader for a moment where it goes into the background."""
        policy = f'"{children}"' if isinstance(children, str) else children
        more = f'user = 0\nsession_leader = true\nnot = {{ comm = "between" }}\nchildren = {policy}\n{more}'
        return rule(self.parent, value, name="parents", scan=scan, more=more)

    def start(self, count: int, value: int, pause_us: int = 0) -> None:
        """Start `count` of them, each at oom_score_adj `value`. Doesn't wait."""
        command: list[str | Path] = [self.launcher, SECONDS, self.other]
        command += [str(count), str(value), self.parent, str(pause_us)]
        self.count = count
        self.launching = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={"NEXT": str(self.launcher)},
            text=True,
        )
        self._listen()

    def _listen(self) -> None:
        self.members = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.launching is not None and self.launching.stdout is not None
        for _ in range(self.count * KINDS.total()):
            kind, pid = self.launching.stdout.readline().split()
            self.members.setdefault(kind, []).append(int(pid))

    def wait(self) -> None:
        """Wait until everyone is there."""
        assert self.launching is not None
        self.launching.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        found = {kind: len(pids) for kind, pids in self.members.items()}
        assert found == {kind: number * self.count for kind, number in KINDS.items()}

    def become_others(self) -> dict[str, list[int]]:
        """Have the parents execute a program that no rule knows, which has children as well. Returns those there were
        before; from now on `members` are the new ones."""
        before = self.members
        self._listen()
        for pid in before["parent"]:
            os.kill(pid, signal.SIGUSR1)
        self._reader.join(DEADLINE_SECONDS)
        assert sum(map(len, self.members.values())) == self.count * KINDS.total()
        return before

    def leave_out(self, kind: str) -> None:
        """Expect nothing of these."""
        self._left_out += self.members.pop(kind)

    def kill_parents(self) -> None:
        for pid in self.members.pop("parent"):
            os.kill(pid, signal.SIGKILL)

    def pids(self, *kinds: str) -> list[int]:
        return [pid for kind in kinds or self.members for pid in self.members[kind]]

    def end(self) -> None:
        if self.launching is None:
            return
        self.launching.kill()
        for pid in [*self.pids(), *self._left_out]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.launching.stdout is not None
        self._reader.join(DEADLINE_SECONDS)
        self.launching.stdout.close()
        self.launching.wait()


def expect(members: dict[str, list[int]], wanted: int, **otherwise: int) -> None:
    """Wait for the values of all, by kind; `wanted` where nothing else is said."""
    for kind, pids in members.items():
        value = {"own": OWN, **otherwise}.get(kind, wanted)
        with contextlib.suppress(AssertionError):
            wait_for_value(pids, value)
        wrong = Counter(shown for pid in pids if (shown := oom_score_adj(pid)) != value)
        assert not wrong, f"of {len(pids)} {kind}, not {value}: {dict(wrong)}"
