"""Logs that begin or end in the middle of a line or record: what is told is true, and only the kernel's words count."""

import contextlib
import json
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from oomwatchd.oomlog import json_cut, reading
from oomwatchd.oomlog.beside import Beside
from oomwatchd.oomlog.json_document import Cut
from oomwatchd.oomlog.json_lines import TEXTS
from oomwatchd.oomlog.line_parts import settled
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.stream import Stream
from tests.oom_reports import Made, made
from tests.test_oomlog_shapes import DAY, FOREIGN, KILL, SHAPES, journal

REFERENCE = datetime(2026, 12, 31)
NOISE = [f"eth{number}: link is up" for number in range(12)]
# Nothing tells where a line of these begins, or which of its columns is which.
UNTOLD = {"bare", "grep -Hn, bare", "pdsh, bare", "cat -n, bare", "diff, bare", "unknown", "unknown with number"}
UNTOLD |= {style for style in SHAPES if style.startswith("all in one line")}  # a short rest may be one line
UNTOLD |= {"CSV", "newest first, CSV", "tabs", "Grafana, newest first", "wrapped at 80", "wrapped at 132"}


def events(text: str | bytes) -> list[OomKill]:
    data = text if isinstance(text, bytes) else text.encode()
    parser, found = Parser(REFERENCE, "log"), list[OomKill]()
    with contextlib.suppress(Cut):
        found += reading.events(Stream(iter([data])), parser, Beside(REFERENCE, "log"), REFERENCE)
    return found + parser.flush()


def not_true(kill: OomKill, reports: list[Made]) -> list[object]:
    """What the event says that its report doesn't."""
    truth = next(
        (report.truth for report in reports if kill.victim and report.truth.victim.pid == kill.victim.pid), None
    )
    said: list[tuple[object, object]] = []
    if truth is not None and kill.victim is not None:
        victim, asked = kill.victim, kill.invoker
        said = [
            (victim.comm, truth.victim.comm),
            (victim.uid, truth.victim.uid),
            (victim.anon_rss_kb, truth.anon_rss_kb),
            (victim.total_vm_kb, 4 * truth.victim.total_vm),
            (victim.oom_score_adj, truth.victim.adj),
            (asked.comm, truth.invoker),
            (asked.pid, truth.invoker_pid),
            (asked.gfp_mask, truth.gfp_mask),
            (kill.kernel, truth.kernel),
            (kill.memcg, truth.memcg),
        ]
    elif kill.victim is not None:
        return [kill.victim]
    rows = {
        (row.pid, row.uid, row.rss, row.adj, name)
        for report in reports
        for row in report.truth.rows or ()
        for name in (row.comm, None)
    }
    wrong: list[object] = [pair for pair in said if pair[0] is not None and pair[0] != pair[1]]
    return wrong + [
        row for row in kill.tasks or () if (row.pid, row.uid, row.rss, row.oom_score_adj, row.comm) not in rows
    ]


@pytest.mark.parametrize("style", sorted(SHAPES.keys() - UNTOLD))
@pytest.mark.parametrize("end", ["start", "end"])
def test_what_a_cut_log_says_is_true(style: str, end: str) -> None:
    rng = random.Random(f"{style} {end}")
    era = rng.choice(("2.6.32", "6.8"))
    reports = [made(era, rng, memcg=rng.random() < 0.5) for _ in range(2)]
    data = SHAPES[style].render([*NOISE, *(line for report in reports for line in report.lines)]).encode()
    at = rng.randrange(1, len(data))
    found = events(data[at:] if end == "start" else data[:at])
    assert len(found) <= 2, (era, at)
    assert [not_true(kill, reports) for kill in found] == [[]] * len(found), (era, at)


