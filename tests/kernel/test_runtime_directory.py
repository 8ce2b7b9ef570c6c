"""The runtime directory: one daemon in each; and where it is full or can't be written, pins go on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from oomwatchd.control.client import Client, NotRunning
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, set_oom_score_adj, wait_for_value, wait_until

# One daemon in each


def test_of_many_that_start_at_once_one_runs(daemon: Daemon, target: Path) -> None:
    daemon.write(rule(target))
    command = [sys.executable, "-m", "oomwatchd", "-c", str(daemon.config)]
    with ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(command, env=daemon.environment, stderr=subprocess.PIPE))
            for _ in range(8)
        ]
        wait_until(lambda: sum(each.poll() is not None for each in started) >= 7, "seven have given up")
        (running,) = (each for each in started if each.poll() is None)
        wait_until(daemon_answers(daemon, running.pid), "the eighth runs")
        for each in started:
            if each is running:
                each.terminate()
        for each in started:
            assert each.stderr is not None
            said = each.stderr.read().decode()
            assert each.wait() == (0 if each is running else 1)
            assert each is running or "Not starting: oomwatchd runs already" in said


def daemon_answers(daemon: Daemon, pid: int) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            return bool(daemon.status()["pid"] == pid)
        except NotRunning:
            return False

    return answers


def test_a_second_daemon_says_whose_the_directory_is(daemon: Daemon, target: Path, tmp_path: Path) -> None:
    daemon.start(rule(target))
    for words in ([], ["--once"]):
        another = Daemon(tmp_path)
        another.spawn(None, *words)
        assert another.process is not None
        assert another.process.wait() == 1
        assert f"Not starting: oomwatchd runs already, with PID {daemon.pid}" in daemon.log()
    assert daemon.status()["pid"] == daemon.pid


def test_one_that_was_killed_or_stopped_leaves_no_lock(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target))
    daemon.kill()
    daemon.start()
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.status()["pid"] == daemon.pid


def test_a_hanging_daemon_keeps_its_directory(daemon: Daemon, target: Path, tmp_path: Path) -> None:
    daemon.start(rule(target))
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        another = Daemon(tmp_path)
        another.spawn(None)
        assert another.process is not None
        assert another.process.wait() == 1
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def test_nobody_else_can_take_the_lock(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target))
    assert (daemon.runtime / "lock").stat().st_mode & 0o777 == 0o600


# A full disk


@pytest.fixture
def small(daemon: Daemon) -> Iterator[Path]:
    """The runtime directory as a file system of its own, with room for little."""
    daemon.runtime.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=16", "oomwatchd-test", daemon.runtime],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mount.stderr.strip()}")
    yield daemon.runtime
    try:
        daemon.end()
    finally:
        subprocess.run(["umount", "-l", daemon.runtime], check=True)


def fill(directory: Path) -> None:
    """Leave no room."""
    descriptor = os.open(directory / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space"):
        while True:
            os.write(descriptor, b"x" * 4096)
    os.close(descriptor)


def ledger_pids(directory: Path) -> str:
    return (directory / "ledger.json").read_text()


def test_a_disk_that_is_full_and_is_emptied(
    daemon: Daemon, processes: Processes, target: Path, small: Path, tmp_path: Path
) -> None:
    fill(small)

    daemon.start(rule(target, scan="100ms"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)
    assert daemon.status()["ledger_error"] == "No space left on device"
    assert "Failed to write the ledger" in daemon.log()
    daemon.wait_for_scan()
    assert daemon.log().count("Failed to write the ledger") == 1

    (small / "filler").unlink()
    wait_until(lambda: daemon.status()["ledger_error"] is None, "written again")
    assert f'"pid":{pid}' in ledger_pids(small)
    wait_until(lambda: "is written again" in daemon.log(), "told")
    daemon.kill()
    daemon.start('[daemon]\nscan_interval = "1h"')
    wait_for_value(pid, 0)


def test_a_disk_that_fills_later(daemon: Daemon, processes: Processes, target: Path, small: Path) -> None:
    daemon.start(rule(target, scan="100ms"))
    early = processes.start(target, "1000")
    wait_for_value(early, 500)
    fill(small)

    pids = [processes.start(target, "1000") for _ in range(100)]
    wait_for_value(pids, 500)

    wait_until(lambda: daemon.status()["ledger_error"] == "No space left on device", "noticed")
    assert daemon.stop() == 0
    assert "Internal error" not in daemon.log()
    assert oom_score_adj(early) == 500


def test_no_inodes_are_left(daemon: Daemon, processes: Processes, target: Path, small: Path) -> None:
    made = []
    with pytest.raises(OSError, match="No space"):
        for number in range(100):
            (small / str(number)).touch()
            made.append(small / str(number))

    daemon.spawn(rule(target, scan="100ms"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)
    wait_until(lambda: "Failed to open the control socket" in daemon.log(), "told")

    for each in made:
        each.unlink()
    wait_until(daemon_answers(daemon, daemon.pid), "it answers again")
    wait_until(lambda: daemon.status()["ledger_error"] is None, "the ledger is written")
    assert daemon.log().count("Failed to open the control socket") == 1


@pytest.mark.parametrize("removed", ["socket", "directory"])
def test_a_removed_control_socket_is_made_anew(daemon: Daemon, target: Path, tmp_path: Path, removed: str) -> None:
    daemon.start(rule(target, scan="100ms"))
    with Client(str(daemon.runtime)) as before:
        if removed == "socket":
            (daemon.runtime / "control").unlink()
        else:
            daemon.runtime.rename(tmp_path / "away")
        wait_until(daemon_answers(daemon, daemon.pid), "it answers again")
        assert before.ask({"verb": "status"})["pid"] == daemon.pid
    assert (daemon.runtime / "control").stat().st_mode & 0o777 == 0o666


def test_a_file_system_that_is_read_only(daemon: Daemon, processes: Processes, target: Path, small: Path) -> None:
    if subprocess.run(["mount", "-o", "remount,ro", small], check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted read-only here")

    daemon.spawn(rule(target, scan="100ms"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)

    subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    wait_until(daemon_answers(daemon, daemon.pid), "it answers again")
    wait_until(lambda: daemon.status()["ledger_error"] is None, "the ledger is written")


def test_a_fifo_in_the_place_of_the_ledger_stops_nobody(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "1000")
    daemon.runtime.mkdir(exist_ok=True)
    os.mkfifo(daemon.runtime / "ledger.json")

    daemon.start(rule(target))

    wait_for_value(pid, 500)
    assert (daemon.runtime / "ledger.json").is_file()


def test_a_ledger_that_was_emptied_is_there_again_after_a_crash(
    daemon: Daemon, processes: Processes, target: Path
) -> None:
    pid = processes.start(target, "1000")
    set_oom_score_adj(pid, 100)
    daemon.start(rule(target, scan="100ms"))
    wait_for_value(pid, 500)

    ledger = daemon.runtime / "ledger.json"
    ledger.write_text("")
    wait_until(lambda: f'"pid":{pid},' in ledger.read_text(), "it is written anew")
    daemon.kill()
    daemon.start()

    assert daemon.pins()[pid]["original"] == 100


def test_once_on_a_full_disk(daemon: Daemon, processes: Processes, target: Path, small: Path) -> None:
    fill(small)
    pid = processes.start(target, "1000")
    set_oom_score_adj(pid, 100)

    daemon.spawn(rule(target), "--once")

    assert daemon.process is not None
    assert daemon.process.wait() == 0
    assert oom_score_adj(pid) == 500
