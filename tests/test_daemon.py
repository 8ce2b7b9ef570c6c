"""What goes wrong with one process keeps no other from its pin; and what makes a scan ask about all again."""

from pathlib import Path

import pytest

from oomwatchd.config import load as config
from oomwatchd.config.stamp import stamp
from oomwatchd.daemon import oom_kills, requests
from oomwatchd.daemon.daemon import Daemon
from oomwatchd.daemon.log import Log
from oomwatchd.daemon.log_records import ERR, Record
from oomwatchd.daemon.parts import Parts
from oomwatchd.oomlog.kernel_log import KillCounters
from oomwatchd.pinning.decisions import SCAN


class KeptLog(Log):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


@pytest.fixture
def log() -> KeptLog:
    return KeptLog()


@pytest.fixture
def parts(tmp_path: Path, log: KeptLog) -> Parts:
    """Those of a daemon without rules, that hasn't begun."""
    file = tmp_path / "oomwatchd.toml"
    file.write_text("")
    file.chmod(0o600)
    where = config.layout(str(file), str(tmp_path))
    seen = stamp(where.main_file, where.drop_in_dirs, where.root)
    return Daemon(where, config.load(where), seen, log, requests.answer, root=str(tmp_path)).parts


def test_an_exception_for_one_process_is_logged_and_the_next_process_is_handled(parts: Parts, log: KeptLog) -> None:
    asked = list[int]()

    def fails(pid: int, inode: int) -> bool:
        assert inode > 0
        asked.append(pid)
        if pid == 1001:
            raise ValueError("\033[31m")
        return False

    parts.pinner.candidates.may_fit = fails  # type: ignore[method-assign]

    for _ in parts.scanner.looking({1000: 1, 1001: 2, 1002: 3}, SCAN):
        pass

    assert asked == [1000, 1001, 1002]
    (record,) = log.records
    assert (record.event, record.priority) == ("pin-failed", ERR)
    assert record.message.startswith("Internal error at test_daemon.py:")
    assert record.message.endswith(r", going on: ValueError: '\x1b[31m'")


@pytest.mark.parametrize(("stalls", "left"), [(7, {5: 50}), (8, {})])
def test_events_may_be_missing_after_a_process_waited_for_memory(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, stalls: int, left: dict[int, int]
) -> None:
    counters = [KillCounters(0, 7), KillCounters(0, stalls)]
    monkeypatch.setattr(oom_kills, "read_counters", lambda: counters.pop(0))
    parts.kills.count()
    parts.pinner.prefilter.ruled_out[5] = 50

    parts.kills.count()

    assert parts.pinner.prefilter.ruled_out == left


@pytest.mark.parametrize("step", ["count", "look_for_others"])
def test_what_fails_before_or_after_a_scan_stops_neither_scans_nor_the_rest(
    parts: Parts, log: KeptLog, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    shown = list[None]()

    def fails() -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(parts.kills, step, fails)
    monkeypatch.setattr(parts.pump, "scan_done", lambda: shown.append(None))

    parts.scanner.whole()

    assert (parts.scanner.scans, len(shown)) == (1, 1)
    (record,) = log.records
    assert record.message.endswith("going on: OSError: '[Errno 12] Cannot allocate memory'")