CUTS = [
    ("CSV, no header, newest first", "end", "3.10", 622846032, 379),  # a row with fewer cells
    ("CSV, no header, newest first", "start", "6.11", 844709498, 1952),  # a row that begins within quotation marks
    ("CSV, no header, stamps", "end", "3.10", 21197155, 4539),  # a text without its stamp
    ("semicolons, no header", "start", "6.8", 263594445, 4440),  # a row without its beginning
    ("semicolons, no header", "start", "2.6.18", 376396009, 4379),
    ("newest first, JSON", "end", "6.8", 961775284, 5012),  # a row of a table whose header is lost
    ("newest first, syslog", "end", "6.8", 339675766, 3551),
    ("newest first, dmesg", "end", "4.4", 764898747, 818),
    ("newest first, JSON", "end", "6.11", 452204770, 3812),  # a kill line without its time
    ("CRI", "start", "6.1", 539311420, 2263),  # a date without its first figures
    ("vmware.log, new", "start", "6.11", 289942969, 2951),
    ("dmesg -x", "end", "6.8", 562182531, 3256),  # a part of a number, which the table has
    ("papertrail", "end", "3.10", 238641291, 6414),  # a part of a name, which another line has
]
"""Cuts that made the log tell what isn't true: style, end, kernel, seed, where."""


@pytest.mark.parametrize(("style", "end", "era", "seed", "at"), CUTS)
def test_what_a_log_says_that_was_cut_there_is_true(style: str, end: str, era: str, seed: int, at: int) -> None:
    rng = random.Random(seed)
    reports = [made(era, rng, memcg=rng.random() < 0.5) for _ in range(2)]
    data = SHAPES[style].render([*NOISE, *(line for report in reports for line in report.lines)]).encode()
    found = events(data[at:] if end == "start" else data[:at])
    assert len(found) <= 2
    assert [not_true(kill, reports) for kill in found] == [[]] * len(found)


EXPORT = "__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1742011655927516\n_TRANSPORT=kernel\nMESSAGE=eth0: up\n\n"
VERBOSE = (
    "Sun 2026-03-15 05:07:36.927515 CET [s=a0;i=2;b=b1;m=2;t=64d1;x=1]\n    _TRANSPORT=kernel\n    MESSAGE=eth0: up\n"
)
RECORDS = journal(["eth0: up"], None)
FOLLOWED = {
    **{
        style: (FOREIGN[style], f"{DAY} h1 kernel: eth0: up\n")
        for style in ("syslog", "syslog, no PID", "no host", "no host, PID", "names the kernel", "metalog")
    },
    "continued": (f"{DAY} h1 mallory[7]: I say:\n{' ' * 31}{KILL}", f"{DAY} h1 kernel: eth0: up\n"),
    "precise": (FOREIGN["precise"], "2026-03-15T04:07:36.927515+00:00 h1 kernel: eth0: up\n"),
    "RFC 5424": (FOREIGN["RFC 5424"], "<4>1 2026-03-15T04:07:35Z h1 kernel - - - eth0: up\n"),
    "PRI": (FOREIGN["PRI"], "<4>1 2026-03-15T04:07:35Z h1 kernel - - - eth0: up\n"),
    "dmesg -x": (FOREIGN["dmesg -x"].replace("user  ", "user  "), "kern  :info  : [    2.000000] eth0: up\n"),
    "export": (FOREIGN["export"].rstrip("\n") + "\n", EXPORT),
    "export, named like it": (FOREIGN["export, named like it"].rstrip("\n") + "\n", EXPORT),
    "verbose": (FOREIGN["verbose"].rstrip("\n"), VERBOSE),
    "json": (
        json.dumps({"__REALTIME_TIMESTAMP": "1", "_TRANSPORT": "stdout", "SYSLOG_IDENTIFIER": "x", "MESSAGE": KILL}),
        RECORDS,
    ),
    "json, text first": (json.dumps({"MESSAGE": KILL, "__CURSOR": "1", "_TRANSPORT": "stdout"}), RECORDS),
    "json-pretty": (FOREIGN["json-pretty"], journal(["eth0: up"], 2)),
    "JSON, a process": (FOREIGN["JSON, a process"], FOREIGN["JSON, a process"].replace(KILL, "up") + "\n"),
}  # fmt: skip


