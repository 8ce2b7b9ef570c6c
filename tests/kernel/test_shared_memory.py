"""Processes that share their memory without being threads have one value: the kernel gives each what any of them gets.
So a descendant keeps the pinned value until it has memory of its own, and then it gets what `children` says."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, set_oom_score_adj, wait_for_value, wait_until


@pytest.fixture
def program(compiled: Compiler, tmp_path: Path) -> Path:
    return Path(shutil.copy(compiled("sharer"), tmp_path / "sharer"))


def start(processes: Processes, *command: str | Path, value: int) -> tuple[int, int]:
    """Start the program at `value`. Returns its PID, and that of the child that shares its memory."""
    before = lambda: set_oom_score_adj(os.getpid(), value)  # noqa: E731
    pid = processes.start(*command, preexec_fn=before, stdout=subprocess.PIPE)
    answers = processes.children[-1].stdout
    assert answers is not None
    return pid, processes.adopt(int(answers.readline()))


def wait_until_pinned(daemon: Daemon, pid: int) -> None:
    """Wait until the process is pinned, and its child was looked at. At the first look, the child's value is written,
    taken for the pinned process's as well, and taken back, so that the pinned value can't be waited for."""
    wait_until(lambda: pid in daemon.pins(), "pinned")
    daemon.wait_for_scan()


@pytest.mark.parametrize("first", ["daemon", "program"])
@pytest.mark.parametrize(
    ("original", "children", "wanted"), [(0, '"reset"', 0), (0, "250", 250), (800, '"reset"', 800)]
)
def test_a_descendant_that_leaves_the_memory_gets_what_children_says(
    daemon: Daemon,
    processes: Processes,
    program: Path,
    target: Path,
    first: str,
    original: int,
    children: str,
    wanted: int,
) -> None:
    # The child isn't root's, so the rule doesn't fit it.
    config = rule(program, 500, scan="100ms", more=f'user = "root"\nchildren = {children}')
    if first == "daemon":
        daemon.start(config)
    pid, child = start(processes, program, target, "65534", value=original)
    if first == "program":
        daemon.start(config)
    wait_until_pinned(daemon, pid)

    assert (oom_score_adj(pid), oom_score_adj(child)) == (500, 500)
    assert daemon.status()["counters"]["drifts"] == 0
    os.kill(child, signal.SIGUSR1)
    wait_for_value(child, wanted)
    daemon.wait_for_scan()
    assert (oom_score_adj(pid), oom_score_adj(child)) == (500, wanted)
    assert daemon.status()["counters"]["drifts"] == 0


def test_a_descendant_that_the_pinned_process_leaves_behind_gets_it(
    daemon: Daemon, processes: Processes, program: Path, target: Path
) -> None:
    daemon.start(rule(program, 500, scan="100ms", more='user = "root"\nchildren = "reset"'))
    pid, child = start(processes, program, target, "65534", value=0)
    wait_until_pinned(daemon, pid)
    assert (oom_score_adj(pid), oom_score_adj(child)) == (500, 500)

    os.kill(pid, signal.SIGKILL)

    wait_for_value(child, 0)


def test_a_release_gives_both_the_original_value(
    daemon: Daemon, processes: Processes, program: Path, target: Path
) -> None:
    daemon.start(rule(program, 500, scan="100ms", more='user = "root"\nchildren = "reset"'))
    both = start(processes, program, target, "65534", value=100)
    wait_until_pinned(daemon, both[0])

    daemon.write(rule("/nowhere/else"))
    daemon.reload()

    wait_for_value(both, 100)


def test_rules_that_want_different_values_end_in_one_warning(
    daemon: Daemon, processes: Processes, program: Path, target: Path
) -> None:
    other = f'[[rule]]\nname = "other"\nexe = "{program}"\nuser = 65534\noom_score_adj = 300\n'
    daemon.start(rule(program, 500, scan="100ms", more='user = "root"') + other)

    start(processes, program, target, "65534", value=0)

    wait_until(lambda: "keeps changing" in daemon.log(), "a warning")


CHILD_ALONE = "user = 65534\n"
"""A rule that fits the child, and not its parent, which is root's."""


def test_a_parent_that_no_rule_fits_gets_its_value_back_when_the_child_leaves_the_memory(
    daemon: Daemon, processes: Processes, program: Path, target: Path
) -> None:
    daemon.start(rule(program, 500, scan="1h", more=CHILD_ALONE))
    pid, child = start(processes, program, target, "65534", value=100)
    wait_until(lambda: daemon.pins().keys() >= {pid, child}, "both are held")
    assert (oom_score_adj(pid), oom_score_adj(child)) == (500, 500)

    os.kill(child, signal.SIGUSR1)  # it executes another program

    wait_for_value([pid, child], 100)
    wait_until(lambda: daemon.pins() == {}, "neither is held")


def test_a_parent_that_no_rule_fits_gets_its_value_back_when_the_child_dies(
    daemon: Daemon, processes: Processes, program: Path, target: Path
) -> None:
    daemon.start(rule(program, 500, scan="100ms", more=CHILD_ALONE))
    pid, child = start(processes, program, target, "65534", value=100)
    wait_for_value([pid, child], 500)
    daemon.wait_for_scan()
    assert (oom_score_adj(pid), oom_score_adj(child)) == (500, 500)
    assert daemon.status()["counters"]["drifts"] == 0

    os.kill(child, signal.SIGKILL)

    wait_for_value(pid, 100)


@pytest.mark.parametrize("crash", [False, True])
def test_a_parent_that_no_rule_fits_follows_the_rule_of_the_child(
    daemon: Daemon, processes: Processes, program: Path, target: Path, crash: bool
) -> None:
    daemon.start(rule(program, 500, scan="100ms", more=CHILD_ALONE))
    both = start(processes, program, target, "65534", value=100)
    wait_for_value(both, 500)
    daemon.wait_for_scan()

    if crash:
        daemon.kill()
        daemon.start()
        daemon.wait_for_scan()
    daemon.write(rule(program, 600, scan="100ms", more=CHILD_ALONE))
    daemon.reload()
    wait_for_value(both, 600)
    daemon.wait_for_scan()
    assert [oom_score_adj(pid) for pid in both] == [600, 600]
    daemon.write(rule("/nowhere/else"))
    daemon.reload()

    wait_for_value(both, 100)
    assert daemon.pins() == {}
