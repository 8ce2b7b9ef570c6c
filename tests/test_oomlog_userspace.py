"""Kills by systemd-oomd, earlyoom, nohang and oomd, and what ties a unit or a pod to the kernel's."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oomwatchd.oomlog.killers import Said
from oomwatchd.oomlog.killers.kills import kill_of
from oomwatchd.oomlog.logfile import SourceError
from oomwatchd.oomlog.owners import owner_of
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.source import kills
from oomwatchd.oomlog.ties import Ties

BIG = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-big.scope"
USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def read(log: Path, *lines: str) -> list[OomKill]:
    log.write_text("".join(f"{line}\n" for line in lines))
    said: list[SourceError] = []
    found = list(kills([str(log)], said.append))
    assert not said
    return found


def at(second: int, tag: str, text: str) -> str:
    return f"2026-03-15T04:07:{second:02}+00:00 web1 {tag}: {text}"


PRESSURE = f"due to memory pressure for {USER} being 62.73% > 50.00% for > 20s with reclaim activity"


@pytest.mark.parametrize("verb", ["Killed {} ", "Marked {} for killing "])
def test_systemd_oomd_for_pressure(verb: str, log: Path) -> None:
    (kill,) = read(log, at(1, "systemd-oomd[77]", verb.format(BIG) + PRESSURE))
    assert (kill.killer, kill.scope, kill.memcg, kill.task_memcg) == ("systemd-oomd", "memcg", USER, BIG)
    assert (kill.time, kill.host, kill.victim) == ("2026-03-15T04:07:01+00:00", "web1", None)
    assert kill.trigger == f"memory pressure for {USER} being 62.73% > 50.00% for > 20s with reclaim activity"
    assert kill.unit == "app-big.scope"


def test_systemd_oomd_for_swap(log: Path) -> None:
    why = "memory used (900) / total (1024000) and swap used (2048) / total (4096) being more than 90.00%"
    (kill,) = read(log, at(1, "systemd-oomd[77]", f"Killed /system.slice/a b.service due to {why}"))
    assert (kill.scope, kill.task_memcg, kill.trigger) == ("global", "/system.slice/a b.service", why)
    assert (kill.memory.ram_kb, kill.memory.swap_total_kb, kill.memory.swap_free_kb) == (1000, 4, 2)


def test_systemd_oomd_by_rule(log: Path) -> None:
    (kill,) = read(
        log,
        at(1, "systemd-oomd[7]", "Rule 'big one' conditions met for cgroup /a.slice for 5s, taking action kill-all"),
    )
    assert (kill.task_memcg, kill.trigger) == ("/a.slice", "rule 'big one'")


@pytest.mark.parametrize(
    ("text", "uid", "adj"),
    [
        ('sending SIGTERM to process 4242 "a": b": badness 912, VmRSS 812 MiB', None, None),
        ('sending SIGTERM to process 4242 uid 1000 "a": b": badness 912, VmRSS 812 MiB', 1000, None),
        ('sending SIGKILL to process 4242 uid 1000 "a": b": oom_score 912, VmRSS 812 MiB, cmdline "x"', 1000, None),
        (
            'sending SIGTERM to process 4242 uid 1000 "a": b": oom_score 912, oom_score_adj -5, VmRSS 8 MiB, '
            'cmdline "x": oom_score 1, VmRSS 1 MiB"',
            1000,
            -5,
        ),
    ],
)
def test_earlyoom(text: str, uid: int | None, adj: int | None, log: Path) -> None:
    (kill,) = read(
        log,
        at(1, "earlyoom[5]", "mem avail:   100 of  1000 MiB (10.00%), swap free:   20 of   40 MiB (50.00%)"),
        at(1, "earlyoom[5]", "low memory! at or below SIGTERM limits: mem 10.00%, swap 10.00%"),
        at(1, "earlyoom[5]", text),
        at(2, "earlyoom[5]", text.replace("SIGTERM", "SIGKILL")),
        at(2, "earlyoom[5]", "process exited after 0.3 seconds"),
    )
    assert kill.victim is not None
    assert (kill.killer, kill.scope) == ("earlyoom", "global")
    assert (kill.victim.pid, kill.victim.comm, kill.victim.uid, kill.victim.oom_score_adj) == (4242, 'a": b', uid, adj)
    assert kill.trigger == "at or below the SIGTERM limits: mem 10.00%, swap 10.00%"
    assert (kill.memory.ram_kb, kill.memory.free_kb, kill.memory.swap_free_kb) == (1024000, 102400, 20480)


@pytest.mark.parametrize(
    ("before", "behind", "between"),
    [
        ('2026-03-15T04:07:0{},web1,earlyoom,"', '"', "\n"),
        ('2026-03-15T04:07:0{};"Mar 15 04:07:01 web1 earlyoom[5]: ', '"', "\n"),
        ("2026-03-15T04:07:0{}\tearlyoom[5]\t", "", "\n"),
        ("Mar 15 04:07:0{} web1 earlyoom[5]: ", "", " "),
        ("2026-03-15T04:07:0{}+00:00 web1 earlyoom: ", "", " "),
    ],
)
def test_earlyoom_in_tables_and_in_one_line(before: str, behind: str, between: str, log: Path) -> None:
    texts = (
        "mem avail: 18565 of 31880 MiB (58.23%), swap free: 49151 of 49151 MiB (99.84%)",
        "mem avail:   165 of 31880 MiB ( 0.52%), swap free: 19581 of 49151 MiB (39.84%)",
        "low memory! at or below SIGTERM limits: mem  5.00%, swap 40.00%",
        'sending SIGTERM to process 42 uid 1000 "a, b": oom_score 866, VmRSS 5 MiB, cmdline "x"',
        "process 42 exited after 0.1 seconds",
    )
    escaped = [text.replace('"', '""') if behind else text for text in texts]
    (kill,) = read(log, between.join(f"{before.format(n)}{text}{behind}" for n, text in enumerate(escaped)))
    assert (kill.killer, str(kill.time)[:18]) == ("earlyoom", "2026-03-15T04:07:0")
    assert kill.victim is not None
    assert (kill.victim.pid, kill.victim.comm, kill.victim.uid) == (42, "a, b", 1000)


@pytest.mark.parametrize("tag", ["2026-03-15T04:07:01+00:00 web1 earlyoom[5]: ", ""])
@pytest.mark.parametrize(
    ("low", "send"),
    [
        ("Out of memory! mem min: 97 MiB, swap min: 9 MiB", "Killing process: a, b, pid: 42, badness: 9, VmRSS: 8 MiB"),
        (
            "Low Memory! At or below sigterm limits (mem: 10 %, swap: 10 %)",
            "Killing process 'a, b' with signal 15, pid: 42, badness: 538, VmRSS: 3160 MiB",
        ),
        (
            "Low memory! At or below SIGTERM limits (mem: 10 %, swap: 10 %)",
            "Killing process 'a, b' with signal 15, pid: 42, badness: 538, VmRSS: 3160 MiB",
        ),
        (
            "low memory! at or below SIGTERM limits: mem 10 %, swap 10 %",
            'killing process 42 "a, b" with signal 15: badness 550, VmRSS 7609 MiB',
        ),
    ],
)
def test_earlyoom_of_old(tag: str, low: str, send: str, log: Path) -> None:
    (kill,) = read(log, f"{tag}{low}", f"{tag}{send}", f"{tag}process 42 exited after 1.9 seconds")
    assert (kill.killer, kill.host) == ("earlyoom", "web1" if tag else None)
    assert kill.victim is not None
    assert (kill.victim.pid, kill.victim.comm) == (42, "a, b")
    if "limits" in low:
        assert (kill.trigger or "").startswith("at or below the SIGTERM limits: mem")


def test_earlyoom_that_only_tries(log: Path) -> None:
    send = 'sending SIGTERM to process 1 uid 0 "a": badness 1, VmRSS 1 MiB'
    assert not read(log, at(1, "earlyoom[5]", send), at(1, "earlyoom[5]", "dryrun, not actually sending any signal"))
    assert not read(log, at(1, "earlyoom[5]", send), at(1, "earlyoom[5]", "kill failed: Operation not permitted"))


NOHANG = """Memory status that requires corrective actions:
  MemAvailable [23.2 MiB, 0.3 %] <= hard_threshold_min_mem [50 MiB, 5.0 %]
  SwapFree [0 MiB, 0.0 %] <= hard_threshold_min_swap [0 MiB, 10 %]
