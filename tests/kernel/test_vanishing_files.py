"""A hold by a verified path outlives the file's name, also over a restart of the daemon; and nobody gains by that."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.asking import answer
from tests.kernel.running import (
    Daemon,
    Processes,
    oom_score_adj,
    public_directory,
    rule,
    set_oom_score_adj,
    wait_for_value,
    wait_until,
)

START, PROTECTED = 700, 100


def at_700() -> None:
    set_oom_score_adj(os.getpid(), START)


@pytest.fixture
def place() -> Iterator[Path]:
    with public_directory() as directory:
        yield directory


def configuration(program: Path) -> str:
    return rule(program, PROTECTED, scan="100ms", more="user = [0, 65534]")


def start(processes: Processes, *command: str | Path) -> int:
    return processes.start(*command, preexec_fn=at_700)


def expect_held(daemon: Daemon, pid: int) -> None:
    """Now, after scans, and by another daemon."""
    daemon.wait_for_scan()
    assert oom_score_adj(pid) == PROTECTED
    assert daemon.pins()[pid]["original"] == START
    daemon.kill()
    daemon.start()
    daemon.wait_for_scan()
    assert oom_score_adj(pid) == PROTECTED
    assert daemon.pins()[pid]["original"] == START
    (explained,) = answer(daemon, "explain", str(pid))["processes"]
    assert explained["decision"] == {"rule": "target", "action": "pin", "target": PROTECTED}
    assert explained["rules"][0]["fits"] is True


def test_renamed_by_its_own_updater(daemon: Daemon, processes: Processes, place: Path) -> None:
    program = place / "target"
    shutil.copy("/bin/sleep", program)
    daemon.start(configuration(program))
    pid = start(processes, program, "1000")
    wait_for_value(pid, PROTECTED)

    program.rename(place / "target.old")
    shutil.copy("/bin/true", program)
    expect_held(daemon, pid)
    (place / "target.old").unlink()

    expect_held(daemon, pid)


def test_directory_renamed(daemon: Daemon, processes: Processes, place: Path) -> None:
    program = place / "v1" / "target"
    program.parent.mkdir()
    shutil.copy("/bin/sleep", program)
    daemon.start(configuration(program))
    pid = start(processes, program, "1000")
    wait_for_value(pid, PROTECTED)

    program.parent.rename(place / "v0")

    expect_held(daemon, pid)


def test_unmounted_lazily(daemon: Daemon, processes: Processes, place: Path) -> None:
    """As a revision of a snap is when the next one is there."""
    mount = place / "snap"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "x", mount], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copy("/bin/sleep", mount / "target")
        daemon.start(configuration(mount / "target"))
        pid = start(processes, mount / "target", "1000")
        wait_for_value(pid, PROTECTED)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)

    expect_held(daemon, pid)


def test_upgraded_in_another_user_namespace(daemon: Daemon, processes: Processes, place: Path) -> None:
    """As under PrivateUsers=yes."""
    program = place / "target"
    shutil.copy("/bin/sleep", program)
    daemon.start(configuration(program))
    pid = start(processes, "unshare", "-U", program, "1000")
    wait_for_value(pid, PROTECTED)

    fresh = place / "fresh"
    shutil.copy("/bin/true", fresh)
    fresh.rename(program)

    expect_held(daemon, pid)


def test_child_of_one_whose_file_was_renamed(daemon: Daemon, processes: Processes, place: Path) -> None:
    program = place / "target"
    shutil.copy(shutil.which("bash") or "/bin/bash", program)
    daemon.start(configuration(program))
    fifo = place / "fifo"
    os.mkfifo(fifo)
    command = f"while [ -e {program} ]; do read -t 0.1 <> {fifo}; done; (read <> {fifo}) & wait"
    pid = start(processes, program, "-c", command)
    wait_for_value(pid, PROTECTED)

    program.rename(place / "target.old")

    def child() -> int:
        for line in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return int(line)
        return 0

    wait_for_value(processes.adopt(wait_until(child, "it has a child")), PROTECTED)


def test_another_program_is_released(daemon: Daemon, processes: Processes, place: Path) -> None:
    program = place / "target"
    shutil.copy(shutil.which("bash") or "/bin/bash", program)
    other = place / "other"
    shutil.copy("/bin/sleep", other)
    daemon.start(configuration(program))
    pid = start(processes, program, "-c", f"until [ -e {place}/go ]; do :; done; exec {other} 1000")
    wait_for_value(pid, PROTECTED)
    program.rename(place / "target.old")
    daemon.wait_for_scan()
    assert oom_score_adj(pid) == PROTECTED

    (place / "go").touch()

    wait_for_value(pid, START)


def test_rule_that_names_another_path_by_now(daemon: Daemon, processes: Processes, place: Path) -> None:
    program = place / "target"
    shutil.copy("/bin/sleep", program)
    daemon.start(configuration(program))
    pid = start(processes, program, "1000")
    wait_for_value(pid, PROTECTED)
    program.rename(place / "target.old")

    daemon.write(configuration(place / "another"))

    wait_for_value(pid, START)


UNTIL_IT_RUNS = 'until [ "$(readlink /proc/$!/exe)" = {program} ]; do :; done'
"""Else the shell may take the mount away before its child has executed the program."""


@pytest.mark.parametrize("afterwards", ["true", "umount -l {program}", "rm {impostor}"])
def test_nobody_gains_by_a_mount(daemon: Daemon, processes: Processes, place: Path, afterwards: str) -> None:
    program, own = place / "target", place / "own"
    shutil.copy("/bin/sleep", program)
    own.mkdir()
    impostor = own / "impostor"
    shutil.copy("/bin/sleep", impostor)
    for path in (own, impostor):
        os.chown(path, 65534, 65534)
    daemon.start(configuration(program))
    genuine = start(processes, program, "1000")
    wait_for_value(genuine, PROTECTED)
    then = f"{UNTIL_IT_RUNS}; {afterwards}".format(program=program, impostor=impostor)
    command = f"mount --bind {impostor} {program} && ({program} 1000 & {then}; wait)"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urm"]

    start(processes, *nobody, "sh", "-c", command)

    def impostors() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.stat(entry / "exe").st_ino == os.stat(impostor).st_ino:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    if afterwards.startswith("rm"):
        daemon.wait_for_scan()
        assert list(daemon.pins()) == [genuine]
        return
    (pid,) = wait_until(impostors, "the impostor runs")
    processes.adopt(pid)
    daemon.wait_for_scan()
    assert oom_score_adj(pid) == START
    assert list(daemon.pins()) == [genuine]
