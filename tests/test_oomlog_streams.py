"""Several streams in one log, and several logs of one machine: each event once, in the order of time."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from oomwatchd.oomlog.gather import history
from oomwatchd.oomlog.line_breaks import with_line_feeds
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.source import kills
from oomwatchd.oomlog.stream import PIECE, Stream
from tests.oom_reports import ERAS, Made, made
from tests.test_oomlog_shapes import DAY, told, truth


def read_all(*paths: Path) -> list[OomKill]:
    failures: list[Exception] = []
    found = list(kills([str(path) for path in paths], failures.append))
    assert not failures
    return found


def reports(seed: int, count: int = 2) -> list[Made]:
    rng = random.Random(seed)
    return [made(rng.choice(ERAS[1:]), rng, memcg=rng.random() < 0.5) for _ in range(count)]


def syslog(report: Made, host: str, minute: int = 0, *, stamp: bool = True) -> list[str]:
    return [
        f"Mar 15 04:{minute:02}:35 {host} kernel: {console_stamp(minute, number) if stamp else ''}{line}"
        for number, line in enumerate(report.lines)
    ]


def console_stamp(minute: int, number: int) -> str:
    return f"[{5000 + 60 * minute + number / 1e6:12.6f}] "


def console(report: Made, minute: int = 0) -> list[str]:
    return [console_stamp(minute, number) + line for number, line in enumerate(report.lines)]


def interleaved(rng: random.Random, *logs: list[str]) -> list[str]:
    rest = [list(log) for log in logs]
    out = []
    while any(rest):
        out.append(rng.choice([log for log in rest if log]).pop(0))
    return out


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize("seed", range(6))
def test_hosts_of_a_log_server(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    made_by = {f"web{number}": report for number, report in enumerate(reports(seed, 3))}
    log = write(tmp_path / "log", interleaved(rng, *(syslog(report, host) for host, report in made_by.items())))
    found = {kill.host: told(kill) for kill in read_all(log)}
    assert found == {host: truth(report) for host, report in made_by.items()}


@pytest.mark.usefixtures("deadline")
def test_the_lines_of_many_hosts_take_no_longer_than_those_of_few() -> None:
    """This took 20 s: the patterns of more hosts than are remembered were compiled for each line."""
    parser = Parser(datetime(2026, 12, 31))
    for number in range(10_000):
        parser.feed(f"{DAY} web{number % 1000} kernel: eth0: link is up")


@pytest.mark.parametrize("seed", range(6))
def test_hosts_that_differ_in_a_lead(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    made_by = {f"web{number}": report for number, report in enumerate(reports(seed, 3))}
    logs = ([f"{host}: {line}" for line in console(report)] for host, report in made_by.items())
    found = {kill.host: told(kill) for kill in read_all(write(tmp_path / "log", interleaved(rng, *logs)))}
    assert found == {host: truth(report) for host, report in made_by.items()}


@pytest.mark.parametrize("stamp", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_syslog_and_console_of_one_machine_in_one_file(seed: int, stamp: bool, tmp_path: Path) -> None:
    rng = random.Random(seed)
    first, second = reports(seed)
    parts = [
        interleaved(rng, syslog(one, "h1", n, stamp=stamp), console(one, n)) for n, one in enumerate((first, second))
    ]
    found = read_all(write(tmp_path / "log", [line for part in parts for line in part]))
    assert [(told(kill), kill.host) for kill in found] == [(truth(first), "h1"), (truth(second), "h1")]
    assert [kill.time for kill in found] == ["2026-03-15T04:00:35", "2026-03-15T04:01:35"]


SECOND: dict[str, Callable[[list[Made]], list[str]]] = {
    "kern.log beside syslog": lambda all_of: [line for n, one in enumerate(all_of) for line in syslog(one, "h1", n)],
    "without stamps": lambda all_of: [
        line for n, one in enumerate(all_of) for line in syslog(one, "h1", n, stamp=False)
    ],
    "the host's whole name": lambda all_of: [
        line for n, one in enumerate(all_of) for line in syslog(one, "h1.example", n)
    ],
    "dmesg": lambda all_of: [line for n, one in enumerate(all_of) for line in console(one, n)],
    "grep": lambda all_of: [line for n, one in enumerate(all_of) for line in syslog(one, "h1", n) if "ill" in line],
    "the journal, with a zone": lambda all_of: [
        f"2026-03-15T05:{n:02}:35.{number:06}+01:00 h1 kernel: {line}"
        for n, one in enumerate(all_of)
        for number, line in enumerate(one.lines)
    ],
}  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("second", SECOND)
def test_one_event_in_two_logs(second: str, order: int, tmp_path: Path) -> None:
    for seed in range(2):
        all_of = reports(seed, 3)
        one = write(tmp_path / "syslog", [line for n, report in enumerate(all_of) for line in syslog(report, "h1", n)])
        other = write(tmp_path / "other", SECOND[second](all_of))
        found = read_all(*(one, other)[::order])
        assert [told(kill) for kill in found] == [truth(report) for report in all_of]
        assert all((kill.host or "").startswith("h1") for kill in found)
        assert all(isinstance(kill.time, str) for kill in found)
        assert all(kill.file in (str(one), str(other)) for kill in found)


def test_a_log_copied_behind_itself(tmp_path: Path) -> None:
    all_of = reports(3, 3)
    lines = [line for n, report in enumerate(all_of) for line in syslog(report, "h1", n)]
    assert len(read_all(write(tmp_path / "log", lines + lines))) == 3


def test_equal_reports_of_two_hosts_are_two_events(tmp_path: Path) -> None:
    (report,) = reports(1, 1)
    found = read_all(write(tmp_path / "a", syslog(report, "web1")), write(tmp_path / "b", syslog(report, "web2")))
    assert [kill.host for kill in found] == ["web1", "web2"]


def test_different_logs_are_merged_by_time(tmp_path: Path) -> None:
    all_of = reports(4, 6)
    paths = [
        write(tmp_path / host, [line for n in range(at, 6, 2) for line in syslog(all_of[n], host, n)])
        for at, host in enumerate(("web1", "web2"))
    ]
    found = read_all(*reversed(paths))
    assert [told(kill) for kill in found] == [truth(report) for report in all_of]


def test_the_same_process_killed_twice_is_two_events(tmp_path: Path) -> None:
    """A victim that doesn't die is chosen again: before 4.6 nothing but itself frees its memory."""
    line = "Killed process 7 (x) total-vm:9kB, anon-rss:8kB, file-rss:1kB"
    lines = [f"[{number}.000000] {line}" for number in (1, 2)]
    assert len(read_all(write(tmp_path / "log", lines))) == 2


