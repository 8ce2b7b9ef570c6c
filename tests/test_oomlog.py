"""The parser over reports that were provoked in a memory cgroup, and over variants of them."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import Killed, OomKill
from oomwatchd.oomlog.replay import replay

DATA = Path(__file__).parent / "data" / "oomlog"
REFERENCE = datetime(2026, 12, 31)


def parse(text: str) -> list[OomKill]:
    parser = Parser(REFERENCE)
    kills = [kill for line in text.split("\n") for kill in parser.feed(line)]
    return kills + parser.flush()


def kmsg(name: str) -> str:
    return (DATA / f"{name}.kmsg").read_bytes().decode("utf-8", "backslashreplace")


def records(name: str) -> Iterator[tuple[int, int, bytes]]:
    """(priority, microseconds, text) of each record, the kernel's escapes undone."""
    for line in kmsg(name).rstrip("\n").split("\n"):
        head, text = line.split(";", 1)
        priority, _, microseconds, _ = head.split(",")
        raw = re.sub(rb"\\x([0-9a-f]{2})", lambda hit: bytes([int(hit[1], 16)]), text.encode())
        yield int(priority), int(microseconds), raw


def test_what_one_report_says() -> None:
    first, second = parse(kmsg("simple"))
    assert first.time == 2997.195793
    assert (first.kernel, first.scope, first.constraint) == ("6.18.44", "memcg", "CONSTRAINT_MEMCG")
    assert (first.memcg, first.task_memcg) == ("/oomtest", "/oomtest")
    assert (first.invoker.comm, first.invoker.pid, first.invoker.gfp_mask) == ("leaker", 20960, "0xcc0")
    assert (first.invoker.order, first.invoker.oom_score_adj) == (0, 0)
    assert first.victim == Killed(20958, "batch job", 65534, 25244, 15624, 4236, 0, 84, 600)
    assert first.tasks is not None
    assert [task.comm for task in first.tasks] == ["database", "batch job", "web", "leaker"]
    assert first.tasks[1][:8] == (20958, 20958, 65534, 6311, 4965, 86016, 0, 600)
    assert (first.memory.limit_kb, first.memory.usage_kb) == (49152, 49152)
    assert not first.truncated
    assert second.victim is not None
    assert second.victim.pid == second.invoker.pid == 20960


@pytest.mark.parametrize(
    ("name", "victims"),
    [
        ("simple", ["batch job", "leaker"]),
        ("nested", ["a,task=b,uid=0", "line\\x0afeed"]),
        ("bytes", ["caf\\xc3\\xa9 \\xff\\x1b[31m"]),
        ("two", ["invoked oom-kil"]),
        ("workers", ["hog"]),
    ],
)
def test_names_and_the_choice(name: str, victims: list[str]) -> None:
    kills = parse(kmsg(name))
    assert [kill.victim.comm for kill in kills if kill.victim is not None] == victims
    for kill in kills:
        again = replay(kill)
        assert not kill.truncated
        assert again is not None
        assert again.agrees


def test_a_cgroup_may_be_named_like_the_rest_of_the_line() -> None:
    kill = parse(kmsg("nested"))[0]
    assert (kill.memcg, kill.task_memcg) == ("/oomtest", "/oomtest/side,pid=7")
    assert kill.tasks is not None
    assert sorted(task.comm or "" for task in kill.tasks) == ["a,task=b,uid=0", "line\\x0afeed", "x) total-vm:9kB"]


# The same reports as other programs write them down.


def dmesg(name: str, stamp: Callable[[int], str]) -> str:
    """As dmesg prints records: a line feed in one continues it below its text."""
    out = []
    for _, microseconds, raw in records(name):
        prefix = stamp(microseconds)
        text = raw.decode("utf-8", "backslashreplace").replace("\x1b", "\\x1b")
        out.append(prefix + text.replace("\n", "\n" + " " * len(prefix)))
    return "\n".join(out) + "\n"


