"""oomwatchctl pin, unpin, monitor and metrics, with a real daemon at the other end."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_older_format

from oomwatchd.control.client import Client
from tests.kernel.asking import PROGRAM, answer, oomwatchctl
from tests.kernel.running import (
    DEADLINE_SECONDS,
    Daemon,
    Processes,
    oom_score_adj,
    rule,
    set_oom_score_adj,
    wait_for_value,
    wait_until,
)


def run(daemon: Daemon, *words: object) -> None:
    """Run a verb that says nothing and succeeds."""
    done = oomwatchctl(daemon, *map(str, words))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def refused(daemon: Daemon, *words: object, status: int = 1) -> str:
    """What a verb that fails says."""
    done = oomwatchctl(daemon, *map(str, words))
    assert (done.returncode, done.stdout) == (status, "")
    return done.stderr


@pytest.fixture
def plain(daemon: Daemon, processes: Processes, target: Path) -> int:
    """A process that no rule fits, under a daemon that scans once an hour."""
    daemon.start(rule("/nothing", scan="1h"))
    return processes.start(target, "600")


# pin, unpin


def test_a_pin_is_in_force_when_the_command_returns(daemon: Daemon, plain: int) -> None:
    run(daemon, "pin", plain, 400)
    assert oom_score_adj(plain) == 400
    (pin,) = answer(daemon, "list")["pins"]
    assert (pin["pid"], pin["rule"], pin["original"], pin["source"]) == (plain, f"pin {plain}", 0, "control")
    first, _ = answer(daemon, "rules")["rules"]
    assert (first["rule"], first["file"], first["action"], first["matches"]) == (f"pin {plain}", None, "400", 1)
    (explained,) = answer(daemon, "explain", str(plain))["processes"]
    assert explained["decision"] == {"rule": f"pin {plain}", "action": "pin", "target": 400}
    run(daemon, "pin", plain, 500)
    assert oom_score_adj(plain) == 500
    run(daemon, "unpin", plain)
    assert oom_score_adj(plain) == 0
    assert answer(daemon, "list") == {"pins": []}


def test_a_pin_comes_before_the_rules(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "600")
    daemon.start(rule(target, 300))
    run(daemon, "pin", pid, 200)
    assert oom_score_adj(pid) == 200
    assert daemon.reload()["ok"]
    assert oom_score_adj(pid) == 200
    run(daemon, "unpin", pid)
    assert oom_score_adj(pid) == 300
    assert "rule 'target' of the configuration holds it" in refused(daemon, "unpin", pid)


def test_a_pin_is_held(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule("/nothing", scan="100ms"))
    pid = processes.start(target, "600")
    run(daemon, "pin", pid, 400)
    set_oom_score_adj(pid, 500)
    wait_for_value(pid, 400)


def test_a_pin_survives_a_restart_and_a_crash(daemon: Daemon, plain: int) -> None:
    run(daemon, "pin", plain, 400, "--for", "2h")
    assert daemon.stop() == 0
    set_oom_score_adj(plain, 500)
    daemon.start()
    assert oom_score_adj(plain) == 400
    daemon.kill()
    daemon.start()
    run(daemon, "unpin", plain)
    assert oom_score_adj(plain) == 0


def test_a_pin_ends_in_time_though_scans_are_rare(daemon: Daemon, plain: int) -> None:
    run(daemon, "pin", plain, 400, "--for", "300ms")
    wait_for_value(plain, 0)
    assert answer(daemon, "list") == {"pins": []}
    assert [entry["rule"] for entry in answer(daemon, "rules")["rules"]] == ["target"]


def test_how_long_a_pin_still_lasts_is_shown(daemon: Daemon, plain: int) -> None:
    run(daemon, "pin", plain, 400, "--for", "2h 30min")
    (pin,) = answer(daemon, "list")["pins"]
    assert pin["until"] == pytest.approx(time.time() + 9000, abs=600)
    head, line = oomwatchctl(daemon, "list").stdout.splitlines()
    assert head.split()[-2:] == ["LEFT", "COMM"]
    assert re.search("2h (2.|30)min", line)
    daemon.kill()
    daemon.start()
    (again,) = answer(daemon, "list")["pins"]
    assert again["until"] == pytest.approx(pin["until"], abs=1)
    run(daemon, "pin", plain, 400)
    (pin,) = answer(daemon, "list")["pins"]
    assert pin["until"] is None
    assert "LEFT" not in oomwatchctl(daemon, "list").stdout


def test_a_pin_ends_while_the_daemon_is_down(daemon: Daemon, plain: int) -> None:
    run(daemon, "pin", plain, 400, "--for", "1ms")
    daemon.stop()
    daemon.start()
    assert oom_score_adj(plain) == 0


def test_children_that_are_forked_later_have_what_children_says(
    daemon: Daemon, processes: Processes, plain: int, tmp_path: Path
) -> None:
    """The rules alone need no fork events; the pin does."""
    os.mkfifo(tmp_path / "fifo")
    shell = processes.start("sh", "-c", f"read x < {tmp_path}/fifo; sleep 600 & echo $! > {tmp_path}/child; wait")
    set_oom_score_adj(shell, 500)
    run(daemon, "pin", shell, 100)
    wait_until(lambda: _release(tmp_path / "fifo"), "the shell reads")
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), "a child")
    child = processes.adopt(int((tmp_path / "child").read_text()))
    wait_for_value(child, 500)


def _release(fifo: Path) -> bool:
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(descriptor, b"x\n")
    os.close(descriptor)
    return True


def test_restore_gives_everybody_back_what_they_had(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, 300, scan="300ms"))
    plain = processes.start("sleep", "600")
    held, other = processes.start(target, "600"), processes.start(target, "600")
    wait_for_value([held, other], 300)
    set_oom_score_adj(plain, 50)
    run(daemon, "pin", plain, 400)

    assert oomwatchctl(daemon, "restore").returncode == 0

    assert [oom_score_adj(pid) for pid in (held, other, plain)] == [0, 0, 50]
    late = processes.start(target, "600")
    daemon.wait_for_scan()
    assert oom_score_adj(late) == 0
    assert answer(daemon, "list") == {"pins": []}
    assert answer(daemon, "status")["restored"] is True
    assert "nobody is held until the next reload" in oomwatchctl(daemon, "status").stdout
    assert "Nobody is held" in oomwatchctl(daemon, "pin", str(plain), "400").stderr

    assert oomwatchctl(daemon, "reload").returncode == 0  # with a warning: the rule goes by `exe` alone
    assert [oom_score_adj(pid) for pid in (held, other, plain, late)] == [300, 300, 50, 300]
    assert answer(daemon, "status")["restored"] is False
    run(daemon, "restore")
    assert daemon.stop() == 0
    daemon.start()
    assert [oom_score_adj(pid) for pid in (held, late)] == [300, 300]


def test_a_save_ends_restore(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, 300, scan="100ms"))
    pid = processes.start(target, "600")
    wait_for_value(pid, 300)
    run(daemon, "restore")
    assert oom_score_adj(pid) == 0
    daemon.write(rule(target, 350, scan="100ms"))
    wait_for_value(pid, 350)


def test_who_can_not_be_pinned(daemon: Daemon, processes: Processes, plain: int) -> None:
    assert "PID 1 is never touched" in refused(daemon, "pin", 1, 5)
    assert "Kernel thread 2 is never touched" in refused(daemon, "pin", 2, 5)
    thread = threading.Thread(target=(waiting := threading.Event()).wait)
    thread.start()
    try:
        assert "is a thread" in refused(daemon, "pin", thread.native_id, 5)
    finally:
        waiting.set()
        thread.join()
    processes.end()
    assert "There is no process" in refused(daemon, "pin", plain, 5)
    assert "There is no process" in refused(daemon, "pin", 2**22 - 1, 5)
    assert "No pin" in refused(daemon, "unpin", plain)


def test_what_the_kernel_refuses_changes_nothing(daemon: Daemon, plain: int) -> None:
    if "CAP_SYS_RESOURCE" not in answer(daemon, "status")["missing_capabilities"]:
        pytest.skip("with CAP_SYS_RESOURCE the kernel refuses nothing")
    run(daemon, "pin", plain, 400)
    for _ in range(2):
        assert "Permission denied (lowering a value needs CAP_SYS_RESOURCE)" in refused(daemon, "pin", plain, -500)
        assert oom_score_adj(plain) == 400
    (pin,) = answer(daemon, "list")["pins"]
    assert pin["oom_score_adj"] == 400


@pytest.mark.parametrize(
    "words",
    [["pin"], ["pin", "x", "5"], ["pin", "5"], ["pin", "5", "1001"], ["pin", "5", "5", "--for", "soon"], ["unpin"]],
)
def test_usage_errors(words: list[str], daemon: Daemon) -> None:
    assert refused(daemon, *words, status=2).startswith("usage: ")


# monitor


@pytest.fixture
def monitor(daemon: Daemon, target: Path) -> "Iterator[subprocess.Popen[str]]":
    """A monitor that has begun."""
    daemon.start(rule(target, 300, scan="1h"))
    with subprocess.Popen(
        [PROGRAM, "monitor", "--json"], env=daemon.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: answer(daemon, "status")["monitors"] == 1, "the daemon has a monitor")
        yield process
        process.kill()


def entries(process: "subprocess.Popen[str]") -> Iterator[Any]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


KEYS = [
    *("time", "event", "source", "pid", "comm", "exe", "uid", "unit", "rule", "old", "new", "latency_us", "error"),
]


def test_monitor(daemon: Daemon, processes: Processes, target: Path, monitor: "subprocess.Popen[str]") -> None:
    if answer(daemon, "status")["proc_events"] != "on":
        pytest.skip("without process events nothing is told between scans")
    pid = processes.start(target, "600")
    other = processes.start("sleep", "600")
    seen: dict[int, Any] = {}
    for entry in entries(monitor):
        if entry["event"] != "dropped":
            seen[entry["pid"]] = entry
        if {pid, other} <= seen.keys():
            break
    pinned = seen[pid]
    assert list(pinned) == KEYS
    assert (pinned["event"], pinned["rule"]) == ("pinned", "target")
    # The event of its fork is dealt with first; on a busy machine it has executed the program by then.
    assert pinned["source"] in ("exec", "fork")
    assert (pinned["comm"], pinned["exe"], pinned["old"], pinned["new"]) == ("target", str(target), 0, 300)
    assert pinned["latency_us"] > 0
    assert list(seen[other]) == ["time", "event", "source", "pid", "rule", "comm"]
    assert (seen[other]["event"], seen[other]["rule"]) == ("seen", None)


def test_monitor_ends_well_by_ctrl_c_and_badly_when_the_daemon_stops(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target, 300, scan="1h"))
    for stop, status in ((lambda process: process.send_signal(signal.SIGINT), 0), (lambda _: daemon.stop(), 3)):
        with subprocess.Popen(
            [PROGRAM, "monitor"],
            env={**daemon.environment, "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().split()[:3] == ["TIME", "SOURCE", "EVENT"]
            stop(process)
            assert process.wait(DEADLINE_SECONDS) == status


def test_a_monitor_that_does_not_read_gets_the_number_of_missed_events(
    daemon: Daemon, processes: Processes, target: Path
) -> None:
    daemon.start(rule(target, 300, scan="1h"))
    pid = processes.start(target, "600")
    wait_for_value(pid, 300)
    with Client(str(daemon.runtime)) as monitoring, Client(str(daemon.runtime)) as admin:
        assert monitoring.ask({"verb": "monitor"}) == {"event": "monitoring"}
        lines = 0
        for number in range(6000):
            assert admin.ask({"verb": "pin", "pid": pid, "value": 400 + number % 2})["ok"]
        admin.ask({"verb": "unpin", "pid": pid})
        # What the socket and the backlog hold, then the gap, then the rest.
        while (entry := monitoring.receive())["event"] != "dropped":
            lines += 1
        assert entry["count"] > 0
        assert 100 < lines < 6000
        assert daemon.status()["pinned"] == 1


# metrics

COUNTERS = ("events", "pins", "releases", "resets", "drifts", "pin_failures", "event_losses", "scans", "oom_kills")


def parse(text: str) -> list[Any]:
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def test_metrics(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "600")
    daemon.start(rule(target, 300, scan="100ms", name='a "quoted" \\\\ name'.replace('"', '\\"')))
    started = processes.start(target, "600")
    wait_for_value([pid, started], 300)
    set_oom_score_adj(pid, 400)
    wait_for_value(pid, 300)
    done = oomwatchctl(daemon, "metrics")
    assert (done.returncode, done.stderr) == (0, "")
    families = {family.name: family for family in parse(done.stdout)}
    values = {(s.name, *s.labels.values()): s.value for family in families.values() for s in family.samples}
    for name in (
        "events",
        "pins",
        "releases",
        "resets",
        "drifts",
        "pin_failures",
        "event_losses",
        "scans",
        "oom_kills",
    ):
        assert families[f"oomwatchd_{name}"].type == "counter"
        labels = ("kernel", "", "false") if name == "oom_kills" else ()
        assert values[(f"oomwatchd_{name}_total", *labels)] >= 0
    assert values["oomwatchd_pins_total",] == 2
    assert values["oomwatchd_drifts_total",] == 1
    assert values["oomwatchd_pinned_processes",] == 2
    assert values["oomwatchd_rule_hits_total", 'a "quoted" \\ name'] == 2
    assert values["oomwatchd_rule_matches", 'a "quoted" \\ name'] == 2
    assert values["oomwatchd_scan_duration_seconds_count",] > 0
    assert values["oomwatchd_scan_duration_seconds_sum",] > 0
    assert families["oomwatchd_pin_latency_seconds"].type == "histogram"
    by_event = [pin["source"] for pin in answer(daemon, "list")["pins"]].count("exec")
    assert values["oomwatchd_pin_latency_seconds_count",] == by_event
    assert values["oomwatchd_pin_latency_seconds_bucket", "+Inf"] == by_event
    # node_exporter reads the older format.
    assert list(parse_older_format(done.stdout))
    kinds = {line.split()[3] for line in done.stdout.splitlines() if line.startswith("# TYPE")}
    assert kinds <= {"counter", "gauge", "histogram", "summary"}
    assert answer(daemon, "metrics")["counters"]["pins"] == 2