@pytest.mark.parametrize(
    "names",
    [
        ("kern.log.2.gz", "kern.log.1", "kern.log"),
        ("kern.log-20260313", "kern.log-20260314", "kern.log"),
        ("kern.log-2026-03-13", "kern.log-2026-03-14", "kern.log"),
        ("kern-20260313.log", "kern-20260314.log", "kern.log"),
        ("kern.log_20260314_010000", "kern.log_20260314_020000", "kern.log"),
        ("kern.log-20260314-1773536400", "kern.log-20260315-1773622800", "kern.log"),
        ("kern.log.1773536400", "kern.log.1773622800", "kern.log"),
    ],
)
def test_a_report_over_rotated_parts(names: tuple[str, ...], tmp_path: Path) -> None:
    """Without dates in the text the names tell the order."""
    import gzip

    report = reports(5, 1)[0]
    lines = list(report.lines)
    third = len(lines) // 3
    for name, part in zip(names, (lines[:third], lines[third : 2 * third], lines[2 * third :]), strict=True):
        data = "".join(f"{line}\n" for line in part).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found = read_all(*(tmp_path / name for name in sorted(names)))
    assert [told(kill) for kill in found] == [truth(report)]


@pytest.mark.parametrize("seed", range(4))
def test_newest_first_in_one_second(seed: int, tmp_path: Path) -> None:
    all_of = reports(seed, 3)
    lines = [f"Mar 15 04:07:35 h1 kernel: {line}" for report in all_of for line in report.lines]
    found = read_all(write(tmp_path / "log", lines[::-1]))
    assert [told(kill) for kill in found] == [truth(report) for report in all_of]


def test_what_one_log_lacks_the_other_has(tmp_path: Path) -> None:
    """The console's log begins within the report, the other one has no dates."""
    (report,) = reports(7, 1)
    end = next(n for n, line in enumerate(report.lines) if "Killed process" in line)
    head = [f"kernel: {line}" for line in report.lines[: end + 1]]
    (kill,) = read_all(write(tmp_path / "a", head), write(tmp_path / "b", syslog(report, "h1")[end - 1 :]))
    assert told(kill) == truth(report)
    assert (kill.time, kill.host) == ("2026-03-15T04:00:35", "h1")