def journal_json(name: str) -> str:
    out = []
    for priority, microseconds, raw in records(name):
        try:
            text: object = raw.decode()
            if any(byte < 32 and byte not in (9, 10) for byte in raw):
                text = list(raw)
        except UnicodeDecodeError:
            text = list(raw)
        record = {
            "__REALTIME_TIMESTAMP": str(1_790_000_000_000_000 + microseconds),
            "_TRANSPORT": "kernel",
            "PRIORITY": str(priority),
            "MESSAGE": text,
        }
        out.append(json.dumps(record, separators=(",", ":")))
    return "\n".join(out) + "\n"


def docker_json(name: str) -> str:
    lines = dmesg(name, lambda us: f"[{us / 1e6:12.6f}] ").splitlines()
    return "\n".join(
        json.dumps({"log": line + "\n", "stream": "stdout", "time": "2026-11-24T09:37:09Z"}) for line in lines
    )


FORMATS: dict[str, Callable[[int], str]] = {
    "dmesg": lambda us: f"[{us / 1e6:12.6f}] ",
    "dmesg, caller": lambda us: f"[{us / 1e6:12.6f}][  T113] ",
    "dmesg -T": lambda us: "[Tue Nov 24 09:37:09 2026] ",
    "dmesg -T, German": lambda us: "[Di Nov 24 09:37:09 2026] ",
    "dmesg -T, French": lambda us: "[mar. nov. 24 09:37:09 2026] ",
    "dmesg -T, French of old": lambda us: "[mar. 24 nov. 09:37:09 2026] ",
    "dmesg -T, Japanese": lambda us: "[火 11月 24 09:37:09 2026] ",
    "dmesg -x": lambda us: f"kern  :warn  : [{us / 1e6:12.6f}] ",
    "dmesg iso": lambda us: "2026-11-24T09:37:09,195793+01:00 ",
    "dmesg -d": lambda us: f"[{us / 1e6:12.6f} <    0.000011>] ",
    "syslog": lambda us: "Nov 24 09:37:09 db1 kernel: ",
    "syslog with both": lambda us: f"Nov 24 09:37:09 db1 kernel: [{us / 1e6:12.6f}] ",
    "rsyslog": lambda us: "2026-11-24T09:37:09.195793+01:00 db1 kernel: ",
    "RFC 5424": lambda us: "<4>1 2026-11-24T09:37:09.195793+01:00 db1 kernel - - - ",
    "busybox": lambda us: "Nov 24 09:37:09 db1 kern.warn kernel: ",
    "journalctl": lambda us: "Nov 24 09:37:09 db1 kernel: ",
    "journalctl -o short-iso": lambda us: "2026-11-24T09:37:09+0100 db1 kernel: ",
    "journalctl -o short-precise": lambda us: "Nov 24 09:37:09.195793 db1 kernel: ",
    "journalctl -o short-full": lambda us: "Tue 2026-11-24 09:37:09 CET db1 kernel: ",
    "journalctl -o short-monotonic": lambda us: f"[{us / 1e6:12.6f}] db1 kernel: ",
    "journalctl -o short-unix": lambda us: "1795509429.195793 db1 kernel: ",
    "journalctl -o short-delta": lambda us: f"[{us / 1e6:12.6f} <    0.000011 >] db1 kernel: ",
    "container runtime": lambda us: f"2026-11-24T09:37:09.195793123Z stderr F [{us / 1e6:12.6f}] ",
    "console server": lambda us: f"[2026-11-24 09:37:09] [{us / 1e6:12.6f}] ",
    "mail": lambda us: f"> > [{us / 1e6:12.6f}] ",
    "colours": lambda us: f"\x1b[32m[{us / 1e6:12.6f}] \x1b[0m",
    "NULs of a crash": lambda us: "\0\0\0Nov 24 09:37:09 db1 kernel: ",
    "bare": lambda us: "",
}


