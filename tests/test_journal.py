"""Records, the catalog, and how much is logged."""

import re
import subprocess
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from oomwatchd.daemon.log import KEPT_RECORDS, JournalLog
from oomwatchd.daemon.log_records import INFO, MESSAGE_IDS, PinLog, Record, decision_record
from oomwatchd.pinning.decisions import Decision

CATALOG = Path(__file__).parent.parent / "systemd/oomwatchd.catalog"
PINNED = Decision("pinned", 42, "r", 0, 500, "exec", "comm")


def test_catalog_explains_every_event(tmp_path: Path) -> None:
    assert sorted(re.findall(r"^-- ([0-9a-f]{32})$", CATALOG.read_text(), re.MULTILINE)) == sorted(MESSAGE_IDS.values())
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    (directory / CATALOG.name).write_bytes(CATALOG.read_bytes())
    done = subprocess.run(
        ["journalctl", f"--root={tmp_path}", "--update-catalog"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_from_a_process_goes_into_a_record_as_it_is() -> None:
    hostile = replace(PINNED, comm="a\n\x1b[31m\udcff", exe="/tmp/\u202e", unit="x\ty")

    record = decision_record(hostile)

    assert record.message.isprintable()
    assert record.fields["OOMWATCHD_COMM"] == "a\\x0a\\x1b[31m\\xff"
    assert record.fields["OOMWATCHD_EXE"] == "/tmp/\\xe2\\x80\\xae"
    assert all(str(value).isprintable() for value in record.fields.values())


@pytest.mark.parametrize(
    ("mode", "new", "logged"),
    [("auto", 500, 20), ("auto", -500, 5000), ("each", 500, 5000), ("summary", 500, 0), ("off", 500, 0)],
)
def test_floods(mode: str, new: int, logged: int) -> None:
    log = PinLog(mode)

    admitted = sum(log.admits(replace(PINNED, pid=i, new=new), i * 0.001) for i in range(5000))
    (*early,) = log.summaries(5.0)
    (*summaries,) = log.summaries(11.0)

    assert admitted == logged
    assert early == []
    counts = [summary.fields["OOMWATCHD_COUNT"] for summary in summaries]
    assert counts == ([5000 - logged] if mode in ("auto", "summary") and new > 0 else [])


def test_flood_that_goes_on_is_summed_up_by_the_minute_and_ends() -> None:
    log = PinLog("auto")
    for i in range(1000):
        log.admits(PINNED, i * 0.01)
    assert len(list(log.summaries(10.0))) == 1
    for i in range(1000):
        assert not log.admits(PINNED, 10.0 + i * 0.01)
    assert list(log.summaries(30.0)) == []
    assert len(list(log.summaries(71.0))) == 1

    assert list(log.summaries(200.0)) == []
    assert log.admits(PINNED, 201.0)


def test_drift_is_no_matter_of_how_many() -> None:
    log = PinLog("off")

    assert log.admits(replace(PINNED, event="drift"), 0.0)


def test_message_of_any_bytes_goes_to_the_journal() -> None:
    JournalLog().write(Record("started", INFO, "Started with \udcff.toml"))


def test_records_that_the_journal_does_not_take_are_kept_then_dropped_and_counted() -> None:
    sent: list[str] = []
    reads = False

    def sendv(*fields: str) -> None:
        if not reads:
            raise InterruptedError
        sent.append(fields[0])

    journal = JournalLog(sendv)
    for i in range(KEPT_RECORDS + 7):
        journal.write(Record("pinned", INFO, f"{i}"))
    assert journal.retry_seconds() is not None
    journal.flush()
    assert sent == []
    reads = True
    journal.flush()

    dropped = "MESSAGE=7 records were dropped while the journal did not read"
    assert sent == [*(f"MESSAGE={i}" for i in range(KEPT_RECORDS)), dropped]
    assert journal.retry_seconds() is None
    journal.write(Record("pinned", INFO, "next"))
    assert sent[-1] == "MESSAGE=next"


def test_what_is_kept_for_the_journal_is_bounded_in_size() -> None:
    def sendv(*fields: str) -> None:
        raise InterruptedError

    tracemalloc.start()
    journal = JournalLog(sendv)
    for _ in range(1000):
        journal.write(Record("pinned", INFO, "x" * 10_000))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 2 << 20
