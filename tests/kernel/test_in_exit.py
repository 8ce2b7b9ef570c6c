"""A process that is being ended has no memory any more, so the kernel shows no executable and no arguments of it. A
large one stays so for seconds. It stays pinned to its end, so that the record of a kill names its rule."""

import ctypes
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomwatchd.kernel.proc_stat import parse_killed
from oomwatchd.kernel.procfs import ProcessDir, read_stat
from tests.kernel.conftest import Compiler, Mount
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


PROCESS_MRELEASE = 448
"""A system call that takes the memory of a killed process, as the OOM killer does; asm-generic/unistd.h."""


@pytest.fixture
def hanging(processes: Processes, mount: Mount, tmp_path: Path) -> int:
    """A process that waits for a file system that doesn't answer, so that it doesn't even begin to exit when killed."""
    program = tmp_path / f"cat-{os.getpid()}"
    shutil.copy("/bin/cat", program)
    mount.program.stat()  # answered only once the file system is ready
    mount.stop_answering()
    pid = processes.start(program, mount.program)
    mount.wait_until_asked()  # until then, it could be interrupted
    return pid


def take_memory(pid: int) -> None:
    """Kill the process, and take its memory."""
    os.kill(pid, signal.SIGKILL)
    descriptor, libc = os.pidfd_open(pid), ctypes.CDLL(None, use_errno=True)
    try:
        wait_until(lambda: parse_killed(Path(f"/proc/{pid}/stat").read_bytes()), "it is killed")
        while libc.syscall(PROCESS_MRELEASE, descriptor, 0) != 0:
            if ctypes.get_errno() != errno.EAGAIN:  # somebody reads the memory
                pytest.skip(f"process_mrelease(2) isn't to be had here: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"", "it has no memory any more")
    assert not read_stat(pid).leader_ended


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


@pytest.mark.parametrize("rest", ["", '[[rule]]\nname = "rest"\ncomm = "{}"\noom_score_adj = 700\n'])
def test_killed_and_without_memory_before_it_exits(daemon: Daemon, hanging: int, rest: str) -> None:
    """As victims of the OOM killer are that wait for a disk. The one rule is over the arguments, the other over what is
    left of the process."""
    program = os.readlink(f"/proc/{hanging}/exe")
    daemon.start(rule(program, scan="200ms", more='cmdline = "*/program"') + rest.format(os.path.basename(program)))
    wait_for_value(hanging, 500)

    take_memory(hanging)
    daemon.wait_for_scan()

    assert (oom_score_adj(hanging), daemon.pins()[hanging]["rule"]) == (500, "target")
    assert "Released" not in daemon.log()