def told(kill: OomKill) -> object:
    """What doesn't depend on who wrote the line."""
    return (
        kill.invoker, kill.victim, kill.also_killed, kill.tasks, kill.kernel, kill.scope, kill.constraint,
        kill.memcg, kill.task_memcg, kill.memory, kill.truncated,
    )  # fmt: skip


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("name", ["simple", "two", "workers"])
def test_prefixes(name: str, style: str) -> None:
    kills = parse(dmesg(name, FORMATS[style]))
    assert [told(kill) for kill in kills] == [told(kill) for kill in parse(kmsg(name))]


def test_dmesg_in_colour() -> None:
    """The time green, what stands before a colon yellow, the rest as bad as its level."""
    lines = dmesg("simple", FORMATS["dmesg"]).splitlines()
    coloured = [
        f"\x1b[32m{line[:15]}\x1b[0m"
        + re.sub(r"^([^:]+:)(.*)$", "\x1b[33m\\1\x1b[0m\x1b[1m\x1b[31m\\2\x1b[0m", line[15:])
        for line in lines
    ]
    assert [told(kill) for kill in parse("\n".join(coloured))] == [told(kill) for kill in parse(kmsg("simple"))]


def test_a_prefix_that_nobody_knows() -> None:
    kills = parse(dmesg("simple", lambda us: "web-3|kern|"))
    expected = [replace(kill, memory=kills[0].memory) for kill in parse(kmsg("simple"))]
    assert [told(replace(kill, memory=kills[0].memory)) for kill in kills] == [told(kill) for kill in expected]


# Not "nested" in docker's JSON: a container runtime breaks records at line feeds.
JSON = [(journal_json, name) for name in ("simple", "nested", "bytes", "two", "workers")]
JSON += [(docker_json, name) for name in ("simple", "bytes", "two", "workers")]


@pytest.mark.parametrize(("render", "name"), JSON)
def test_json(render: Callable[[str], str], name: str) -> None:
    kills, expected = parse(render(name)), parse(kmsg(name))
    assert len(kills) == len(expected)
    for kill, other in zip(kills, expected, strict=True):
        assert kill.victim is not None
        assert other.victim is not None
        assert (kill.victim.pid, kill.victim.oom_score_adj) == (other.victim.pid, other.victim.oom_score_adj)
        assert kill.tasks is not None
        assert [task[:8] for task in kill.tasks] == [task[:8] for task in other.tasks or ()]
        assert kill.invoker.pid == other.invoker.pid


def test_a_line_feed_in_a_name() -> None:
    for text in (journal_json("nested"), dmesg("nested", FORMATS["dmesg"]), dmesg("nested", FORMATS["dmesg -T"])):
        kill = parse(text)[1]
        assert kill.victim is not None
        assert (kill.victim.comm, kill.victim.anon_rss_kb, kill.victim.oom_score_adj) == ("line\nfeed", 43940, 20)
        assert kill.invoker.comm == "line\nfeed"
        assert kill.tasks is not None
        assert "line\nfeed" in [task.comm for task in kill.tasks]


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("[Tue Nov 24 09:37:09 2026] ", "2026-11-24T09:37:09"),
        ("[mar. 24 mars 09:37:09 2026] ", "2026-03-24T09:37:09"),
        ("[Do Mär 12 09:37:09 2026] ", "2026-03-12T09:37:09"),
        ("[mié ago 12 09:37:09 2026] ", "2026-08-12T09:37:09"),
        ("[水  9月 16 09:37:09 2026] ", "2026-09-16T09:37:09"),
        ("Nov 24 09:37:09 db1 kernel: ", "2026-11-24T09:37:09"),
        ("Feb 29 09:37:09 db1 kernel: ", "2024-02-29T09:37:09"),
        ("2026-11-24T09:37:09.5+01:00 db1 kernel: ", "2026-11-24T09:37:09.500000+01:00"),
        ("2026-11-24T09:37:09+0100 db1 kernel: ", "2026-11-24T09:37:09+01:00"),
        ("2026-11-24 09:37:09 UTC db1 kernel: ", "2026-11-24T09:37:09+00:00"),
        ("1790000000.250000 db1 kernel: ", "2026-09-21T14:13:20.250000+00:00"),
        ("[ 2997.195793] ", 2997.195793),
        ("4,1,2997195793,-;", 2997.195793),
        ("", None),
        ("[Tue Nov 44 09:37:09 2026] ", None),
    ],
)
def test_times(stamp: str, time: str | float | None) -> None:
    assert parse(dmesg("simple", lambda us: stamp))[0].time == time


