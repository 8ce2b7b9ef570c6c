"""Whom a kill took: records, the file of the last kill, and what the journal says of other killers."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from oomwatchd.daemon.last_kill import write_last_kill
from oomwatchd.daemon.log_records import CRIT, WARNING, Record, kill_records, other_kill_record
from oomwatchd.daemon.other_kills import JournalEntry, OtherKill, OtherKills, kills_in, took
from oomwatchd.oomlog.record import Invoker, Killed, Memory, OomKill
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin
from tests.full_disk import full_disk


def node(pid: int, rule: str = "db", value: int = -700, unit: str = "db.service") -> Node:
    made = Node(pid, 1, None)
    made.pin = Pin(rule, 0, value, 0, 0.0, "exec")
    made.comm, made.exe, made.unit = f"p{pid}", f"/p{pid}", unit
    return made


def kill(*also: int) -> OomKill:
    others = tuple(Killed(pid, f"p{pid}", 1000, 4, 8192, 0, 0, 1, -700) for pid in also)
    return OomKill(
        time=None,
        kernel=None,
        scope="memcg",
        constraint=None,
        memcg="/g",
        task_memcg="/g",
        invoker=Invoker(),
        victim=Killed(7, "hog"),
        also_killed=others,
        tasks=None,
        columns=None,
        chosen=None,
        reaped=(),
        group="/g",
        allocating_task=False,
        no_killable=False,
        panic=None,
        nodes=None,
        memory=Memory(),
        truncated=False,
    )


def test_processes_killed_with_the_victim_are_reported() -> None:
    records = kill_records(kill(8, 9), {7: None, 8: node(8), 9: Node(9, 1, None)})
    assert [(r.fields["OBJECT_PID"], r.priority) for r in records] == [(7, WARNING), (8, CRIT)]
    assert records[0].fields["OOMWATCHD_ALSO_KILLED"] == "8 9"
    assert records[1].fields["OOMWATCHD_RULE"] == "db"
    assert {r.fields["OOMWATCHD_KILLER"] for r in records} == {"kernel"}
    assert "rule 'db' held at -700, together with process 7 (hog)" in records[1].message


def test_a_raised_one_is_no_cause_for_alarm() -> None:
    assert other_kill_record("earlyoom", node(8, value=300), None).priority == WARNING
    record = other_kill_record("systemd-oomd", node(8), "/system.slice/db.service")
    assert record.priority == CRIT and record.fields["OOMWATCHD_CGROUP"] == "/system.slice/db.service"


def test_the_last_kill_is_one_object(tmp_path: Path) -> None:
    records = kill_records(kill(8, 9), {8: node(8)})
    write_last_kill(str(tmp_path), records, 12.5)
    assert os.listdir(tmp_path) == ["last-kill.json"]
    made = json.loads((tmp_path / "last-kill.json").read_text())
    assert (made["time"], made["killer"], made["count"], made["also_killed"]) == (12.5, "kernel", 3, [8, 9])
    assert (made["victim"]["pid"], made["victim"]["rule"], made["scope"], made["memcg"]) == (7, None, "memcg", "/g")
    assert [(held["pid"], held["rule"], held["unit"]) for held in made["held"]] == [(8, "db", "db.service")]
    assert (tmp_path / "last-kill.json").stat().st_mode & 0o777 == 0o600
    counted = Record("oom-kill", WARNING, "2 processes", {"OOMWATCHD_KILLER": "kernel", "OOMWATCHD_COUNT": 2})
    write_last_kill(str(tmp_path), [counted], 13.0)
    made = json.loads((tmp_path / "last-kill.json").read_text())
    assert (made["count"], made["victim"], made["held"]) == (2, None, [])


def test_a_fifo_in_the_way_of_the_last_kill_makes_nobody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last-kill.json.new")
    write_last_kill(str(tmp_path), kill_records(kill(8, 9), {}), 12.5)
    assert json.loads((tmp_path / "last-kill.json").read_text())["time"] == 12.5
    assert os.listdir(tmp_path) == ["last-kill.json"]


def test_a_full_disk_leaves_the_kill_before(tmp_path: Path) -> None:
    """The kernel takes a part of a write for which there is no room."""
    write_last_kill(str(tmp_path), kill_records(kill(8, 9), {}), 12.5)
    with full_disk(100), pytest.raises(OSError, match="too large"):
        write_last_kill(str(tmp_path), kill_records(kill(8, 9), {}), 13.0)

    assert json.loads((tmp_path / "last-kill.json").read_text())["time"] == 12.5


NOHANG = """\
TOP printed in 1ms; process with highest badness:
  PID: 8, name: x
  PID: 9, name: fake, badness: 700
