"""oomwatchd's arguments and exit statuses."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.running import DEADLINE_SECONDS, Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until
from tests.unprivileged import needs_reachable_python


def run(daemon: Daemon, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "oomwatchd", *arguments]
    return subprocess.run(command, env=daemon.environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, "oomwatchd "),
        (["--help"], 0, "Usage: oomwatchd"),
        (["--nonsense"], 2, "--nonsense"),
        (["extra"], 2, "unexpected argument 'extra'"),
        (["-c"], 2, "-c"),
        (["-c", "/nonexistent.toml", "--once"], 78, "/nonexistent.toml:1:1: No such file"),
        (["-c", "/nonexistent.toml", "--check"], 78, "/nonexistent.toml:1:1: No such file"),
    ],
)
def test_arguments(daemon: Daemon, arguments: list[str], status: int, said: str) -> None:
    result = run(daemon, *arguments)

    assert result.returncode == status
    assert said in result.stdout + result.stderr


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_output_that_cannot_be_written(daemon: Daemon, argument: str) -> None:
    command = [sys.executable, "-m", "oomwatchd", argument]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(command, env=daemon.environment, stdout=full, stderr=subprocess.PIPE, check=False)

    assert result.returncode == 1
    assert result.stderr == b"oomwatchd: failed to write to standard output: No space left on device\n"


def test_once_pins_and_exits(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.write(rule(target))
    pid = processes.start(target, "1000")

    result = run(daemon, "-c", str(daemon.config), "--once")

    assert (result.returncode, oom_score_adj(pid)) == (0, 500)
    assert f"Pinned process {pid}" in result.stderr


def test_dry_run_writes_nothing(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.write(rule(target))
    pid = processes.start(target, "1000")

    result = run(daemon, "-c", str(daemon.config), "--once", "--dry-run")

    assert (result.returncode, oom_score_adj(pid)) == (0, 0)
    assert f"Dry run: would pin process {pid}" in result.stderr
    assert "CAP_SYS_PTRACE" not in result.stderr
    assert not (daemon.runtime / "ledger.json").exists()


def test_dry_run_without_root(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.write(rule(target))
    daemon.config.chmod(0o644)
    for parent in list(daemon.config.parents)[:4]:
        parent.chmod(parent.stat().st_mode | 0o055)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    needs_reachable_python(nobody)
    pid = processes.start(*nobody, str(target), "1000")
    wait_until(lambda: os.readlink(f"/proc/{pid}/exe") == str(target), "it has started")

    result = run(daemon, "-c", str(daemon.config), "--once", "--dry-run", prefix=nobody)

    assert result.returncode == 0, result.stderr
    assert f"Dry run: would pin process {pid}" in result.stderr
    assert "Without CAP_SYS_PTRACE, which root has, the executable of other users' processes" in result.stderr


def test_required_events_that_are_not_to_be_had(daemon: Daemon, target: Path) -> None:
    daemon.write(rule(target).replace("[daemon]", '[daemon]\nproc_events = "required"'))

    result = run(daemon, "-c", str(daemon.config), prefix=("unshare", "-n"))

    assert result.returncode == 77
    assert "network namespace" in result.stderr


def test_second_daemon_is_refused(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target))

    result = run(daemon, "-c", str(daemon.config))

    assert result.returncode == 1
    assert f"runs already, with PID {daemon.pid}" in result.stderr
    assert daemon.status()["pid"] == daemon.pid


def test_dry_run_leaves_the_running_daemon_its_socket(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target))
    command = [sys.executable, "-m", "oomwatchd", "-c", str(daemon.config), "--dry-run"]

    with subprocess.Popen(command, env=daemon.environment, stderr=subprocess.PIPE, text=True) as dry:
        assert dry.stderr is not None
        said = [dry.stderr.readline(), dry.stderr.readline()]
        assert daemon.status()["pid"] == daemon.pid
        dry.terminate()
        assert "Internal error" not in dry.stderr.read()

    assert dry.returncode == 0
    assert "Another oomwatchd runs" in said[1]
    assert daemon.status()["pid"] == daemon.pid


def test_standard_streams_that_are_closed(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target), prefix=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    pid = processes.start(target, "1000")

    wait_for_value(pid, 500)
    assert [os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)] == [os.devnull] * 3
    assert daemon.stop() == 0


def test_few_open_files(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target), prefix=["prlimit", "--nofile=20:4096"])
    pid = processes.start(target, "1000")

    wait_for_value(pid, 500)
    assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == (1024, 4096)


@pytest.mark.parametrize("limit", [20, 127])
def test_too_few_open_files(daemon: Daemon, target: Path, limit: int) -> None:
    daemon.write(rule(target))

    result = run(daemon, "-c", str(daemon.config), prefix=("prlimit", f"--nofile={limit}:{limit}"))

    assert result.returncode == 1
    assert result.stderr == (
        f"Not starting: the limit of open files is {limit}, and at least 128 are needed "
        "(LimitNOFILE= of the unit, ulimit -n in a shell)\n"
    )


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        (">&-", 0, ""),
        (">/dev/full", 1, "oomwatchctl: [Errno 28] No space left on device\n"),
        ("<&- >&-", 0, ""),
    ],
)
def test_output_that_cannot_be_had(daemon: Daemon, target: Path, redirection: str, status: int, said: str) -> None:
    daemon.start(rule(target))
    command = f'exec "$0" -c "from oomwatchd.ctl import main; raise SystemExit(main())" status {redirection}'

    result = subprocess.run(
        ["sh", "-c", command, sys.executable], env=daemon.environment, stderr=subprocess.PIPE, text=True
    )

    assert (result.returncode, result.stderr) == (status, said)


def test_invalid_configuration_lists_every_error(daemon: Daemon, target: Path) -> None:
    daemon.write(rule(target, 5000) + 'colour = "red"\nchildrn = "reset"\n')

    result = run(daemon, "-c", str(daemon.config))

    assert result.returncode == 78
    assert f"{daemon.config}:8:17: oom_score_adj: 5000 is out of range" in result.stderr
    assert f"{daemon.config}:10:1: Unknown key 'colour'" in result.stderr
    assert f"{daemon.config}:11:1: Unknown key 'childrn'; did you mean 'children'?" in result.stderr


def test_once_says_that_nobody_is_to_be_pinned(daemon: Daemon, target: Path) -> None:
    daemon.write(rule(target, 300))

    result = run(daemon, "-c", str(daemon.config), "--once", "--dry-run")

    assert result.returncode == 0
    assert "No rule fits a process that runs now" in result.stderr