@pytest.mark.parametrize(
    "line", ["Out of memory: Killed process 1 (x) total-vm:4kB, anon-rss:4kB", "x invoked oom-killer: order=0"]
)
def test_other_programs_dont_speak_for_the_kernel(line: str) -> None:
    assert parse(f"Nov 24 09:37:09 db1 kernel: {line}")
    assert not parse(f"Nov 24 09:37:09 db1 joe: {line}")
    assert not parse(f"Nov 24 09:37:09 db1 joe[7]: {line}")
    assert not parse(json.dumps({"_TRANSPORT": "syslog", "MESSAGE": line}))


# Older kernels.


@pytest.mark.parametrize(
    ("name", "kernel", "pgtables", "swap", "columns"),
    [
        ("simple-2.6.32", "2.6.32-754.el6.x86_64", None, None, 9),
        ("simple-3.10", "3.10.0-1160.el7.x86_64", 86016, 0, 9),
        ("simple-4.9", "4.9.0-19-amd64", 86016, 0, 10),
        ("simple-5.10-german", "5.10.0-30-amd64", 86016, 0, 9),
    ],
)
def test_tables_by_their_header(name: str, kernel: str, pgtables: int | None, swap: int | None, columns: int) -> None:
    (kill,) = parse((DATA / f"{name}.log").read_text())
    assert (kill.kernel, kill.scope, kill.memcg, kill.invoker.pid) == (kernel, "memcg", "/oomtest", 20960)
    assert kill.columns is not None
    assert len(kill.columns) == columns
    assert kill.tasks is not None
    assert kill.tasks[1][:8] == (20958, 20958, 65534, 6311, 4965, pgtables, swap, 600)
    assert kill.victim is not None
    assert (kill.victim.pid, kill.victim.comm, kill.victim.anon_rss_kb) == (20958, "batch job", 15624)
    assert not kill.truncated
    assert kill.constraint == ("CONSTRAINT_MEMCG" if "5.10" in name else "CONSTRAINT_MEMCG(implied)")


@pytest.mark.parametrize(
    ("line", "killed", "scope"),
    [
        ("Out of memory: Killed process 7 (x).", Killed(7, "x"), "global"),
        ("Out of Memory: Killed process 7, UID 500, (x).", Killed(7, "x", 500), "global"),
        ("Killed process 7 (x) vsz:9kB, anon-rss:8kB, file-rss:1kB", Killed(7, "x", None, 9, 8, 1), None),
        ("Killed process 7, UID 5, (x) total-vm:9kB, anon-rss:8kB, file-rss:1kB", Killed(7, "x", 5, 9, 8, 1), None),
        (
            "Memory cgroup out of memory: Killed process 7 (a) b) total-vm:9kB, anon-rss:8kB, file-rss:1kB, "
            "shmem-rss:0kB",
            Killed(7, "a) b", None, 9, 8, 1, 0),
            "memcg",
        ),
        (
            "Out of memory (oom_kill_allocating_task): Killed process 7 (Killed process ) total-vm:9kB, anon-rss:8kB, "
            "file-rss:1kB, shmem-rss:0kB, UID:4294967294 pgtables:3kB oom_score_adj:-999",
            Killed(7, "Killed process ", 4294967294, 9, 8, 1, 0, 3, -999),
            "global",
        ),
        ("Out of memory: Killed process 7 (x) total-vm:9kB, anon-rss:8kB, file-", Killed(7, "x", None, 9, 8), "global"),
        ("Out of memory: Killed process 7 (x) total-vm:9kB, anon-rss:8", Killed(7, "x", None, 9), "global"),
    ],
)  # fmt: skip
def test_kill_lines(line: str, killed: Killed, scope: str | None) -> None:
    for prefix in ("", "[ 2997.195793] ", "Nov 24 09:37:09 db1 kernel: "):
        (kill,) = parse(prefix + line)
        assert (kill.victim, kill.scope, kill.truncated) == (killed, scope, True)
        assert kill.allocating_task == ("allocating" in line)


