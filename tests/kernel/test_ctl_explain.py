"""oomwatchctl explain, check and config: with a daemon, without one, with and without privilege."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.asking import answer, as_nobody, oomwatchctl
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, set_oom_score_adj, wait_for_value, wait_until

KEYS = ["pid", "comm", "exe", "exe_verified", "uid", "unit", "oom_score_adj", "decision", "rules"]


def explain(daemon: Daemon, *words: object, status: int = 0) -> Any:
    """The one process that was asked for."""
    (process,) = answer(daemon, "explain", *map(str, words), status=status)["processes"]
    check_shape(process)
    return process


def check_shape(process: Any) -> None:
    assert list(process) == [*KEYS, "note", "value_from", "next", "cmdline_cut"]
    assert list(process["decision"]) == ["rule", "action", "target"]
    assert process["decision"]["action"] in ("pin", "ignore", "release", "children", "none")
    for each in process["rules"]:
        assert list(each) == ["rule", "file", "line", "fits", "failed"]
        assert each["fits"] is (each["failed"] is None)
        assert each["failed"] is None or list(each["failed"]) == ["key", "wanted", "found"]


def test_the_loaded_rules_and_not_the_file_count(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "600")
    daemon.start(rule(target, 300))
    daemon.write("this is no TOML")
    found = explain(daemon, pid)
    assert found["decision"] == {"rule": "target", "action": "pin", "target": 300}
    assert (found["pid"], found["comm"], found["exe"], found["exe_verified"]) == (pid, "target", str(target), True)
    assert (found["uid"], found["unit"], found["oom_score_adj"]) == (0, None, 300)
    assert found["rules"] == [
        {"rule": "target", "file": str(daemon.config), "line": 5, "fits": True, "failed": None},
    ]
    assert found["value_from"]["kind"] == "pin"
    shown = oomwatchctl(daemon, "explain", str(pid)).stdout
    assert "pinned by rule 'target'" in shown
    assert "it had 0 before" in shown


def test_the_first_criterion_that_fails(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "600")
    config = rule(target, 300, name="first", more='user = "nobody"\nchildren = "reset"')
    config += f'[[rule]]\nname = "second"\nexe = "{target}"\nignore = true\n'
    daemon.start(config)
    found = explain(daemon, pid)
    assert found["rules"][0]["failed"] == {"key": "user", "wanted": "nobody", "found": 0}
    assert found["decision"] == {"rule": "second", "action": "ignore", "target": None}
    assert "user: wanted nobody, found root" in oomwatchctl(daemon, "explain", str(pid)).stdout


def test_no_rule_fits(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, 300))
    pid = processes.start("sleep", "600")
    found = explain(daemon, pid, status=1)
    assert found["decision"] == {"rule": None, "action": "none", "target": None}
    assert found["rules"][0]["failed"]["key"] == "exe"
    assert found["rules"][0]["failed"]["wanted"] == str(target)


def test_who_is_never_touched(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target, 300))
    threads = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_kernel_thread(p)]
    assert explain(daemon, 1, status=1)["rules"][0]["failed"] == {"key": "pid", "wanted": "any but 1", "found": 1}
    for pid in threads[:1]:
        assert explain(daemon, pid, status=1)["note"] == "a kernel thread, which is never touched"


def _is_kernel_thread(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return bool(int(fields[6]) & 0x00200000)


def test_a_process_that_is_gone(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, 300))
    pid = processes.start(target, "600")
    processes.end()
    found = explain(daemon, pid, status=1)
    assert found["note"].startswith("no such process")
    assert (found["comm"], found["oom_score_adj"], found["rules"]) == (None, None, [])
    assert oomwatchctl(daemon, "explain", str(pid)).returncode == 1


def test_a_container(daemon: Daemon, processes: Processes, target: Path) -> None:
    unshare = processes.start("unshare", "--pid", "--fork", "--kill-child", target, "600", stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{unshare}/task/{unshare}/children")
    wait_until(
        lambda: children.exists() and (children.read_text() or not Path(f"/proc/{unshare}/exe").exists()), "start"
    )
    if not children.exists() or not children.read_text():
        pytest.skip("no PID namespace can be made here (CAP_SYS_ADMIN)")
    (pid,) = map(int, children.read_text().split())
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "target\n", "the program runs")
    lowers = 'user = "root"'
    daemon.start(rule(target, 300, more=lowers))
    found = explain(daemon, pid, status=1)
    failed = {"key": "containers", "wanted": "this PID namespace", "found": "another PID namespace"}
    assert found["rules"][0]["failed"] == failed
    daemon.write(rule(target, 300, more=f"{lowers}\ncontainers = true"))
    assert daemon.reload()["ok"]
    assert explain(daemon, pid)["decision"]["target"] == oom_score_adj(pid) == 300


def test_descendants(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    """What a child has comes from its pinned ancestor, and that it is one only the daemon knows."""
    shell = tmp_path / "shell"
    shell.write_bytes(Path("/bin/sh").read_bytes())
    shell.chmod(0o755)
    parent = processes.start(shell, "-c", f"sleep 600 & {target} 600 & wait", start_new_session=True)
    config = rule(shell, 300, name="shell")
    config += f'[[rule]]\nname = "below"\nexe = "{target}"\ndescendant_of = "shell"\noom_score_adj = 400\n'
    daemon.start(config)
    children = {Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in _children(parent)}
    for pid in children.values():
        processes.adopt(pid)
    wait_for_value(children["target"], 400)
    below = explain(daemon, children["target"])
    assert below["decision"] == {"rule": "below", "action": "pin", "target": 400}
    plain = explain(daemon, children["sleep"], status=1)
    assert plain["decision"] == {"rule": None, "action": "children", "target": 300}
    assert plain["value_from"] | {"unit": None} == {
        "kind": "inherited", "rule": "shell", "pid": parent, "comm": "shell", "unit": None,
    }  # fmt: skip
    daemon.stop()
    # Without a daemon the living ancestors tell.
    assert explain(daemon, "-c", daemon.config, children["target"])["decision"]["rule"] == "below"


def _children(pid: int) -> list[int]:
    found: list[int] = []
    while len(found) < 2:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found


def test_a_first_value_counts(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    """What other rules would make of a process is reckoned from what it had before the pin."""
    pid = processes.start(target, "600")
    set_oom_score_adj(pid, 100)
    daemon.start(rule(target, 300))
    assert oom_score_adj(pid) == 300
    other = tmp_path / "other.toml"
    other.write_text(rule(target, "{ at_least = 50 }"))
    assert explain(daemon, "-c", other, pid)["decision"] == {"rule": "target", "action": "pin", "target": 100}
    other.write_text("")
    assert explain(daemon, "-c", other, pid, status=1)["decision"] == {"rule": None, "action": "release", "target": 100}


@pytest.fixture
def open_daemon(daemon: Daemon) -> Iterator[Daemon]:
    """One whose runtime directory other users reach, unlike pytest's directories."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        daemon.runtime = Path(directory) / "run"
        yield daemon
        daemon.end()


