"""What the kernel counts, and which records of its log it wrote about an OOM kill."""

from datetime import datetime
from pathlib import Path

import pytest

from oomwatchd.daemon.oom_kills import believed
from oomwatchd.oomlog.kernel_log import KillCounters, read_counters, report_line
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill

DATA = Path(__file__).parent / "data" / "oomlog"
KILLED = "Out of memory: Killed process 94 (journald) total-vm:4kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nr_free_pages 1\nallocstall_dma 1\nallocstall_normal 2\noom_kill 3\nnuma_hit 4\n", KillCounters(3, 3)),
        ("nr_free_pages 1\nallocstall 5\n", KillCounters(None, 5)),
        (f"nr_free_pages 1\n{'x' * (1 << 17)} 1\noom_kill 3\nlast 1\n", KillCounters(3, 0)),
        ("", KillCounters(None, 0)),
    ],
)
def test_counters(tmp_path: Path, text: str, expected: KillCounters) -> None:
    (tmp_path / "vmstat").write_text(text)

    assert read_counters(str(tmp_path)) == expected


def test_no_counters(tmp_path: Path) -> None:
    assert read_counters(str(tmp_path)) == KillCounters(None, 0)


def test_counters_of_this_kernel() -> None:
    names = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())

    assert (read_counters().kills or 0) >= int(names["oom_kill"])


def parsed(lines: list[str]) -> list[OomKill]:
    parser = Parser(datetime(2026, 1, 1))
    return [kill for line in lines for kill in parser.feed(line)] + parser.flush()


@pytest.mark.parametrize("name", ["simple", "nested", "bytes", "two", "workers"])
def test_whole_reports_are_let_through(name: str) -> None:
    records = [line for line in (DATA / f"{name}.kmsg").read_bytes().split(b"\n") if not line.startswith(b" ")]

    passed = [line for record in records if (line := report_line(record)) is not None]

    assert len(passed) < len(records)
    assert parsed(passed) == parsed([record.decode("utf-8", "backslashreplace") for record in records])


def test_record_of_the_kernel() -> None:
    assert report_line(f"3,815,1234567,-;{KILLED}\n SUBSYSTEM=x\n".encode()) == f"3,815,1234567,-;{KILLED}"


@pytest.mark.parametrize(
    "record",
    [
        f"11,815,1234567,-;{KILLED}",  # facility user
        f"30,815,1234567,-;{KILLED}",  # facility daemon
        f"131,815,1234567,-;{KILLED}",
        f"-3,815,1234567,-;{KILLED}",
        f"x,815,1234567,-;{KILLED}",
        KILLED,
        "",
        f"6,815,1234567,-;crash[55]: segfault at 8 ip 1 sp 2 error 4 in {KILLED}[1,2+3]",
        f"6,815,1234567,-;Out of memory: [55]: segfault at 8 ip 1 sp 2 error 4 in {KILLED}[1,2+3]",
        f"6,815,1234567,-;Killed process [55]: segfault at 8 in {KILLED}[1,2+3]",
        "6,815,1234567,-;Task in /[55]: segfault at 8 in x killed as a result of limit of /y",
        "6,815,1234567,-;oom-kill:constr[55]: segfault at 8 in oom-kill:constraint=CONSTRAINT_NONE[1,2+3]",
        "6,815,1234567,-;x[55]: segfault at 8 in y invoked oom-killer: gfp_mask=0x0[1,2+3]",
        f"6,815,1234567,-;usb 1-1: Product: {KILLED}",
    ],
)
def test_fakes_are_no_part_of_a_report(record: str) -> None:
    assert report_line(record.encode()) is None


def test_no_more_kills_are_believed_than_the_kernel_has_counted() -> None:
    (real,) = parsed([line for line in (DATA / "two.kmsg").read_text().split("\n") if not line.startswith(" ")])
    (bare,) = parsed([f"3,815,1234567,-;{KILLED}"])

    assert believed([bare, real, bare], None) == [bare, real, bare]
    assert believed([bare, real, bare], 3) == [bare, real, bare]
    assert believed([bare, real, bare], 2) == [bare, real]
    assert believed([bare, real, bare], 1) == [real]
    assert believed([bare, real], 0) == []