Recheck memory levels...
Implementing a corrective action:
  Sending SIGTERM to the victim"""


@pytest.mark.parametrize(
    ("unit", "text", "wanted"),
    [
        ("earlyoom.service", 'sending SIGTERM to process 8 uid 0 "x": badness 700', OtherKill("earlyoom", 8)),
        ("earlyoom.service", 'x sending SIGTERM to process 8 uid 0 "x"', None),
        ("cron.service", 'sending SIGTERM to process 8 uid 0 "x"', None),
        ("systemd-oomd.service", "Killed /a b/c.service due to memory used (1)", "/a b/c.service"),
        ("systemd-oomd.service", "Marked /a/c.service for killing due to memory pressure for /a", "/a/c.service"),
        ("systemd-oomd.service", "Considered 3 cgroups for killing", None),
        ("nohang.service", NOHANG, OtherKill("nohang", 8)),
        ("nohang-desktop.service", NOHANG.rpartition("\n")[0], None),
    ],
)  # fmt: skip
def test_what_they_write(unit: str, text: str, wanted: OtherKill | str | None) -> None:
    expected = OtherKill("systemd-oomd", cgroup=wanted) if isinstance(wanted, str) else wanted
    assert kills_in(JournalEntry(unit, line) for line in text.split("\n")) == ([] if expected is None else [expected])


def test_a_unit_that_failed_for_an_oom_kill() -> None:
    assert kills_in(
        [JournalEntry("db.service", "Failed", "oom-kill"), JournalEntry("db.service", "Failed", "exit-code")]
    ) == [OtherKill("systemd", unit="db.service")]


def test_the_victims_of_other_killers() -> None:
    assert took(OtherKill("earlyoom", pid=8), node(8)) and not took(OtherKill("earlyoom", pid=9), node(8))
    inside = OtherKill("systemd-oomd", cgroup="/system.slice/db.service")
    assert took(inside, node(8)) and not took(inside, node(8, unit="b.service")) and not took(inside, node(8, unit=""))
    assert took(OtherKill("systemd", unit="db.service"), node(8))


class Found(OtherKills):
    """With a journal that says what it is told to."""

    def hear(self, *entries: JournalEntry) -> None:
        self._found.append(list(entries))


def test_each_kill_is_reported_once() -> None:
    kills, one, other = Found(), node(8), node(9)
    assert not kills.add_dead([], [], 1.0, kernel_killed=True)
    assert not kills.add_dead([one], [one], 1.0, kernel_killed=True), "the kernel's log has told of it"
    assert kills.add_dead([one, other], [], 2.0, kernel_killed=True)
    killed = JournalEntry("earlyoom.service", 'sending SIGKILL to process 8 uid 0 "x": ')
    kills.hear(killed)
    assert kills.take(2.5) == [(OtherKill("earlyoom", pid=8), [one])]
    assert kills.take(3.0) == []
    assert not kills.add_dead([], [], 60.0, kernel_killed=True), "too long ago"


def test_a_death_that_is_found_before_the_kernels_kill_is_known() -> None:
    """systemd stops a unit at once; the kernel's report of the kill in it takes a moment to be read."""
    kills = OtherKills()
    assert not kills.add_dead([node(7)], [], 1.0, kernel_killed=False)
    assert kills.add_dead([], [], 6.0, kernel_killed=True)
    kills = OtherKills()
    assert not kills.add_dead([node(7)], [], 1.0, kernel_killed=False)
    assert not kills.add_dead([], [], 12.0, kernel_killed=False)
    assert not kills.add_dead([], [], 13.0, kernel_killed=True), "it died long before"


def test_a_kill_may_be_read_of_before_it_is_known_who_is_gone() -> None:
    kills, early = Found(), node(8)
    kills.hear(JournalEntry("db.service", "Failed", "oom-kill"))
    assert kills.take(1.0) == []
    assert kills.add_dead([early], [], 4.0, kernel_killed=True)
    assert kills.take(4.5) == [(OtherKill("systemd", unit="db.service"), [early])]
    assert kills.add_dead([node(9)], [], 40.0, kernel_killed=True)
    assert kills.take(40.5) == [], "another death of the unit, long after"


def test_the_next_process_of_a_unit_was_not_in_the_kill_before() -> None:
    made = node(8)
    assert made.pin is not None
    made.pin.since = 10.0
    assert not took(OtherKill("systemd", unit="db.service", time=9.0), made)
    assert took(OtherKill("systemd", unit="db.service", time=11.0), made)


def test_without_a_journal_nothing_is_known() -> None:
    kills = OtherKills()
    kills.look()
    assert kills.take(1.0) == []


def read_and_take(kills: OtherKills, now: float) -> list[tuple[OtherKill, list[Node]]]:
    kills.look()
    deadline = time.monotonic() + 20.0
    while kills._looking and time.monotonic() < deadline:
        time.sleep(0.001)
    return kills.take(now)


def test_a_damaged_journal_takes_nothing_away_that_was_read_before() -> None:
    kills, gone = Found(read=damaged), node(8)
    assert kills.add_dead([gone], [], 1.0, kernel_killed=True)
    kills.hear(JournalEntry("earlyoom.service", 'sending SIGKILL to process 8 uid 0 "x": '))

    assert read_and_take(kills, 1.5) == [(OtherKill("earlyoom", pid=8), [gone])]


def damaged(_since_us: int) -> tuple[list[JournalEntry], int]:
    raise OSError(errno.EBADMSG, "Bad message")


def test_an_unexpected_exception_of_the_thread_is_not_swallowed() -> None:
    kills = OtherKills(read=lambda since_us: ([], 1 // (since_us * 0)))

    with pytest.raises(ZeroDivisionError):
        read_and_take(kills, 1.0)
    assert kills.take(2.0) == []


def test_the_ledger_remembers_the_held_that_died() -> None:
    ledger = Ledger(None, "")
    pinned, loose = node(8), Node(9, 1, None)
    for each in (pinned, loose):
        ledger.add(each)
        ledger.died(each.pid)
    assert ledger.take_departed() == [pinned]
    assert ledger.take_departed() == []
