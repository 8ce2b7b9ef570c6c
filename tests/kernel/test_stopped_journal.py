"""A journal that has stopped reading keeps no program from being pinned, and hears later of what it missed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from oomwatchd.control.client import NotRunning
from tests.kernel.running import (
    DEADLINE_SECONDS,
    Daemon,
    Processes,
    rule,
    start_with_journal,
    wait_for_value,
    wait_until,
)

PROGRAMS = 900
"""More than a journal's socket takes, net.unix.max_dgram_qlen, which is 512 under systemd."""


@contextlib.contextmanager
def with_journal(daemon: Daemon, records: Path) -> Iterator[int]:
    """Start the daemon with a receiver in the place of journald. Gives the receiver's PID."""
    start_with_journal(daemon, records)
    assert daemon.process is not None
    try:
        yield daemon.process.pid
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
        with contextlib.suppress(NotRunning):
            os.kill(daemon.status()["pid"], signal.SIGTERM)
        assert daemon.process.wait(DEADLINE_SECONDS) == 0


def test_a_program_is_pinned_at_once_and_reported_later(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    records = tmp_path / "records"
    daemon.write(rule(target, scan="5s").replace("[daemon]", '[daemon]\nlog_pins = "each"'))
    with with_journal(daemon, records) as journal:
        os.kill(journal, signal.SIGSTOP)
        slowest = 0.0
        for _ in range(PROGRAMS):
            pid = processes.start(target, "1000")
            started = time.monotonic()
            wait_for_value(pid, 500)
            slowest = max(slowest, time.monotonic() - started)
        assert len(daemon.pins()) == PROGRAMS
        os.kill(journal, signal.SIGCONT)
        told = f'"OBJECT_PID": "{pid}"'
        wait_until(lambda: told in records.read_text(), "the last pin is in the journal")
        print(f"slowest of {PROGRAMS} starts beside a stopped journal: {slowest * 1000:.1f} ms")
    pinned = [json.loads(line) for line in records.read_bytes().splitlines()]
    assert sum(record["OOMWATCHD_EVENT"] == "pinned" for record in pinned) == PROGRAMS


def test_pipe_that_nobody_reads(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.write(rule(target).replace("[daemon]", '[daemon]\nlog_pins = "each"'))
    reader, writer = os.pipe()
    try:
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(writer, False)
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "oomwatchd", "-c", str(daemon.config)], env=daemon.environment, stderr=writer
        )
        wait_until(daemon._ready, "ready")
        for _ in range(20):
            wait_for_value(processes.start(target, "1000"), 500)
        assert daemon.stop() == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_stop_beside_a_stopped_journal(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    daemon.write(rule(target).replace("[daemon]", '[daemon]\nlog_pins = "each"'))
    with with_journal(daemon, tmp_path / "records") as journal:
        pid = daemon.status()["pid"]
        os.kill(journal, signal.SIGSTOP)
        for _ in range(20):
            wait_for_value(processes.start(target, "1000"), 500)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", "ended")