def test_without_privilege(open_daemon: Daemon, processes: Processes, target: Path) -> None:
    """What /proc doesn't tell, but the daemon says of everyone: whom a rule holds."""
    pid = processes.start(target, "600")
    open_daemon.start(rule(target, 300) + '[[rule]]\nname = "x"\nexe = "/x"\noom_score_adj = 1\n')
    done = as_nobody(open_daemon, "explain", str(pid), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)["processes"]
    check_shape(found)
    assert found["exe"] is None
    assert found["decision"] == {"rule": "target", "action": "pin", "target": 300}
    assert found["rules"][1]["failed"] == {"key": "exe", "wanted": "/x", "found": None}


def test_rules_in_a_private_file_are_not_shown(open_daemon: Daemon, processes: Processes, target: Path) -> None:
    open_daemon.write(rule(target, 300))
    open_daemon.config.chmod(0o600)
    open_daemon.start()
    done = as_nobody(open_daemon, "explain", str(os.getpid()))
    assert done.returncode == 1
    assert f"The rules of {open_daemon.config} aren't shown to you" in done.stdout
    assert str(target) not in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "rule_name"),
    [
        (["--exe", "{target}", "--user", "root"], 0, "target"),
        (["--exe", "{target}", "--user", "nobody"], 1, None),
        (["--exe", "{target}"], 1, None),
        (["--comm", "named"], 0, "named"),
        (["--cgroup", "/system.slice/some.service"], 0, "unit"),
        (["--unit", "some.service"], 0, "unit"),
        (["--descendant-of", "unit"], 0, "child"),
    ],
)
def test_a_process_that_does_not_run_yet(
    words: list[str], status: int, rule_name: str | None, daemon: Daemon, target: Path
) -> None:
    config = rule(target, 300, more='user = "root"')
    for name, criterion in (("named", 'comm = "named"'), ("unit", 'unit = "some.service"')):
        config += f'[[rule]]\nname = "{name}"\n{criterion}\noom_score_adj = 5\n'
    config += '[[rule]]\nname = "child"\ndescendant_of = "unit"\noom_score_adj = 6\n'
    daemon.write(config)
    asked = [word.format(target=target) for word in words]
    found = explain(daemon, "-c", daemon.config, *asked, status=status)
    assert (found["pid"], found["oom_score_adj"], found["decision"]["rule"]) == (None, None, rule_name)


@pytest.mark.parametrize("words", [[], ["0"], ["x"], ["1", "--comm", "y"], ["--user", "nosuchuser"]])
def test_usage_errors_of_explain(words: list[str], daemon: Daemon) -> None:
    daemon.write("")
    done = oomwatchctl(daemon, "explain", "-c", str(daemon.config), *words)
    assert (done.returncode, done.stdout) == (2, "")


def test_explain_with_a_broken_file(daemon: Daemon) -> None:
    daemon.write("[[rule]]\n")
    done = oomwatchctl(daemon, "explain", "-c", str(daemon.config), "1")
    assert done.returncode == 1
    assert f"\n{daemon.config}:1:1: " in done.stderr


def test_check_looks_where_the_daemon_would(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target, "{ at_least = 300 }"))
    assert answer(daemon, "check") == {"ok": True, "errors": [], "warnings": []}
    daemon.write(rule(target, 1001))
    (error,) = answer(daemon, "check", status=1)["errors"]
    assert (error["file"], error["line"], error["column"]) == (str(daemon.config), 8, 17)
    shown = oomwatchctl(daemon, "config")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith(f"{daemon.config}:8:17: ")
