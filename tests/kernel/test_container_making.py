"""What is descended from a held runtime, and on its way to become a container: its manager's value is its own, also
where it equals the runtime's pin, in whichever order the runtime gives it value, namespace and cgroup."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until
from tests.kernel.test_containers import cgroup

RAISING = (0, 500, 'children = "reset"')
LOWERING = (800, 300, 'user = "root"\nchildren = "reset"')


class Runtime:
    """A held process that makes a container step by step, see runtime.c."""

    def __init__(self, daemon: Daemon, processes: Processes, program: Path, own: Path, target: Path) -> None:
        self.daemon = daemon
        self._processes = processes
        self._command = (program, own, target)
        self.pid = 0

    def start(self, steps: str, first: int, pinned: int, given: int) -> None:
        program, own, target = self._command
        self._processes.start(
            *(program, steps, str(given), own, *(target, "1000")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: Path("/proc/self/oom_score_adj").write_text(str(first)),
        )
        self._child = self._processes.children[-1]
        self._next()
        wait_for_value(self.pid, pinned)

    def _next(self) -> None:
        """Wait until it comes to its next step."""
        assert self._child.stdout is not None
        pid = int(self._child.stdout.readline().split()[1])
        self.pid = pid if pid == self._child.pid else self._processes.adopt(pid)

    def make(self, steps: str, *, scans: bool) -> None:
        """Have it do all its steps; with `scans` the daemon has looked at it before each."""
        assert self._child.stdin is not None
        for step in steps:
            if scans:
                self.daemon.wait_for_scan()
            self._child.stdin.write(b"\n")
            self._child.stdin.flush()
            if step != "x":
                self._next()
        if steps.endswith("x"):
            target = self._command[2]
            wait_until(lambda: os.readlink(f"/proc/{self.pid}/exe") == str(target), f"{target} runs")


@pytest.fixture
def runtime(
    daemon: Daemon, processes: Processes, compiled: Compiler, tmp_path: Path, target: Path
) -> Iterator[Runtime]:
    program = tmp_path / "runtime"
    shutil.copy(compiled("runtime"), program)
    with cgroup("unified", f"oomwatchd-test-{os.getpid()}.scope") as own:
        yield Runtime(daemon, processes, program, own, target)
        processes.end()


def pin(runtime: Runtime, first: int, pinned: int, more: str) -> None:
    program, _, _ = runtime._command
    runtime.daemon.start(rule(program, pinned, scan="100ms", more=more))


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("steps", ["vnvcx", "ncvx", "ncx", "nvcx", "fcvFNx"])
@pytest.mark.parametrize(("first", "pinned", "more"), [RAISING, LOWERING])
def test_a_value_that_equals_the_pin(
    runtime: Runtime, first: int, pinned: int, more: str, steps: str, stalled: bool
) -> None:
    """crun, runc, systemd-nspawn, lxc; `stalled`: the daemon reads of it all when it is over."""
    pin(runtime, first, pinned, more)
    runtime.start(steps, first, pinned, pinned)
    if stalled:
        os.kill(runtime.daemon.pid, signal.SIGSTOP)
    runtime.make(steps, scans=not stalled)
    os.kill(runtime.daemon.pid, signal.SIGCONT)

    runtime.daemon.wait_for_scan()
    assert oom_score_adj(runtime.pid) == pinned, runtime.daemon.log()


@pytest.mark.parametrize(("first", "pinned", "more"), [RAISING, LOWERING])
def test_another_value(runtime: Runtime, first: int, pinned: int, more: str) -> None:
    pin(runtime, first, pinned, more)
    runtime.start("ncvx", first, pinned, 400)

    runtime.make("ncvx", scans=True)

    runtime.daemon.wait_for_scan()
    assert oom_score_adj(runtime.pid) == 400, runtime.daemon.log()


@pytest.mark.parametrize(("first", "pinned", "more"), [RAISING, LOWERING])
def test_a_sandbox_is_no_container(runtime: Runtime, first: int, pinned: int, more: str) -> None:
    pin(runtime, first, pinned, more)
    runtime.start("nx", first, pinned, pinned)

    runtime.make("nx", scans=True)

    wait_for_value(runtime.pid, first)


@pytest.mark.parametrize(("first", "pinned", "more"), [RAISING, LOWERING])
def test_a_rule_over_containers_takes_them_over(runtime: Runtime, first: int, pinned: int, more: str) -> None:
    pin(runtime, first, pinned, f"{more}\ncontainers = true")
    runtime.start("nvcx", first, pinned, pinned)

    runtime.make("nvcx", scans=True)

    wait_for_value(runtime.pid, first)