@pytest.mark.parametrize("style", FOLLOWED)
def test_a_log_that_begins_in_another_programs_record_tells_no_kill(style: str) -> None:
    """Wherever it is cut: every second place is tried. (A cut in front of the kernel's whole prefix in the text would
    be the kernel's line.)"""
    record, following = FOLLOWED[style]
    for at in range(0, len(record), 2):
        assert not events(f"{record[at:]}\n{following * 3}"), record[at : at + 60]


@pytest.mark.parametrize("style", ["export", "json", "json, text first", "json-pretty", "JSON, a process"])
def test_a_log_that_ends_in_another_programs_record_tells_no_kill(style: str) -> None:
    record, following = FOLLOWED[style]
    for at in range(1, len(record), 2):
        assert not events(f"{following * 3}{record[:at]}"), record[at - 60 : at]


def test_a_further_line_of_another_programs_record() -> None:
    """journalctl sets it below the first. What stands below a line of the kernel's is the kernel's."""
    other = f"{DAY} h1 mallory[7]: look:\n{' ' * 31}{KILL}\n"
    kernels = f"{DAY} h1 kernel: x\n{' ' * 24}{KILL}\n"
    assert not events(other)
    assert not events(f"{DAY} h1 kernel: eth0: up\n{other}{DAY} h1 kernel: eth1: up\n")
    assert len(events(f"{other}{kernels}")) == 1
    quoted = "\n".join(f"          {line}" for line in made("6.1", random.Random(1)).lines)
    assert len(events(f"{DAY} h1 mallory[7]: this is from the console of another machine:\n{quoted}\n")) == 1


def test_the_kernels_line_that_is_cut_is_read() -> None:
    """As far as it is certainly the kernel's, or one in a report of the kernel's."""
    line = f"{DAY} h1 kernel: {KILL}"
    rest = f"\n{DAY} h1 kernel: eth0: up\n"
    whole = events(line + rest)
    assert [events(line[at:] + rest) for at in range(line.index("h1") + 1)] == [whole] * (line.index("h1") + 1)
    reaped = f"\n{DAY} h1 kernel: oom_reaper: reaped process 6090 (node), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"
    for at in range(line.index("Memory") + 1):
        (kill,) = events(line[at:] + reaped + rest)
        assert kill.victim == whole[0].victim


@pytest.mark.parametrize(
    ("cut", "victim"),
    [
        ("Killed process 609", None),
        ("Killed process 6090", None),
        ("Killed process 6090 (", (6090, None, None)),
        ("Killed process 6090 (no", (6090, None, None)),
        ("Killed process 6090 (node)", (6090, "node", None)),
        ("Killed process 6090 (node) tot", (6090, None, None)),
        ("Killed process 6090 (node) total-vm:1124kB, anon-rss:49", (6090, "node", None)),
        ("Killed process 6090 (node) total-vm:1124kB, anon-rss:496kB", (6090, "node", 496)),
        ("Killed process 6090, UID 0, (no", (6090, None, None)),
        ("Killed process 6090 ((sd-pam)", (6090, None, None)),
    ],
)
def test_a_name_or_number_that_is_cut_is_unknown(cut: str, victim: tuple[int, str | None, int | None] | None) -> None:
    (kill,) = events(
        f"[    1.000000] a invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=0\n[    1.000001] {cut}"
    )
    assert kill.truncated
    found = kill.victim
    assert (None if found is None else (found.pid, found.comm, found.anon_rss_kb)) == victim


def test_a_cut_name_is_known_from_another_line() -> None:
    head = "[    1.000000] a invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=0\n"
    row = "[    1.000001] [ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name\n"
    row += "[    1.000001] [ 6090]     0  6090     1000      100      20        0             0 node: a worker\n"
    chosen = "[    1.000002] Out of memory: Kill process 6090 (node: a worker) score 5 or sacrifice child\n"
    summary = (
        "[    1.000002] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        "task_memcg=/,task=node: a worker,pid=6090,uid=0\n"
    )
    for known in (row, chosen, summary):
        (kill,) = events(f"{head}{known}[    1.000003] Out of memory: Killed process 6090 (node: a wo")
        assert kill.victim is not None
        assert (kill.victim.pid, kill.victim.comm) == (6090, "node: a worker")