@pytest.mark.parametrize(("rows", "most"), [(10, 70), (40_000, 6)])
def test_few_events_are_held_at_a_time(rows: int, most: int, tmp_path: Path) -> None:
    """A log of large reports takes no more memory than some of them."""
    (example,) = read_all(write(tmp_path / "log", syslog(reports(8, 1)[0], "h1")))
    assert example.tasks is not None
    assert example.victim is not None
    made_so_far = 0

    def log() -> Iterator[OomKill]:
        nonlocal made_so_far
        for number in range(200):
            made_so_far += 1
            victim = replace(example.victim, pid=number)  # type: ignore[type-var]
            yield replace(example, victim=victim, tasks=example.tasks[:1] * rows)  # type: ignore[index]

    for told_so_far, _ in enumerate(history([log()])):
        assert made_so_far - told_so_far <= most


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "second", [f"{DAY} h1 kernel: ", f"{DAY} h1 kernel: [195998.443208] ", "2026-03-15T04:07:35.9+00:00 h1 kernel: "]
)
def test_two_programs_write_each_line_to_one_log(second: str, era: str, tmp_path: Path) -> None:
    report = made(era, random.Random(era))
    first = second if second.startswith("2026") else f"{DAY} h1 kernel: "
    log = write(tmp_path / "messages", [f"{prefix}{line}" for line in report.lines for prefix in (first, second)])
    (kill,) = read_all(log)
    assert told(kill) == truth(report)


def test_a_kill_that_the_kernel_logged_twice_counts_twice(tmp_path: Path) -> None:
    """Where memory.oom.group is set, the kernel writes the first kill twice."""
    report = made("6.1", random.Random(3), memcg=True)
    *lines, kill_line, reaped = report.lines
    group = f"Tasks in {report.truth.memcg} are going to be killed due to memory.oom.group set"
    written = [*lines, kill_line, group, kill_line, reaped]
    log = write(tmp_path / "messages", [f"{DAY} h1 kernel: {line}" for line in written])
    (kill,) = read_all(log)
    assert [killed.pid for killed in kill.also_killed] == [report.truth.victim.pid]


@pytest.mark.parametrize(
    ("times", "count"),
    [
        (("Aug 21 14:42:49 h1 kernel: ", "Aug 21 22:06:58 h1 kernel: "), 2),
        (("Aug 21 14:42:49 h1 kernel: [216.156353] ", "Aug 21 14:42:49 h1 kernel: [216.356353] "), 2),
        (("Aug 21 14:42:49 h1 kernel: [216.156353] ", "Aug 21 14:42:51 h1 kernel: [216.156353] "), 1),
        (("Aug 21 14:42:49 h1 kernel: ", "Aug 21 14:42:50 h1 kernel: "), 1),
        (("kernel: ", "kernel: "), 1),
    ],
)
def test_a_line_of_another_time_is_no_copy(times: tuple[str, ...], count: int, tmp_path: Path) -> None:
    """`grep oom-killer` leaves one line of each report."""
    text = "taskd invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0"
    assert len(read_all(write(tmp_path / "messages", [f"{time}{text}" for time in times]))) == count


@pytest.mark.parametrize("prefix", ["", "[    1.000000] ", f"{DAY} h1 kernel: "])
def test_the_end_of_a_panic_makes_no_second_event(prefix: str, tmp_path: Path) -> None:
    why = "Kernel panic - not syncing: System is deadlocked on memory"
    lines = ["Out of memory and no killable processes...", why, f"---[ end {why} ]---"]
    (kill,) = read_all(write(tmp_path / "messages", [f"{prefix}{line}" for line in lines]))
    assert kill.panic == "System is deadlocked on memory"
    (kill,) = read_all(write(tmp_path / "end", lines[2:]))
    assert kill.panic == "System is deadlocked on memory"


def test_a_prompt_stands_before_the_first_line_and_the_stamp_grows(tmp_path: Path) -> None:
    kill_line = "Out of memory: Killed process 30 (node) total-vm:4kB, anon-rss:4kB, file-rss:4kB, shmem-rss:0kB"
    lines = [f"$ [99999.999999] {kill_line}", "[100000.000001] eth0: link is up"]
    (kill,) = read_all(write(tmp_path / "copied", lines))
    assert kill.victim is not None


