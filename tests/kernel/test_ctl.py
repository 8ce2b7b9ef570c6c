"""oomwatchctl, with a real daemon at the other end."""

import os
import signal
from pathlib import Path

import pytest

from oomwatchd import __version__
from oomwatchd.ctl import main, rulebook
from tests.kernel.asking import answer, oomwatchctl
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_until

OFF = '\n[[rule]]\nname = "off"\nenabled = false\ncomm = "target"\noom_score_adj = 400\n'


@pytest.fixture
def pinned(daemon: Daemon, processes: Processes, target: Path) -> int:
    """A process that is there before the daemon, so that its first scan has pinned it."""
    pid = processes.start(target, "600")
    daemon.start(rule(target, 300, scan="1h", more='description = "for tests"') + OFF)
    assert oom_score_adj(pid) == 300
    return pid


def test_status(daemon: Daemon, pinned: int) -> None:
    status = answer(daemon, "status")
    keys = ["version", "pid", "proc_events", "events_reason", "filter", "filter_reason"]
    assert list(status)[:10] == [*keys, "rules", "pinned", "counters", "config"]
    assert status["pid"] == daemon.pid
    assert status["proc_events"] in ("on", "off")
    assert (status["rules"], status["pinned"]) == (2, 1)
    counters = ["events", "pins", "releases", "resets", "drifts", "failures", "lost", "scans"]
    assert list(status["counters"]) == counters
    assert all(isinstance(number, int) for number in status["counters"].values())
    assert list(status["config"]) == ["files", "loaded_at", "error"]
    assert status["config"]["files"] == [str(daemon.config)]
    assert status["config"]["error"] is None
    shown = oomwatchctl(daemon, "status")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"oomwatchd {__version__}, PID ")


def test_list(daemon: Daemon, pinned: int, target: Path) -> None:
    (pin,) = answer(daemon, "list")["pins"]
    assert list(pin) == [
        *("pid", "starttime", "comm", "exe", "uid", "unit", "rule", "oom_score_adj", "original", "since", "source"),
        "until",
    ]
    assert (pin["pid"], pin["rule"], pin["oom_score_adj"], pin["comm"]) == (pinned, "target", 300, "target")
    assert pin["exe"] == str(target)
    lines = oomwatchctl(daemon, "list").stdout.splitlines()
    assert lines[0].split() == ["PID", "RULE", "VALUE", "FIRST", "SINCE", "COMM"]
    assert lines[1].split()[:3] == [str(pinned), "target", "300"]
    assert [line.split() for line in oomwatchctl(daemon, "list", "--no-legend").stdout.splitlines()] == [
        lines[1].split()
    ]


def test_rules(daemon: Daemon, pinned: int) -> None:
    raised, off = answer(daemon, "rules")["rules"]
    assert raised == {
        "rule": "target",
        "file": str(daemon.config),
        "line": 5,
        "action": "300",
        "enabled": True,
        "matches": 1,
        "hits": 1,
        "description": "for tests",
    }
    assert (off["enabled"], off["matches"], off["hits"]) == (False, 0, 0)
    shown = oomwatchctl(daemon, "rules").stdout.splitlines()
    assert shown[1].split() == ["target", "300", "1", "1", f"{daemon.config}:5"]


def test_reload_waits_until_the_new_rules_are_in_force(daemon: Daemon, pinned: int, target: Path) -> None:
    daemon.write(rule(target, "{ at_least = 500 }"))
    done = oomwatchctl(daemon, "reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert oom_score_adj(pinned) == 500


def test_reload_of_a_broken_file_says_what_is_wrong(daemon: Daemon, pinned: int, target: Path) -> None:
    daemon.write(rule(target, 1001))
    done = oomwatchctl(daemon, "reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{daemon.config}:8:")
    assert oom_score_adj(pinned) == 300
    assert answer(daemon, "status")["config"]["error"].startswith(f"{daemon.config}:8:")
    assert "Refused" in oomwatchctl(daemon, "status").stdout


@pytest.mark.parametrize("verb", ["status", "list", "rules", "explain", "check", "config", "metrics"])
def test_each_json_key_is_documented(verb: str, daemon: Daemon, pinned: int) -> None:
    page = (Path(__file__).parents[2] / "man/oomwatchctl.1.scd").read_text()
    about = page.partition(f"\n*{verb}*")[2].partition("\n# PROTOCOL")[0]
    if verb == "metrics":  # its counters are those of `status`
        about = page
    asked = [str(pinned)] if verb == "explain" else []
    missing = [key for key in keys_of(answer(daemon, verb, *asked)) if f"*{key}*" not in about]
    assert missing == []


def keys_of(value: object) -> set[str]:
    """All keys, but those of tables that are written as in the configuration."""
    if isinstance(value, list):
        return {key for member in value for key in keys_of(member)}
    if not isinstance(value, dict):
        return set()
    below = {key for name, member in value.items() if name not in ("table", "daemon") for key in keys_of(member)}
    return below | set(value)


def test_the_start_and_a_reload_know_the_warnings_of_check(daemon: Daemon, processes: Processes, target: Path) -> None:
    """A helper looks at the files that rules name, so that it comes a moment later."""
    warning = "exe '/no/such/program' fits no program now"
    other = '\n[[rule]]\nname = "other"\nexe = "/no/such/program"\noom_score_adj = 300\n'
    daemon.start(rule(target, 300, scan="1h") + other)
    wait_until(lambda: daemon.log().count(warning) == 1, "the start tells of it")

    shown = oomwatchctl(daemon, "reload")

    assert shown.returncode == 0
    assert warning in shown.stderr
    wait_until(lambda: daemon.log().count(warning) == 2, "the reload tells of it")


@pytest.mark.parametrize("verb", ["check", "config", "explain", "postmortem"])
def test_what_works_without_a_daemon_works_beside_one_that_hangs(
    daemon: Daemon,
    pinned: int,
    tmp_path: Path,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(daemon.runtime))
    monkeypatch.setattr(rulebook, "PATIENCE_SECONDS", 0.2)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/oomwatchd.toml").write_text(daemon.config.read_text())
    words = {"explain": ["--root", str(tmp_path), str(pinned)], "postmortem": ["--replay", "/dev/null"]}
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        status = main([verb, *words.get(verb, [])])
    finally:
        os.kill(daemon.pid, signal.SIGCONT)

    assert status in (0, 1)  # as this machine's own configuration is, but for `explain`
    assert "going by the files, and not by the daemon: oomwatchd doesn't answer" in capsys.readouterr().err
    assert verb != "explain" or status == 0
