"""On saturated CPUs the daemon, at real-time priority, pins from the program's own CPU, and leaves it again."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.running import Daemon, Processes, rule, wait_for_value, wait_until

REAL_TIME = ("chrt", "--reset-on-fork", "--rr", "1")
STARTS = 20
CALL = re.compile(r"sched_setaffinity\(0, \d+, \[([\d ,]+)\]\) += 0|pwrite64\(\d+, \"(500)\"")


def allowed(pid: int) -> str:
    return next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Cpus_allowed_list" in line)


def calls(daemon: Daemon, processes: Processes, target: Path, output: Path) -> list[str]:
    """Where it went and what it wrote, in order, while programs started."""
    trace = ["strace", "-e", "trace=sched_setaffinity,pwrite64", "-o", str(output), "-p", str(daemon.pid)]
    strace = subprocess.Popen(trace, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{daemon.pid}/status").read_text(), "strace attached")
        wait_for_value([processes.start(target, "1000") for _ in range(STARTS)], 500)
        wait_until(lambda: len(daemon.pins()) == STARTS, "all of them listed")
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait()
    found = CALL.finditer(output.read_text())
    return ["write" if call[2] else call[1] for call in found]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which tells of the calls, isn't installed")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one CPU to go to")
def test_goes_to_the_cpu_of_the_program_where_all_are_taken(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    daemon.start(rule(target, scan="100ms"), prefix=REAL_TIME)
    for _ in range(2 * (os.cpu_count() or 1)):
        processes.start("sh", "-c", "while :; do :; done")
    scans = daemon.status()["counters"]["scans"]
    wait_until(lambda: daemon.status()["counters"]["scans"] > scans + 2, "scans have seen that")

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