@pytest.mark.parametrize("before", ["Memory cgroup ", "Memory cgroup\n", ""])
def test_a_small_letter_tells_that_a_cgroup_was_out_of_memory(before: str, tmp_path: Path) -> None:
    """Where a cut or a mailer has taken away the words before it."""
    line = "out of memory: Killed process 30 (node) total-vm:4kB, anon-rss:4kB, file-rss:4kB, shmem-rss:0kB"
    (kill,) = read_all(write(tmp_path / "messages", [f"{DAY} h1 kernel: {before}{line}"]))
    assert (kill.victim is not None, kill.scope) == (True, "memcg")


def test_the_first_line_is_cut(tmp_path: Path) -> None:
    report = made("6.11", random.Random(5))
    at = next(number for number, line in enumerate(report.lines) if line.startswith("[") and "pid" not in line)
    lines = [report.lines[at], *(f"{DAY} h1 kernel: {line}" for line in report.lines[at + 1 :])]
    (kill,) = read_all(write(tmp_path / "messages", lines))
    assert kill.victim is not None
    assert kill.victim.pid == report.truth.victim.pid


@pytest.mark.parametrize("kept", [1, 3, 12, 40])
def test_a_bare_report_cut_at_its_start(kept: int, tmp_path: Path) -> None:
    """As a person copies the end of a table: no line has a prefix that tells where it begins."""
    rng = random.Random(kept)
    rows = [
        f"[{pid:7}] {rng.choice([0, 1000]):5} {pid:6} {rng.randrange(10**3, 10**8):8} {rng.randrange(10**6):8} "
        f"{rng.randrange(10**8):8} {rng.randrange(10**5):8} {rng.choice([0, 200, -1000]):13} worker-{pid}"
        for pid in range(300, 300 + kept)
    ]
    kill = (
        "Out of memory: Killed process 300 (worker-300) total-vm:30290kB, anon-rss:9234kB, file-rss:4kB, "
        "shmem-rss:0kB, UID:1000 pgtables:59kB oom_score_adj:0"
    )
    reaped = "oom_reaper: reaped process 300 (worker-300), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"
    (found,) = read_all(write(tmp_path / "copied", [*rows, kill, reaped]))
    assert found.victim is not None
    assert (found.victim.pid, found.victim.comm, found.victim.anon_rss_kb) == (300, "worker-300", 9234)
    assert found.tasks is not None
    assert [row.comm for row in found.tasks] == [f"worker-{pid}" for pid in range(300, 300 + kept)]


@pytest.mark.parametrize("stamp", ["", "[   12.345678] "])
def test_a_repetition_of_a_line_in_the_log_before(stamp: str, tmp_path: Path) -> None:
    kill = (
        f"{stamp}Memory cgroup out of memory: Killed process 700 (job) total-vm:1124kB, anon-rss:496kB, file-rss:36kB, "
        "shmem-rss:0kB, UID:1001 pgtables:29kB oom_score_adj:0"
    )
    repetition = f"{DAY} h1 kernel: message repeated 2 times: [ {kill}]"
    (alone,) = read_all(write(tmp_path / "alone", [repetition]))
    (behind,) = read_all(write(tmp_path / "behind", [f"{DAY} h1 kernel: {kill}", repetition]))
    assert alone.victim is not None
    assert behind.victim is not None
    assert (alone.victim.pid, behind.victim.pid) == (700, 700)


def test_one_event_in_two_logs_of_different_zones(tmp_path: Path) -> None:
    report = made("6.1", random.Random(11))
    messages = write(tmp_path / "messages", [f"{DAY} h1 kernel: {line}" for line in report.lines])
    dmesg = write(tmp_path / "dmesg-T", [f"[Sun Mar 15 03:07:35 2026] {line}" for line in report.lines])
    (kill,) = read_all(messages, dmesg)
    assert told(kill) == truth(report)


def test_little_is_held_of_a_log_in_one_line_behind_its_last_stamp() -> None:
    """Otherwise all of it would be held, and searched again with each piece."""
    stamped = b"".join(b" [    %d.000001] eth0: up" % number for number in range(9))
    stream = with_line_feeds(Stream(iter([stamped, *[b"x" * PIECE] * 20])))
    pieces = list(iter(stream.read_some, b""))
    assert max(map(len, pieces)) <= 6 * PIECE
    assert b"".join(pieces) == stamped.replace(b" [", b"\n[") + b"x" * (20 * PIECE)
