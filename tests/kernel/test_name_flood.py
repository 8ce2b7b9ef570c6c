"""A process that changes its name without end keeps nobody else from being pinned. At the end it has what its last name
gives it."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import Commanded, Daemon, Processes, straced, wait_for_value, wait_until

FEW = 10
"""More looks than the daemon takes at one process in a turn: four at its changes, and one in the end."""


@pytest.fixture
def name(tmp_path: Path) -> str:
    """A task name that no other process has."""
    return f"n{tmp_path.stat().st_ino}"[:15]


def config(name: str, local: Path) -> str:
    return f"""
[daemon]
scan_interval = "1h"
[[rule]]
name = "renamed"
comm = "{name}"
oom_score_adj = 500
[[rule]]
name = "local"
exe = "{local}"
oom_score_adj = 400
"""


@pytest.mark.serial  # the kernel may lose events, also for other daemons
@pytest.mark.parametrize("fits", [True, False], ids=["fits", "no longer fits"])
def test_innocent_beside_it(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler, tmp_path: Path, name: str, fits: bool
) -> None:
    program = tmp_path / "renamer"
    shutil.copy(compiled("renamer"), program)
    daemon.start(config(name, target))
    pid = processes.start(program, name, name if fits else "done", stdin=subprocess.PIPE)
    flood = processes.children[-1].stdin
    assert flood is not None
    wait_until(lambda: f"Pinned process {pid} " in daemon.log(), "its events are heard")

    for _ in range(20):
        wait_for_value(processes.start(target, "1000"), 400)
        assert daemon.status()["pid"] == daemon.pid
    assert processes.children[0].poll() is None
    flood.close()

    wait_for_value(pid, 500 if fits else 0)
    wait_until(lambda: (pid in daemon.pins()) == fits, "listed as it is")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which shows the looks, isn't installed")
def test_a_flood_costs_few_looks(
    daemon: Daemon, processes: Processes, target: Path, chameleon: Commanded, tmp_path: Path, name: str
) -> None:
    """The events of a thousand changes wait, and those of a program that has started in their midst. Each look opens
    /proc/PID."""
    calls = tmp_path / "calls"
    daemon.start(config(name, target))
    flooding = chameleon.start()
    chameleon.change(f"n {name}")
    wait_for_value(flooding, 500)
    with straced(daemon.pid, "-e", "trace=openat", "-o", str(calls)):
        os.kill(daemon.pid, signal.SIGSTOP)
        change_often(chameleon, name)
        local = processes.start(target, "1000")
        change_often(chameleon, name)
        chameleon.change("n done")

        os.kill(daemon.pid, signal.SIGCONT)

        wait_for_value(flooding, 0)
        wait_for_value(local, 400)
        daemon.status()  # the turn is over
    looks = [int(pid) for pid in re.findall(r'AT_FDCWD, "/proc/(\d+)",', calls.read_text())]
    assert local in looks
    assert 0 < looks.count(flooding) <= FEW
    assert flooding in looks[looks.index(local) :]


def change_often(chameleon: Commanded, name: str) -> None:
    for number in range(500):
        chameleon.change(f"n {'another' if number % 2 == 0 else name}")
