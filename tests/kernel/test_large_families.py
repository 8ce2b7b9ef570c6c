"""All children of a process get what they should, however many they are, and whichever thread has forked them."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.asking import oomwatchctl
from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, descendants, rule, wait_for_value


class Brood:
    """A program that has many children (brood.c), and executes another one when it is told to."""

    def __init__(self, program: Path, other: Path) -> None:
        self._program, self._other = program, other
        self._process: subprocess.Popen[bytes] | None = None
        self.children: list[int] = []

    def start(self, count: int) -> int:
        """Start it, and wait until it has its children. A negative count: another thread makes them."""
        pipe, words = subprocess.PIPE, [str(self._program), str(count), str(self._other)]
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ok\n"
        self.children = list(descendants(self._process.pid))
        assert len(self.children) == abs(count)
        return self._process.pid

    def execute(self) -> None:
        """Have it execute the other program."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def end(self) -> None:
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def other(compiled: Compiler, tmp_path: Path) -> Path:
    path = tmp_path / "other"
    shutil.copy(compiled("sleeper"), path)
    return path


@pytest.fixture
def brood(compiled: Compiler, other: Path) -> Iterator[Brood]:
    started = Brood(compiled("brood", ["-pthread"]), other)
    yield started
    started.end()


def test_more_children_than_one_read_tells(daemon: Daemon, brood: Brood, other: Path) -> None:
    daemon.start(rule(other, 500, scan="1h", more='children = "inherit"'))
    pid = brood.start(1500)

    brood.execute()

    wait_for_value([pid, *brood.children], 500)


def test_children_of_another_thread(daemon: Daemon, brood: Brood) -> None:
    """The kernel lists them at the thread that has forked them."""
    daemon.start(rule("/nothing", scan="1h"))
    pid = brood.start(-3)

    assert oomwatchctl(daemon, "pin", str(pid), "500").returncode == 0

    wait_for_value([pid, *brood.children], 500)