def test_a_chosen_process_whose_child_was_sacrificed() -> None:
    (kill,) = parse(
        "[1.0] Out of memory: Kill process 7 (big) score 900 or sacrifice child\n"
        "[1.0] Killed process 8 (child) total-vm:9kB, anon-rss:8kB, file-rss:1kB\n"
    )
    assert kill.chosen is not None
    assert kill.victim is not None
    assert (kill.chosen.pid, kill.chosen.score, kill.victim.pid, kill.scope) == (7, 900, 8, "global")


# What is missing, what is between.


def test_each_cut_leaves_what_it_leaves() -> None:
    lines = kmsg("simple").split("\n")
    end = next(n for n, line in enumerate(lines) if "Killed process" in line)
    whole = parse(kmsg("simple"))[0]
    for cut in range(1, end + 1):
        kills = parse("\n".join(lines[:cut]))
        assert len(kills) == 1
        assert kills[0].truncated
        assert kills[0].invoker.comm == "leaker"
        kills = parse("\n".join(lines[cut : end + 1]))
        assert len(kills) == 1
        assert kills[0].truncated
        assert kills[0].victim == whole.victim
        assert kills[0].invoker.comm is None


def test_a_gap_shows() -> None:
    lines = dmesg("simple", FORMATS["syslog"]).split("\n")
    middle = next(n for n, line in enumerate(lines) if "Memory cgroup stats" in line)
    for gap in ("[...]", "(...snipped...)", "<snip>", "......", "[... 40 lines skipped ...]"):
        kill = parse("\n".join([*lines[:middle], gap, *lines[middle + 9 :]]))[0]
        assert kill.truncated, gap


def test_interleaved_with_others() -> None:
    noise = [
        "docker0: port 2(veth380a1cd) entered disabled state",
        "CPU: 0 PID: 7 Comm: kworker/u4:0 Not tainted 4.20.0+ #252",
        "WARNING: CPU: 0 PID: 1 at kernel/softirq.c:150 __local_bh_enable_ip+0x180/0x1c0",
        "systemd[1]: leaker.service: Killing process 99 (x) with signal SIGKILL.",
        "",
    ]
    rng = random.Random(6)
    lines = []
    for line in dmesg("simple", FORMATS["dmesg"]).rstrip("\n").split("\n"):
        lines += [f"[ 2997.000000] {rng.choice(noise)}"] * rng.randrange(3)
        lines.append(line)
    assert [told(kill) for kill in parse("\n".join(lines))] == [told(kill) for kill in parse(kmsg("simple"))]


def test_a_mailer_broke_the_lines() -> None:
    out = []
    for line in dmesg("simple", FORMATS["dmesg -T"]).rstrip("\n").split("\n"):
        head, _, tail = line[:70].rpartition(" ")
        worth = "total_vm" in line or "Killed" in line or re.search(r"\] +\d+ +\d+ +\d+ +\d+", line)
        out += [head, tail + line[70:]] if worth and len(line) > 75 else [line]
    assert len(out) > 2 * 80
    kills = parse("\n".join(out))
    assert [kill.victim for kill in kills] == [kill.victim for kill in parse(kmsg("simple"))]
    assert [kill.tasks for kill in kills] == [kill.tasks for kill in parse(kmsg("simple"))]


