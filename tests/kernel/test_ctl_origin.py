"""Where the present value of a process comes from, as `oomwatchctl explain` says."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.asking import PROGRAM, answer
from tests.kernel.running import Daemon, Processes, rule, set_oom_score_adj, wait_for_value, wait_until

NOTHING = {"rule": None, "pid": None, "comm": None, "unit": None}


def origin(daemon: Daemon, pid: int) -> Any:
    """By the rules in the file: no daemon has to run."""
    shown = answer(daemon, "explain", "-c", str(daemon.config), str(pid), status=1)
    return shown["processes"][0]["value_from"]


def grandchild(processes: Processes, *command: object) -> int:
    """The program that a chain of processes starts, the first of which is `command`; two processes are below it."""
    pid = processes.start(*map(str, command))

    def child_of(parent: int) -> int:
        children = Path(f"/proc/{parent}/task/{parent}/children")
        return int(wait_until(lambda: children.read_text().split(), "a child")[0])

    found = child_of(child_of(pid))
    wait_until(lambda: Path(f"/proc/{found}/comm").read_text() == "target\n", "the program runs")
    return found


def test_nobody_has_set_a_value(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.write("")

    assert origin(daemon, processes.start(target, "600")) == {**NOTHING, "kind": "default"}


def test_process_or_its_parent_has_set_it(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.write("")
    pid = processes.start(target, "600")
    set_oom_score_adj(pid, 123)

    assert origin(daemon, pid) == {**NOTHING, "kind": "process"}


def test_the_topmost_of_those_who_have_it_is_named(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.write("")
    below = f"sh -c '{target} 600 & wait' & wait"
    found = grandchild(processes, "sh", "-c", f"echo 77 > /proc/self/oom_score_adj; {below}")

    assert origin(daemon, found) == {**NOTHING, "kind": "inherited", "pid": processes.children[0].pid, "comm": "sh"}


def test_an_ancestor_with_another_value_between_ends_the_search(
    daemon: Daemon, processes: Processes, target: Path
) -> None:
    daemon.write("")
    below = f"sh -c 'echo 78 > /proc/self/oom_score_adj; {target} 600 & wait' & wait"
    found = grandchild(processes, "sh", "-c", f"echo 77 > /proc/self/oom_score_adj; {below}")
    set_oom_score_adj(found, 77 + 1)

    parent = int(Path(f"/proc/{found}/stat").read_text().rpartition(")")[2].split()[1])
    assert origin(daemon, found) == {**NOTHING, "kind": "inherited", "pid": parent, "comm": "sh"}


def test_a_held_ancestor_gives_its_children_another_value(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    shell = tmp_path / "shell"
    shell.write_bytes(Path("/bin/sh").read_bytes())
    shell.chmod(0o755)
    daemon.start(rule(shell, 300, name="shell", more="session_leader = true\nchildren = 250"))
    parent = processes.start(shell, "-c", f"{target} 600 & wait", start_new_session=True)
    (child,) = wait_until(lambda: Path(f"/proc/{parent}/task/{parent}/children").read_text().split(), "a child")
    wait_for_value(int(child), 250)

    (found,) = answer(daemon, "explain", child, status=1)["processes"]

    assert found["value_from"] == {"kind": "children", "rule": "shell", "pid": parent, "comm": "shell", "unit": None}


@pytest.fixture
def unit() -> Iterator[Path]:
    """A cgroup that is named as systemd names that of a service."""
    roots = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    root = next((path for path in roots if (path / "cgroup.procs").exists()), None)
    if root is None or not os.access(root / "cgroup.procs", os.W_OK):
        pytest.skip("no cgroup v2 is mounted where systemd has it, or it may not be written to")
    group = root / f"oomwatchd-test-{os.getpid()}.service"
    group.mkdir()
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


@pytest.mark.parametrize(
    ("says", "kind"),
    [("echo 200", "unit"), ("echo -5", "process"), ("echo '[not set]'", "process"), ("exit 1", "process")],
)
def test_systemd_has_set_it_for_the_unit(
    says: str, kind: str, daemon: Daemon, unit: Path, target: Path, tmp_path: Path
) -> None:
    """By what a stand-in for systemctl says, on a machine that systemd seems to have booted."""
    daemon.write("")
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/asked\n{says}\n')
    systemctl.chmod(0o755)
    started = Processes()
    try:
        pid = started.start(target, "600")
        (unit / "cgroup.procs").write_text(str(pid))
        set_oom_score_adj(pid, 200)
        booted = 'mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$@"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", booted, "sh", PROGRAM, "explain", "-c", daemon.config, str(pid), "--json"],
            env={**daemon.environment, "PATH": f"{systemctl.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        started.end()
    assert done.stderr == ""
    (found,) = json.loads(done.stdout)["processes"]
    named = {"unit": unit.name} if kind == "unit" else {}
    assert found["value_from"] == {**NOTHING, "kind": kind, **named}
    assert (tmp_path / "asked").read_text() == f"show --property=OOMScoreAdjust --value -- {unit.name}\n"
