"""A real OOM kill, in a small memory cgroup of the test's own, is told of; a faked one isn't."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kernel.asking import answer
from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, rule, wait_for_value, wait_until

V1 = Path("/sys/fs/cgroup/memory")
EATER = """
import sys
with open(sys.argv[1], "w") as file:
    file.write("0")
sys.stdin.readline()
kept = [b"\\1" * (1 << 20) for _ in range(256)]
"""


@pytest.fixture
def memcg() -> Iterator[Path]:
    if not (V1 / "memory.limit_in_bytes").exists():
        pytest.skip("no memory controller of cgroup v1 here; the VM tests kill with v2")
    group = V1 / f"oomwatchd-test-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(48 << 20))
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


class Eater:
    """A process that rules hold at 500, in a small memory cgroup, and that takes too much when it is told to."""

    def __init__(
        self, daemon: Daemon, processes: Processes, directory: Path, group: Path, prefix: Sequence[str] = ()
    ) -> None:
        """`prefix`: behind which command the daemon is started."""
        python = directory / "eater"
        python.symlink_to("/usr/bin/python3")
        exe = Path("/usr/bin/python3").resolve()
        daemon.start(rule(exe, scan="300ms", more=f'cmdline = "{python} *"'), prefix=prefix)
        read, self._write = os.pipe()
        self.pid = processes.start(python, "-I", "-c", EATER, group / "cgroup.procs", stdin=read)
        os.close(read)
        self._process = processes.children[-1]
        wait_for_value(self.pid, 500)
        wait_until(lambda: str(self.pid) in (group / "cgroup.procs").read_text().split(), "in the group")

    def eat(self) -> None:
        """Have the kernel kill it."""
        os.write(self._write, b"\n")
        wait_until(lambda: self._process.poll() == -signal.SIGKILL, "killed")
        os.close(self._write)


def told(daemon: Daemon, *pids: int) -> list[str]:
    """All that the log says of kills of these. Others on this machine may have kills of their own."""
    signs = [*(f"has killed process {pid} " for pid in pids), "didn't tell which"]
    return [line for line in daemon.log().split("\n") if any(sign in line for sign in signs)]


def test_a_kill_is_reported_with_the_pinned_value(
    daemon: Daemon, processes: Processes, tmp_path: Path, memcg: Path
) -> None:
    eater, before = Eater(daemon, processes, tmp_path, memcg), time.time()

    eater.eat()

    wait_until(lambda: told(daemon, eater.pid), "told")
    daemon.wait_for_scan()
    (line,) = told(daemon, eater.pid)
    assert f"The OOM killer has killed process {eater.pid} (eater) in memory cgroup /{memcg.name}" in line
    assert "at oom_score_adj 500; rule 'target' held it at 500" in line
    last = json.loads((daemon.runtime / "last-kill.json").read_text())
    assert (last["killer"], last["victim"]["pid"], last["victim"]["rule"]) == ("kernel", eater.pid, "target")
    assert [held["pid"] for held in last["held"]] == [eater.pid]
    assert before - 1 < last["time"] < time.time() + 1  # the kernel's clock may differ a little
    counts = answer(daemon, "metrics")["oom_kill_counts"]
    assert {"killer": "kernel", "rule": "target", "held": True, "count": 1} in counts


@pytest.mark.parametrize("filtered", [False], indirect=True)
def test_a_kill_is_reported_also_if_the_end_of_the_process_is_heard_of_first(
    daemon: Daemon, processes: Processes, tmp_path: Path, memcg: Path
) -> None:
    """Without the filter the daemon hears of all programs, so that events wait for it before there is a line in the
    log."""
    eater = Eater(daemon, processes, tmp_path, memcg)
    os.kill(daemon.pid, signal.SIGSTOP)
    subprocess.run(["true"], check=True)

    eater.eat()
    os.kill(daemon.pid, signal.SIGCONT)

    wait_until(lambda: told(daemon, eater.pid), "told")
    assert "rule 'target' held it at 500" in told(daemon, eater.pid)[0]


def test_a_kill_missing_from_the_log_is_reported_by_the_counter(
    daemon: Daemon, processes: Processes, tmp_path: Path, memcg: Path
) -> None:
    """As where the kernel's log may not be read: a FIFO, which nobody can seek in, stands in its place."""
    silent = tmp_path / "kmsg"
    os.mkfifo(silent)
    hidden = ("unshare", "-m", "sh", "-c", f'mount --bind {silent} /dev/kmsg && exec "$@"', "sh")
    eater = Eater(daemon, processes, tmp_path, memcg, hidden)
    before = answer(daemon, "metrics")["oom_kills"]

    eater.eat()

    wait_until(lambda: told(daemon, eater.pid), "told")
    assert all("the kernel's log didn't tell which" in line for line in told(daemon, eater.pid))
    assert answer(daemon, "metrics")["oom_kills"] > before
    last = json.loads((daemon.runtime / "last-kill.json").read_text())
    assert (last["killer"], last["victim"], last["held"]) == ("kernel", None, [])
    assert last["count"] >= 1


