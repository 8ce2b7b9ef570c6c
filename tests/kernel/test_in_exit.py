"""A process that is being ended has no memory any more, so the kernel shows no executable and no arguments of it. A
large one stays so for seconds. It stays pinned to its end, so that the record of a kill names its rule."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomwatchd.kernel.procfs import ProcessDir, read_stat
from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until


@pytest.fixture(params=["sleep", "headless"])
def target(request: pytest.FixtureRequest, compiled: Compiler, tmp_path: Path) -> Path:
    """A program with a name that no other test's program has. The first thread of "headless" has ended."""
    path = tmp_path / f"{request.param[:5]}-{os.getpid()}"
    shutil.copy("/bin/sleep" if request.param == "sleep" else compiled("leaderexit", ("-pthread",)), path)
    return path


@pytest.fixture
def killed(processes: Processes, target: Path) -> Iterator[int]:
    """A process that doesn't come to its end when it is killed. It is the first one of a PID namespace, so the kernel
    has it wait until the others there are reaped: pid_namespaces(7). One is of a parent that sleeps, outside."""
    command = ("unshare", "--pid", "--fork", "--kill-child", target, "1000")
    unshare = processes.start(*command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    pid = _child(unshare)
    wait_until(lambda: read_stat(pid).comm == target.name.encode(), "the program runs")
    if "headl" in target.name:
        wait_until(lambda: read_stat(pid).zombie, "the first thread has ended")
    entering = processes.start("nsenter", "--pid", "--target", str(pid), "sleep", "1000")
    _child(entering)
    os.kill(entering, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(entering, signal.SIGCONT)


def _child(pid: int) -> int:
    """Wait until the process has a child. Returns the child's PID."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: children.read_text() != "", "a child is forked")
    (child,) = map(int, children.read_text().split())
    return child


def kill(pid: int) -> None:
    """Kill the process, and wait until it has no memory."""
    os.kill(pid, signal.SIGKILL)
    with ProcessDir(pid) as directory:
        wait_until(lambda: directory.is_in_exit() and directory.read_exe() == b"", "it has no memory any more")
        assert not directory.read_stat().ended


@pytest.mark.parametrize("criterion", ["exe", "cmdline", "comm"])
def test_stays_pinned(daemon: Daemon, killed: int, target: Path, criterion: str) -> None:
    criteria = {
        "exe": "",
        "cmdline": 'cmdline = "*1000"',
        "comm": f'comm = "{target.name}"',
    }
    daemon.start(rule(target, scan="200ms", more=criteria[criterion]))
    wait_for_value(killed, 500)

    kill(killed)
    daemon.wait_for_scan()

    assert (oom_score_adj(killed), daemon.pins()[killed]["rule"]) == (500, "target")
    assert "Released" not in daemon.log()


def test_no_other_rule_fits_it(daemon: Daemon, killed: int, target: Path) -> None:
    """A rule for what is left of the process: its name."""
    rest = f'[[rule]]\nname = "rest"\ncomm = "{target.name}"\noom_score_adj = 700\n'
    daemon.start(rule(target, scan="200ms") + rest)
    wait_for_value(killed, 500)

    kill(killed)
    daemon.wait_for_scan()

    assert (oom_score_adj(killed), daemon.pins()[killed]["rule"]) == (500, "target")


def test_a_rule_that_went_leaves_it(daemon: Daemon, killed: int, target: Path) -> None:
    daemon.start(rule(target, scan="200ms"))
    wait_for_value(killed, 500)
    kill(killed)

    daemon.write(rule("/nowhere", scan="200ms", name="other"))
    daemon.reload()

    assert oom_score_adj(killed) == 0
