"""The harness itself: whatever happens in a VM, the suite hears of it and goes on."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.image import Image
from tests.vm.machine import Machine, MachineFailed

IMAGE = "bookworm"


@pytest.fixture
def another_machine(bookworm: Image, tmp_path: Path) -> Iterator[Machine]:
    """One with a disk of its own: what a panic leaves of a file system without a journal may not boot again."""
    vm = Machine(bookworm, tmp_path)
    try:
        vm.boot()
        yield vm
    finally:
        vm.kill()


# In order, since the last but one ends the machine that it shares with those before.


def test_commands_keep_their_outputs_and_status_apart(machine: Machine) -> None:
    done = machine.run("printf 'out\\377'; echo err >&2; exit 3")
    assert (done.status, done.stdout, done.stderr) == (3, "out\\xff", "err\n")
    assert machine.run("kill -9 $$").status == 128 + 9


@pytest.mark.parametrize("size", [7_000, 77_000, 3 << 20], ids=["by the line", "by the disk", "of MiB"])
def test_files_of_some_size_arrive_whole(machine: Machine, size: int) -> None:
    content = random.Random(size).randbytes(size)
    machine.write("/root/file", content, mode=0o600)
    there = machine.succeed("sha256sum < /root/file; stat -c %a /root/file").split()
    assert there == [hashlib.sha256(content).hexdigest(), "-", "600"]


def test_a_command_that_hangs_is_ended_in_the_machine(machine: Machine) -> None:
    done = machine.run("echo begun; sleep 1000", timeout_s=10)  # bash may take some time to start
    assert (done.status, done.stdout) == (124, "begun\n")
    assert machine.succeed("echo alive") == "alive"


def test_the_machine_stands_as_a_fresh_debian_does(machine: Machine) -> None:
    assert machine.succeed("systemctl is-system-running --wait") == "running"
    assert machine.succeed("stat -fc %T /sys/fs/cgroup") == "cgroup2fs"
    assert machine.succeed("cat /proc/self/oom_score_adj") == "0"


def test_a_machine_that_panics_is_a_failure_that_shows_its_console(machine: Machine) -> None:
    with pytest.raises(MachineFailed, match="Kernel panic - not syncing: sysrq triggered crash"):
        machine.run("echo c > /proc/sysrq-trigger")


def test_a_machine_that_hangs_is_a_failure_that_shows_its_console(another_machine: Machine) -> None:
    another_machine.grace_s = 1
    with pytest.raises(MachineFailed, match="no answer in time"):
        another_machine.run("kill -STOP $PPID", timeout_s=1)