Process with highest badness (found in 12ms):
  PID: 777, Name: tail, of x, badness: 800
Victim status (found in 1ms):
  PID:       777, name: tail, of x, state: R (running), EUID: 1000, SID: 7 (bash), lifetime: 3s
  badness:   800, oom_score:  800, oom_score_adj:  10
  Vm, MiB:   Size: 900, RSS: 800 (Anon: 790, File: 10, Shmem: 0), Swap: 0
  cgroup_v1:
  cgroup_v2: /user.slice/user-1000.slice/session-2.scope
Implementing a corrective action:
  Sending SIGKILL to the victim
OK; total response time: 20ms""".splitlines()


@pytest.mark.parametrize("form", ["journal", "file", "bare"])
def test_nohang(form: str, log: Path) -> None:
    lines = {
        "journal": [at(3, "nohang[9]", line) for line in NOHANG],
        "file": [line if line.startswith(" ") else f"2026-03-15 04:07:03,512: {line}" for line in NOHANG],
        "bare": NOHANG,
    }[form]
    (kill,) = read(log, *lines)
    assert kill.victim is not None
    assert (kill.killer, kill.victim.pid, kill.victim.comm, kill.victim.uid) == ("nohang", 777, "tail, of x", 1000)
    assert (kill.victim.anon_rss_kb, kill.victim.oom_score_adj) == (790 * 1024, 10)
    assert kill.task_memcg == "/user.slice/user-1000.slice/session-2.scope"
    assert (kill.trigger or "").startswith("MemAvailable [23.2 MiB, 0.3 %] <= hard_threshold_min_mem")


def test_oomd_logs_a_kill_twice(log: Path) -> None:
    text = "12.00 5.00 1.00 work.slice/a b.service 4096000 ruleset:[r] detectorgroup:[d] killer:kill_by_swap v2"
    (kill,) = read(log, at(1, "kernel", f"oomd kill: {text}"), at(1, "oomd[9]", text))
    assert (kill.killer, kill.task_memcg, kill.memory.usage_kb) == ("oomd", "/work.slice/a b.service", 4000)
    assert not read(log, at(1, "oomd[9]", text.replace("killer:", "killer:(dry)")))


def test_other_programs_are_not_believed(log: Path) -> None:
    assert not read(log, *(at(1, "web[3]", f"systemd-oomd: Killed {BIG} {PRESSURE}"), at(1, "web[3]", NOHANG[4])))
    faked = {"_SYSTEMD_UNIT": "user@1000.service", "SYSLOG_IDENTIFIER": "systemd-oomd", "_TRANSPORT": "syslog"}
    record = {"__REALTIME_TIMESTAMP": "1773547621000000", **faked, "MESSAGE": f"Killed {BIG} {PRESSURE}"}
    assert not read(log, json.dumps(record))
    record["_SYSTEMD_UNIT"] = "systemd-oomd.service"
    assert len(read(log, json.dumps(record))) == 1


KILLED = "Memory cgroup out of memory: Killed process 31 (java) total-vm:4kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB"


@pytest.mark.parametrize(
    "text", ["A process of this unit has been killed by the OOM killer.", "Failed with result 'oom-kill'."]
)
def test_systemd_names_the_unit(text: str, log: Path) -> None:
    lines = [at(1, "kernel", KILLED), at(2, "systemd[1]", f"big.service: {text}")]
    assert [kill.unit for kill in read(log, *lines)] == ["big.service"]
    assert [kill.unit for kill in read(log, lines[0], at(59, "systemd[1]", f"big.service: {text}"))] == [None]
    assert [kill.unit for kill in read(log, lines[0], lines[1].replace("systemd[1]", "web[1]"))] == [None]


def test_kubelet_names_the_pod(log: Path) -> None:
    oom = 'kubelet.go:1] "Event" reason="SystemOOM" victim process: java, pid: {} pod="shop/web-0"'
    lines = [at(1, "kernel", KILLED), at(2, "kubelet[5]", oom.format(31))]
    assert [kill.container for kill in read(log, *lines)] == ["shop/web-0"]
    assert [kill.container for kill in read(log, lines[0], at(2, "kubelet[5]", oom.format(32)))] == [None]


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("seconds_apart", [60, 0])
def test_many_kills_and_lines_of_managers_take_no_longer_than_few(seconds_apart: int) -> None:
    """1,500 kills took 30 s and more: each was compared with 10,000 lines, whose times were parsed anew."""
    ties, begin = Ties(), datetime(2026, 3, 15, tzinfo=UTC)
    times = [(begin + timedelta(seconds=number * seconds_apart)).isoformat() for number in range(10_000)]
    text = "A process of this unit has been killed by the OOM killer."
    for number, time in enumerate(times):
        ties.feed(Said("systemd", f"{number}.service: {text}", time))
    found = [ties.tied(kill_of(Said("kernel", KILLED, time), "kernel", "memcg")).unit for time in times[-1500:]]
    assert found == [f"{number if seconds_apart else 0}.service" for number in range(8500, 10_000)]


ID = "0123456789abcdef" * 4
POD = "01234567_89ab_cdef_0123_456789abcdef"


@pytest.mark.parametrize(
    ("path", "unit", "container"),
    [
        ("/system.slice/nginx.service", "nginx.service", None),
        ("/system.slice/nginx.service/workers/1.service", "nginx.service", None),
        (BIG, "app-big.scope", None),
        (USER, "user@1000.service", None),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", None),
        ("/a.slice/a-b.slice", "a-b.slice", None),
        (f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope", ID),
        (f"/docker/{ID}", None, ID),
        (f"/machine.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope", ID),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice/cri-containerd-{ID}.scope",
            f"cri-containerd-{ID}.scope",
            ID,
        ),
        (
            f"/kubepods.slice/kubepods-pod{POD}.slice",
            f"kubepods-pod{POD}.slice",
            f"pod{POD.replace('_', '-')}",
        ),
        (f"/kubepods/besteffort/pod{POD.replace('_', '-')}/{ID}", None, ID),
        ("/lxc/101/ns/system.slice/a.service", "a.service", "101"),
        ("/lxc.payload.web1/system.slice", "system.slice", "web1"),
        ("/machine.slice/systemd-nspawn@web.service/payload", "systemd-nspawn@web.service", "web"),
        ("/", None, None),
        ("/just/a/group", None, None),
    ],
)
def test_the_owner_of_a_cgroup(path: str, unit: str | None, container: str | None) -> None:
    owner = owner_of(path)
    assert (owner.unit, owner.container) == (unit, container)


SAID = "Killed /user.slice/a.scope due to memory pressure for /user.slice being 71.30% > 50.00% for > 20s with activity"
WAYS = {
    "RFC 5424": f"<30>1 2026-03-15T04:07:35Z h1 systemd-oomd 12 - - {SAID}",
    "RFC 5424 without PRI": f"2026-03-15T04:07:35Z h1 systemd-oomd 12 - - {SAID}",
    "with-unit": f"Sun 2026-03-15 04:07:35 CET h1 systemd-oomd.service[12]: {SAID}",
    "a page": f"Mar 15 04:07:35 h1 systemd-oomd[12]: {SAID.replace('>', '&gt;')}<br>",
    "a unit": json.dumps({"host": "h1", "unit": "systemd-oomd.service", "time": "2026-03-15T04:07:35Z", "log": SAID}),
    "an identifier": json.dumps(
        {"@timestamp": "2026-03-15T04:07:35Z", "host": "h1", "syslog": {"identifier": "systemd-oomd"}, "message": SAID}
    ),
    "no tag": SAID,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_a_line(way: str, log: Path) -> None:
    (kill,) = read(log, WAYS[way])
    assert (kill.killer, kill.task_memcg, kill.memcg) == ("systemd-oomd", "/user.slice/a.scope", "/user.slice")
    assert kill.host == (None if way == "no tag" else "h1")
    assert (kill.time is None) == (way == "no tag")