def test_log_is_read_from_standard_input_as_the_unit_opens_it(
    daemon: Daemon, processes: Processes, tmp_path: Path, memcg: Path
) -> None:
    """Where the daemon may not open it itself."""
    silent = tmp_path / "kmsg"
    os.mkfifo(silent)
    opened = f'exec </dev/kmsg && mount --bind {silent} /dev/kmsg && exec "$@"'
    eater = Eater(daemon, processes, tmp_path, memcg, ("unshare", "-m", "sh", "-c", opened, "sh"))

    eater.eat()

    wait_until(lambda: [line for line in told(daemon, eater.pid) if str(eater.pid) in line], "told")


def fake(pid: int, comm: str) -> str:
    """What the kernel writes about a kill."""
    return f"Out of memory: Killed process {pid} ({comm}) total-vm:4kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB"


def crash(compiled: Compiler, directory: Path, name: str) -> None:
    """Have the kernel write `name` to its log."""
    program = directory / name
    shutil.copy(compiled("crash", ("-static",)), program)
    status = os.posix_spawn(program, [name], {})
    assert os.WTERMSIG(os.waitpid(status, 0)[1]) == signal.SIGSEGV


def in_kernel_log(log: int, text: str) -> bool:
    """Whether one of the records that wait has `text`."""
    found = False
    while True:
        try:
            record = os.read(log, 8192)
        except BlockingIOError:
            return found
        found = found or text.encode() in record


def test_fake_reports_beside_a_kill_are_ignored(
    daemon: Daemon, processes: Processes, compiled: Compiler, tmp_path: Path, memcg: Path
) -> None:
    eater = Eater(daemon, processes, tmp_path, memcg)
    log = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    names = [
        fake(1, "init"),
        fake(eater.pid, "eater"),
        f"x invoked oom-killer: gfp_mask=0x0, {fake(eater.pid, 'eater')}",
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task=init,pid=1,uid=0",
    ]

    def pretend() -> None:
        for name in names:
            os.write(log, f"{name}\n".encode())
            os.write(log, f"<2>{name}\n".encode())
            crash(compiled, tmp_path, name[:200])

    def seen() -> bool:
        pretend()
        return in_kernel_log(log, "segfault")  # of which it tells ten in five seconds, whoever crashes

    wait_until(seen, "the kernel tells of crashes")
    eater.eat()
    pretend()

    wait_until(lambda: told(daemon, eater.pid), "told")
    daemon.wait_for_scan()
    os.close(log)
    (line,) = told(daemon, eater.pid, 1)
    assert f"The OOM killer has killed process {eater.pid} (eater) in memory cgroup /{memcg.name}" in line
    assert f"memory was asked for by process {eater.pid} (eater)" in line