def test_what_stands_before_the_cut_in_a_summary_is_told() -> None:
    text = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b"
    text += ",task=node,pid=6090,uid=10"
    (kill,) = events(f"[    1.000000] {text}")
    assert kill.victim is not None
    assert (kill.victim.pid, kill.victim.comm, kill.victim.uid, kill.memcg) == (6090, "node", 10, "/a")
    (kill,) = events(f"[    1.000000] {text[:-8]}")
    assert (kill.victim, kill.memcg) == (None, "/a")


def test_a_whole_log_may_lack_its_last_line_feed() -> None:
    text = "Out of memory: Killed process 6090 (node) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB, UID:1000"
    (kill,) = events(f"[    1.000000] {text} pgtables:88kB oom_score_adj:-300")
    assert kill.victim is not None
    assert (kill.victim.uid, kill.victim.pgtables_kb, kill.victim.oom_score_adj) == (1000, 88, -300)


@pytest.mark.parametrize(
    ("last", "read"),
    [
        ("Out of memory and no killable processes...", lambda kill: kill.no_killable),
        ("Kernel panic - not syncing: System is deadlocked on memory", lambda kill: kill.panic.endswith(" memory")),
        ("Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled", lambda kill: kill.panic),
        (" mem_cgroup_out_of_memory+0xbd/0xe0", lambda kill: kill.scope == "memcg"),
        ("[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name", lambda kill: kill.tasks == ()),
    ],
)
def test_a_last_line_without_its_line_feed_says_what_it_says_with_it(last: str, read: Callable[[Any], bool]) -> None:
    head = "[    1.000000] a invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=0\n"
    for end in ("\n", ""):
        (kill,) = events(f"{head}[    1.000001] {last}{end}")
        assert read(kill), (end, kill)


def test_a_long_last_word_is_read_once() -> None:
    """Were it tried at each letter, this would take minutes."""
    word = "a" * 300_000
    assert settled(f"{word})") == f"{word})"
    assert settled(f"({word}") == "("


def test_completed_json_is_a_part_of_the_whole() -> None:
    """Whatever is told of a cut value stands in the whole one."""
    record = {"a": 1, "log": 'x "y" \\ é\n', "of": {"b": [True, None, {"msg": "last"}], "t": -12.5e3}, "message": "end"}
    for text in (json.dumps(record), json.dumps([record], indent=1), json.dumps(record, ensure_ascii=False)):
        whole = json.loads(text)
        for at in range(len(text)):
            done = json_cut.completed(text[:at], TEXTS)
            if done is not None:
                assert is_part(done[0], whole), text[:at]


def is_part(part: object, whole: object) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_part, part, whole))
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    return part == whole


@pytest.mark.parametrize("indent", [None, 2])
def test_a_record_of_json_that_is_cut_is_told_as_far_as_it_goes(indent: int | None) -> None:
    """Cut behind the figures of the kill line, the victim is told."""
    text = journal([KILL], indent)
    for at in range(text.index("anon-rss:496kB") + len("anon-rss:496kB"), len(text)):
        (kill,) = events(text[:at])
        assert kill.victim is not None
        assert (kill.victim.pid, kill.victim.comm, kill.victim.anon_rss_kb) == (6090, "node", 496), text[:at]
    text = journal(["eth0: up", KILL], indent)
    for at in range(1, text.index('"MESSAGE": "Memory')):
        kills = events(text[at:])
        assert len(kills) == (0 if '"_TRANSPORT"' not in text[at:] else 1), text[at : at + 80]


@pytest.mark.usefixtures("deadline")
def test_the_effort_of_completing_grows_with_the_length_alone() -> None:
    for piece in ("{", '{"a":', "[", '"\\', '{"a": "', '"a": "b", '):
        json_cut.completed(piece * (60_000 // len(piece)), TEXTS)
        events("x" + piece * (60_000 // len(piece)) + "\n" + RECORDS)