@pytest.mark.parametrize("mark", ["", "> ", "    "])
@pytest.mark.parametrize(
    "breaks", [(") ",), ("total-",), ("total-vm:",), (") ", "UID:0 "), ("shmem-rss:0kB, ", "pgtables:")]
)
def test_a_kill_line_was_broken_by_hand(mark: str, breaks: tuple[str, ...]) -> None:
    line = "[   71.000000] Out of memory: Killed process 7 (a (b) c) total-vm:9kB, anon-rss:8kB, file-rss:1kB, shmem-rss:0kB, UID:0 pgtables:3kB oom_score_adj:5"  # noqa: E501
    broken = line
    for at in breaks:
        head, tail = broken.rsplit(at, 1)
        broken = f"{head}{at.rstrip()}\n{mark}{tail}"
    (kill,) = parse(broken)
    assert kill.time == 71.0
    assert kill.victim == Killed(7, "a (b) c", 0, 9, 8, 1, 0, 3, 5)


@pytest.mark.parametrize("between", [" ", "\n", " \n"])
def test_a_kill_line_of_openvz_was_broken(between: str) -> None:
    log = "".join(
        f"Nov 24 12:17:0{ub} h1 kernel: Out of memory in UB {ub}: OOM{between}killed process 2{ub} (a) (b) "
        "score 0 vm:99kB, rss:17kB, swap:0kB\n"
        for ub in (0, 7)
    )
    first, second = parse(log)
    assert (first.scope, second.scope) == ("global", "memcg")
    assert first.victim == Killed(20, "a) (b", total_vm_kb=99)
    assert second.victim == Killed(27, "a) (b", total_vm_kb=99)


def test_a_whole_kill_line_has_no_second_part() -> None:
    first, second = parse("Out of memory: Killed process 7 (a)\nOut of memory: Killed process 8 (b)\n(c) UID 9")
    assert first.victim == Killed(7, "a")
    assert second.victim == Killed(8, "b")
    first, second = parse(f"[   71.000000] Killed process 7 (a)\n[   72.000000] {KILL.format(8)}")
    assert (first.time, second.time) == (71.0, 72.0)


def test_a_table_without_rows_is_not_no_table() -> None:
    lines = dmesg("simple", FORMATS["dmesg"]).split("\n")
    rows = re.compile(r"\] \[ *\d+\] ")
    assert parse("\n".join(line for line in lines if not rows.search(line)))[0].tasks == ()
    assert parse("\n".join(line for line in lines if not rows.search(line) and "tgid" not in line))[0].tasks is None


KILL = (
    "Memory cgroup out of memory: Killed process {} (x) total-vm:9kB, anon-rss:8kB, file-rss:1kB, shmem-rss:0kB, "
    "UID:0 pgtables:3kB oom_score_adj:0"
)


def test_a_group_dies_as_one_event() -> None:
    lines = [
        KILL.format(7),
        "Tasks in /job are going to be killed due to memory.oom.group set",
        KILL.format(8),
        KILL.format(7),
    ]
    (kill,) = parse("\n".join(lines))
    assert kill.victim is not None
    assert (kill.victim.pid, [one.pid for one in kill.also_killed], kill.group) == (7, [8, 7], "/job")


def test_kills_without_reports_are_events_of_their_own() -> None:
    """The kernel limits the reports to ten in five seconds, but never the kill lines."""
    report = dmesg("two", FORMATS["dmesg"])
    kills = parse(report + "".join(f"[{3000 + n}.000000] {KILL.format(n)}\n" for n in range(5)))
    assert [kill.victim.pid for kill in kills if kill.victim is not None] == [20986, 0, 1, 2, 3, 4]


def test_the_middle_of_a_group_kill_is_one_event() -> None:
    (kill,) = parse("\n".join(f"[Tue Mar 11 10:16:36 2025] {KILL.format(n)}" for n in range(3)))
    assert len(kill.also_killed) == 2


