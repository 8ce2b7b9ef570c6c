"""Native journal records, as a journal would get them."""

import json
import subprocess
import time
from pathlib import Path

from oomwatchd.daemon.log_records import MESSAGE_IDS
from tests.kernel.running import (
    Daemon,
    Processes,
    rule,
    set_oom_score_adj,
    start_with_journal,
    wait_for_value,
    wait_until,
)

OF_A_PROCESS = {"OBJECT_PID", "OOMWATCHD_UNIT"} | {
    f"OOMWATCHD_{name}" for name in ("RULE", "COMM", "EXE", "UID", "OLD", "NEW", "SOURCE")
}


def test_fields(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    records_file = tmp_path / "records"
    daemon.write(rule(target, scan="300ms"))
    start_with_journal(daemon, records_file)
    before = time.monotonic_ns()
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)
    set_oom_score_adj(pid, 20)
    wait_for_value(pid, 500)
    daemon.write(rule(target, '"many"', scan="300ms"))
    wait_until(lambda: daemon.status()["config"]["error"], "refused")
    daemon.write(rule(target, scan="300ms", more="enabled = false"))
    wait_for_value(pid, 0)
    subprocess.run(["kill", str(daemon.status()["pid"])], check=True)
    assert daemon.process is not None
    assert daemon.process.wait(30) == 0

    records = [json.loads(line) for line in records_file.read_bytes().splitlines()]
    by_event = {record["OOMWATCHD_EVENT"]: record for record in records}
    assert by_event.keys() == {
        *("started", "pinned", "drift", "reload-failed", "reloaded", "released", "stopped"),
    }
    for record in records:
        assert record["MESSAGE_ID"] == MESSAGE_IDS[record["OOMWATCHD_EVENT"]]
        assert record["PRIORITY"] in "1234567"
        assert record["MESSAGE"]
        assert record["SYSLOG_IDENTIFIER"] == "oomwatchd"
    for event in ("pinned", "drift", "released"):
        assert by_event[event].keys() >= OF_A_PROCESS
        assert by_event[event]["OBJECT_PID"] == str(pid)
    pinned = by_event["pinned"]
    assert pinned["OOMWATCHD_EXE"] == str(target)
    assert (pinned["OOMWATCHD_COMM"], pinned["OOMWATCHD_RULE"], pinned["OOMWATCHD_UID"]) == ("target", "target", "0")
    assert (pinned["OOMWATCHD_OLD"], pinned["OOMWATCHD_NEW"], pinned["OOMWATCHD_SOURCE"]) == ("0", "500", "exec")
    assert 0 < int(pinned["OOMWATCHD_LATENCY_US"]) < (time.monotonic_ns() - before) // 1000
    assert "OOMWATCHD_LATENCY_US" not in by_event["released"]
    assert f"{daemon.config}:8:17: " in by_event["reload-failed"]["MESSAGE"]
