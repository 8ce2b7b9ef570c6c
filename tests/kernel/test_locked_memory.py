"""A process that keeps its memory locked, so that its command line can't be read, keeps nobody else from being
pinned."""

import contextlib
import shutil
import subprocess
from pathlib import Path

from tests.kernel.conftest import Compiler, mounted
from tests.kernel.running import (
    Daemon,
    Processes,
    descendants,
    oom_score_adj,
    public_directory,
    wait_for_value,
    wait_until,
)

USER, OTHER_USER = 65533, 65532


def by(uid: int) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


def sleeps(pid: int) -> bool:
    """Whether a process waits in the kernel for what only the kernel can give it, such as a lock."""
    with contextlib.suppress(OSError):  # it has ended
        return ") D " in Path(f"/proc/{pid}/stat").read_text()
    return False


def helpers_that_hang(daemon: Daemon) -> int:
    return sum(sleeps(pid) for pid in descendants(daemon.pid))


def config(programs: list[Path], local: Path) -> str:
    return f"""
[daemon]
scan_interval = "100ms"
[[rule]]
name = "arguments"
exe = {[str(path) for path in programs]}
cmdline = ["* 7", "* 1000", "*/program"]
oom_score_adj = 300
[[rule]]
name = "local"
exe = "{local}"
oom_score_adj = 400
"""


def test_innocent_beside_it(daemon: Daemon, processes: Processes, target: Path, compiled: Compiler) -> None:
    with public_directory() as directory:
        locker = directory / "locker"
        shutil.copy(compiled("memory_locker", ("-pthread",)), locker)
        sleep = directory / "sleep"
        shutil.copy("/bin/sleep", sleep)
        daemon.start(config([locker, sleep], target))
        for _ in range(2):
            processes.start(*by(USER), locker, "7")
        for _ in range(30):
            wait_for_value(processes.start(target, "1000"), 400)
            assert daemon.status()["pinned"] > 0
        wait_for_value(processes.start(*by(USER), sleep, "1000"), 300)
        latency = daemon.ask("metrics")["latency"]
        print(dict(zip(latency["bounds_us"], latency["counts"], strict=False)))
        assert daemon.stop() == 0


def test_one_users_processes_leave_helpers_to_others(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler
) -> None:
    """A helper that waits for the lock is killed after a moment. Here it isn't, so that what one user's processes
    occupy stays occupied."""
    daemon.constants["oomwatchd.daemon.put_off._READ_SECONDS"] = 1e6
    with public_directory() as directory, mounted(directory / "silent") as silent:
        holder, sleep = directory / "holder", directory / "sleep"
        shutil.copy(compiled("memory_holder", ("-pthread",)), holder)
        shutil.copy("/bin/sleep", sleep)
        held = [start_holding(processes, holder, silent.program) for _ in range(6)]
        silent.stop_answering()
        for child in processes.children:
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.flush()
        wait_until(lambda: all(map(sleeps, held)), "the memory of all is locked")
        daemon.start(config([holder, sleep], target))
        wait_until(lambda: helpers_that_hang(daemon) == 2, "helpers hang")
        another = processes.start(*by(USER), sleep, "1000")

        for uid in (OTHER_USER, 0):
            wait_for_value([processes.start(*by(uid), sleep, "1000") for _ in range(3)], 300)

        wait_until(lambda: helpers_that_hang(daemon) == 2, "no other helper hangs")
        assert {oom_score_adj(pid) for pid in (*held, another)} == {0}
        silent.answer()
        wait_for_value([*held, another], 300)
        assert daemon.stop() == 0


def start_holding(processes: Processes, holder: Path, file: Path) -> int:
    """Start a process that locks its memory when a line comes, and wait until it is ready for that."""
    pid = processes.start(*by(USER), holder, file, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output = processes.children[-1].stdout
    assert output is not None
    assert output.readline() == b"ready\n"
    return pid