def test_nobody_to_kill() -> None:
    lines = kmsg("two").split("\n")
    lines = [line for line in lines if "oom-kill:" not in line and "Killed" not in line]
    (kill,) = parse("\n".join([*lines[:-1], "4,1,2998275130,-;Out of memory and no killable processes..."]))
    assert (kill.victim, kill.no_killable, kill.panic, kill.scope, kill.truncated) == (None, True, None, "memcg", False)
    panic = "0,2,2998275131,-;Kernel panic - not syncing: System is deadlocked on memory"
    (kill,) = parse("\n".join(["4,1,9,-;Out of memory and no killable processes...", panic]))
    assert (kill.no_killable, kill.panic, kill.scope) == (True, "System is deadlocked on memory", "global")


@pytest.mark.parametrize(("mode", "scope"), [("system-wide", "global"), ("compulsory", "memcg")])
def test_panic_on_oom(mode: str, scope: str) -> None:
    lines = kmsg("two").split("\n")
    lines = [line for line in lines if "oom-kill:" not in line and "Killed" not in line]
    if mode == "system-wide":
        lines = [line for line in lines if "cgroup" not in line and "usage" not in line]
    why = f"Out of memory: {mode} panic_on_oom is enabled"
    (kill,) = parse("\n".join([*lines[:-1], f"0,2,2998275131,-;Kernel panic - not syncing: {why}"]))
    assert (kill.panic, kill.no_killable, kill.victim, kill.scope) == (why, False, None, scope)
    assert replay(kill) is None


def test_an_unrelated_panic_or_memory_dump_is_no_oom() -> None:
    assert not parse(
        "[1.0] rb_consumer: page allocation failure: order:0, mode:0x24010c0\n[1.0] Mem-Info:\n"
        "[1.0] active_anon:1 inactive_anon:2 isolated_anon:0\n[1.0] Free swap  = 84kB\n[1.0] 4115400 pages RAM\n"
        "[2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n"
    )


def test_sysrq() -> None:
    (kill,) = parse("[1.0] kworker/0:2 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=-1, oom_score_adj=0")
    assert (kill.scope, kill.invoker.order) == ("sysrq", -1)
    (kill,) = parse("[1.0] SysRq : Manual OOM execution\n[1.0] kworker/0:2 invoked oom-killer: gfp_mask=0xd0, order=0")
    assert kill.scope == "sysrq"


@pytest.mark.parametrize(
    ("nodes", "cpuset", "scope"),
    [
        ("1", None, "mempolicy"),
        ("0", None, None),
        ("0", "0-1", "mempolicy"),
        ("0-1", "0-1", None),
        ("(null)", "0-1", None),
    ],
)
def test_a_memory_policy_shows_in_the_nodemask(nodes: str, cpuset: str | None, scope: str | None) -> None:
    text = f"[1.0] x invoked oom-killer: gfp_mask=0xd0(GFP_KERNEL), nodemask={nodes},  order=0, oom_score_adj=0\n"
    text += f"[1.0] x cpuset=/ mems_allowed={cpuset}\n" if cpuset is not None else ""
    assert parse(text)[0].scope == scope


def test_the_reaper_of_another_event() -> None:
    text = dmesg("two", FORMATS["dmesg"])
    reaped = "oom_reaper: reaped process 20986 (invoked oom-kil), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"
    late = f"[ 3000.000000] {reaped}\n"
    begun = "[ 2999.000000] other invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
    kills = parse(text + begun + late)
    assert [kill.victim.pid if kill.victim is not None else None for kill in kills] == [20986, None]
    kills = parse(begun + late)
    assert [kill.victim for kill in kills] == [Killed(20986, "invoked oom-kil")]


def test_a_live_log_gives_the_event_when_it_falls_silent() -> None:
    parser = Parser(REFERENCE)
    for line in kmsg("two").split("\n"):
        assert not parser.feed(line)
    assert not parser.busy
    (kill,) = parser.flush()
    assert kill.victim is not None
    assert not parser.flush()


# Whatever stands in a log: no traceback, no hang, bounded memory.


