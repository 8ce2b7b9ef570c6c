"""Processes with thousands of children: all get what they should, and nobody else waits for that."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.asking import oomwatchctl
from tests.kernel.conftest import Compiler
from tests.kernel.running import (
    Daemon,
    Processes,
    cpu_seconds,
    descendants,
    oom_score_adj,
    rule,
    wait_for_value,
    wait_until,
)


class Brood:
    """A program that has many children (brood.c), and becomes another one when it is told to."""

    def __init__(self, program: Path, directory: Path) -> None:
        self.path, self.other = directory / "brood", directory / "other"
        shutil.copy(program, self.path)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, count: int, pause_us: int = 0) -> int:
        """Start it, and wait until it has its children. Without another program, it goes on as it is. A negative
        count: another thread makes them."""
        words = [str(self.path), str(count), str(self.other), str(pause_us)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ok\n"
        return self._process.pid

    def execute(self) -> None:
        """Have it execute the other program."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def end(self) -> None:
        if self._process is not None:
            children = list(descendants(self._process.pid))
            self._process.kill()
            self._process.communicate()
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "its children have ended")


@pytest.fixture
def brood(compiled: Compiler, tmp_path: Path) -> Iterator[Brood]:
    started = Brood(compiled("brood", ["-pthread"]), tmp_path)
    yield started
    started.end()


def test_children_from_before_the_pin(daemon: Daemon, brood: Brood, compiled: Compiler) -> None:
    """More than the kernel tells by one read(2)."""
    shutil.copy(compiled("sleeper"), brood.other)
    daemon.start(rule(brood.other, 500, scan="1h", more='children = "inherit"'))
    pid = brood.start(2000, 1000)
    children = list(descendants(pid))
    assert len(children) == 2000

    brood.execute()

    wait_for_value([pid, *children], 500)


def test_children_of_another_thread(daemon: Daemon, brood: Brood) -> None:
    """The kernel lists them at the thread that has forked them."""
    daemon.start(rule("/nothing", scan="1h"))
    pid = brood.start(-3)
    children = list(descendants(pid))
    assert len(children) == 3

    assert oomwatchctl(daemon, "pin", str(pid), "500").returncode == 0

    wait_for_value([pid, *children], 500)


@pytest.mark.parametrize("wanted", [0, 700])
def test_daemon_that_is_killed_before_it_has_looked_at_all_children(daemon: Daemon, brood: Brood, wanted: int) -> None:
    """The next one looks at the others, whether the rule has gone or has another value."""
    config = rule(brood.path, 500, scan="1h", more='session_leader = true\nchildren = "inherit"')
    daemon.start(config)
    pid = brood.start(1500, 1000)
    children = list(descendants(pid))
    wait_for_value([pid, *children], 500)

    daemon.write(config.replace(" = 500", " = 700") if wanted else config.replace(str(brood.path), "/nothing"))
    wait_until(lambda: oom_score_adj(children[0]) == wanted, "the first child has its value")
    daemon.kill()
    daemon.start()

    wait_for_value([pid, *children], wanted)


@pytest.mark.serial  # other daemons would have to look at all of these processes
@pytest.mark.parametrize(("children", "below"), [("reset", 0), ("inherit", 500), (250, 250)])
def test_program_that_is_pinned_and_released_again_and_again(
    daemon: Daemon, processes: Processes, brood: Brood, target: Path, children: str | int, below: int
) -> None:
    """Each time, its children have to be looked at. Innocent programs don't wait for that."""
    shutil.copy(brood.path, brood.other)
    policy = children if isinstance(children, int) else f'"{children}"'
    innocent = rule(target, 400).partition("[[rule]]")[2].replace('"target"', '"innocent"', 1)
    daemon.start(
        rule(brood.path, 500, scan="1h", more=f"session_leader = true\nchildren = {policy}\n[[rule]]{innocent}")
    )
    pid = brood.start(4000, 1000)
    members = list(descendants(pid))
    wait_for_value(members, below)

    brood.execute()

    for _ in range(10):
        before = cpu_seconds(daemon.pid)
        wait_for_value(processes.start(target, "1000"), 400)
        # Some 20 s, where the looks aren't shared out.
        assert cpu_seconds(daemon.pid) - before < 10
    os.kill(pid, signal.SIGSTOP)
    pinned = Path(f"/proc/{pid}/exe").readlink() == brood.path
    wait_for_value([pid], 500 if pinned else 0)
    wait_for_value(members, below if pinned else 0)
