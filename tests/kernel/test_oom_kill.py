"""A real OOM kill, in a small memory cgroup of the test's own, is told of."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_kill_is_told_with_what_was_held(daemon: Daemon, processes: Processes, tmp_path: Path, memcg: Path) -> None:
    python = tmp_path / "eater"
    python.symlink_to("/usr/bin/python3")
    exe = Path("/usr/bin/python3").resolve()
    daemon.start(rule(exe, scan="300ms", more=f'cmdline = "{python} *"'))
    read, write = os.pipe()
    pid = processes.start(python, "-I", "-c", EATER, memcg / "cgroup.procs", stdin=read)
    wait_for_value(pid, 500)
    wait_until(lambda: str(pid) in (memcg / "cgroup.procs").read_text().split(), "in the group")

    os.write(write, b"\n")

    wait_until(lambda: processes.children[-1].poll() == -signal.SIGKILL, "killed")
    told = f"The OOM killer has killed process {pid} (eater) in memory cgroup /{memcg.name}"
    wait_until(lambda: told in daemon.log(), "told")
    (line,) = [line for line in daemon.log().split("\n") if told in line]
    assert "at oom_score_adj 500; rule 'target' held it at 500" in line
    daemon.wait_for_scan()
    assert "didn't tell whom" not in daemon.log()
