"""On saturated CPUs the daemon, at real-time priority, pins from the program's own CPU, and leaves it again."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.kernel.running import Daemon, Processes, rule, straced, wait_for_value, wait_until

REAL_TIME = ("chrt", "--reset-on-fork", "--rr", "1")
STARTS = 20
CALL = re.compile(r"sched_setaffinity\(0, \d+, \[([\d ,]+)\]\) += 0|pwrite64\(\d+, \"(500)\"")


def allowed(pid: int) -> str:
    return next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Cpus_allowed_list" in line)


def calls(daemon: Daemon, processes: Processes, target: Path, output: Path) -> list[str]:
    """Where it went and what it wrote, in order, while programs started."""
    with straced(daemon.pid, "-e", "trace=sched_setaffinity,pwrite64", "-o", str(output)):
        wait_for_value([processes.start(target, "1000") for _ in range(STARTS)], 500)
        wait_until(lambda: len(daemon.pins()) == STARTS, "all of them listed")
    found = CALL.finditer(output.read_text())
    return ["write" if call[2] else call[1] for call in found]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which tells of the calls, isn't installed")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one CPU to go to")
def test_goes_to_the_cpu_of_the_program_where_all_are_taken(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    for _ in range(2 * (os.cpu_count() or 1)):
        processes.start("sh", "-c", "while :; do :; done")
    daemon.start(rule(target, scan="1h"), prefix=REAL_TIME)

    found = calls(daemon, processes, target, tmp_path / "calls")

    assert found.count("write") == STARTS
    before = [found[i - 1] for i, call in enumerate(found) if call == "write" and i]
    assert any("," not in cpu and " " not in cpu and cpu != "write" for cpu in before), found
    assert found[-1] != "write"
    assert allowed(daemon.pid) == allowed(os.getpid())


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which tells of the calls, isn't installed")
def test_stays_where_it_is_at_normal_priority(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    daemon.start(rule(target, scan="1h"))

    assert set(calls(daemon, processes, target, tmp_path / "calls")) == {"write"}