def mutated(text: str, rng: random.Random) -> str:  # noqa: C901 (a list: each case is one kind of damage)
    lines = text.split("\n")
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(lines))
        line = lines[at]
        spot = rng.randrange(len(line) + 1)
        match rng.randrange(9):
            case 0:
                del lines[at : at + rng.randrange(1, 9)]
            case 1:
                lines[at] = line[:spot]
            case 2:
                lines[at] = line[spot:]
            case 3:
                lines[at] = (
                    line[:spot] + chr(rng.choice((0, 9, 10, 27, 40, 41, 44, 61, 91, 93, 123, 0xFFFD))) + line[spot:]
                )
            case 4:
                lines[at] = re.sub(r"\d+", lambda hit: hit[0] * rng.choice((0, 1, 2, 40)), line)
            case 5:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 6:
                lines[at : at + 1] = [line] * rng.randrange(2, 4)
            case 7:
                lines[at : at + 1] = [line[:spot], line[spot:]]
            case _:
                lines[at] = line[:spot] + lines[rng.randrange(len(lines))]
        if not lines:
            return ""
    return "\n".join(lines)


@pytest.mark.parametrize(
    "columns", ["tgid total_vm rss rss name", "tgid total_vm rss.x name", "tgid total_vm name", "name"]
)
def test_a_header_that_is_none(columns: str) -> None:
    assert not parse(f"[1.0] [ pid ]   uid  {columns}\n[1.0] [    1]     0     1     1     1     1 x\n")


def test_fuzz() -> None:
    rng = random.Random(2026)
    texts = [
        kmsg("nested"),
        dmesg("simple", FORMATS["syslog"]),
        journal_json("bytes"),
        dmesg("nested", FORMATS["dmesg -T"]),
    ]
    texts += [path.read_text() for path in sorted(DATA.glob("*.log"))]
    for _ in range(200):
        for kill in parse(mutated(rng.choice(texts), rng)):
            replay(kill)


@pytest.mark.parametrize(("ub", "scope"), [(0, "global"), (1234, "memcg")])
def test_openvz(ub: int, scope: str) -> None:
    parser = Parser(datetime(2026, 1, 1))
    line = f"Out of memory in UB {ub}: OOM killed process 77 (php (x)) score 0 vm:281988kB, rss:17004kB, swap:0kB"
    (kill,) = [*parser.feed(f"[   12.345678] {line}"), *parser.flush()]
    assert kill.victim is not None
    assert (kill.victim.pid, kill.victim.comm, kill.victim.total_vm_kb) == (77, "php (x)", 281988)
    assert kill.scope == scope


def test_each_process_that_old_openvz_says_has_exited_is_an_event() -> None:
    """Whether the host or a container was out of memory, these lines don't say."""
    kills = parse(
        "[1.000000] OOM killed process watchdog (pid=14490, ve=0) exited, free=43104 gen=24501.\n"
        "[1.000001] OOM killed process x (pid=1, ve=2) (pid=77, ve=101) exited, free=43104 gen=24502.\n"
    )
    found = [(kill.victim.pid, kill.victim.comm, kill.scope) for kill in kills if kill.victim is not None]
    assert found == [(14490, "watchdog", None), (77, "x (pid=1, ve=2)", None)]


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize(
    ("begin", "repeated", "end"),
    [
        ("", "**a ", ""),
        ("\u2502", " ", "x"),
        ("", " \xa0", "x"),
        ("kernel: ", ".", "x"),
        ("kernel: snip", "a", "."),
        ("Memory cgroup stats for /", "\r", ")"),
        ("kernel: ", "Task in /", " killed"),
        ("Task in /a killed as a result of limit of /", " ", "x"),
        ("Kernel panic - not syncing: ", " ", "x"),
        ("", " cpuset=", " mems_allowed="),
        ('"log":"', " ", "x"),
    ],
)
def test_a_line_that_repeats_itself_takes_no_longer_than_another(begin: str, repeated: str, end: str) -> None:
    """Any program may write one. Most of these took 2 to 15 s each where an expression tried each place anew."""
    line = begin + repeated * (60_000 // len(repeated)) + end
    assert [kill.victim for kill in parse("\n".join([line] * 8)) if kill.victim is not None] == []
