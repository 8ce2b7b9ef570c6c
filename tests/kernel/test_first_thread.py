"""A process whose first thread has ended is a process like any other. Its /proc/PID/exe, cmdline and memory are empty;
those of its other threads are as ever."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.asking import answer
from tests.kernel.conftest import Compiler
from tests.kernel.running import Commanded, Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until


class Headless(Commanded):
    """A program whose first thread has ended."""

    def start(self, *prefix: str) -> int:
        pid = super().start(*prefix)
        wait_until(lambda: "State:\tZ" in Path(f"/proc/{pid}/status").read_text(), "the first thread has ended")
        return pid


@pytest.fixture
def headless(compiled: Compiler, tmp_path: Path) -> Iterator[Headless]:
    program = tmp_path / "headless"
    shutil.copy(compiled("leaderexit", ("-pthread",)), program)
    running = Headless(program)
    yield running
    running.end()


CRITERIA = [
    'user = "root"',
    'comm = "headless"',
    'cmdline = "*/headless"',
    'group = 0\nnot = { user = "nobody" }',
]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_pinned_by_events(daemon: Daemon, headless: Headless, criterion: str) -> None:
    daemon.start(rule(headless.program, 500, scan="1h", more=criterion))

    pids = [headless.start()]

    wait_for_value(pids, 500)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_pinned_by_the_first_scan(daemon: Daemon, headless: Headless, criterion: str) -> None:
    pid = headless.start()

    daemon.start(rule(headless.program, 500, scan="1h", more=criterion))

    wait_for_value(pid, 500)


def test_pinned_by_its_name_alone(daemon: Daemon, headless: Headless, tmp_path: Path) -> None:
    named = headless.program.rename(tmp_path / "oomwatchd-nobody")
    headless.program = named
    pid = headless.start()
    text = f'[[rule]]\nname = "r"\ncomm = "{named.name[:15]}"\noom_score_adj = 500\n'

    daemon.start(f'[daemon]\nscan_interval = "1h"\n{text}')

    wait_for_value(pid, 500)


def test_twenty_starts_at_once_are_all_pinned(daemon: Daemon, processes: Processes, headless: Headless) -> None:
    daemon.start(rule(headless.program, 500, scan="1h"))

    pids = [processes.start(headless.program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(20)]

    wait_for_value(pids, 500)


def test_held_and_released(daemon: Daemon, headless: Headless, target: Path) -> None:
    daemon.start(rule(headless.program, 500, scan="100ms", more='user = "root"'))
    pid = headless.start()
    wait_for_value(pid, 500)

    headless.change("v 600")
    wait_for_value(pid, 500)
    headless.change("t")
    daemon.wait_for_scan()
    assert oom_score_adj(pid) == 500
    headless.change("u 65534")
    wait_for_value(pid, 0)
    headless.change("u 0")
    wait_for_value(pid, 500)
    headless.tell(f"x {target}")
    wait_for_value(pid, 0)


def test_explained_and_ranked(daemon: Daemon, headless: Headless) -> None:
    daemon.start(rule(headless.program, 500, scan="1h", more='user = "root"'))
    pid = headless.start()
    wait_for_value(pid, 500)

    (explained,) = answer(daemon, "explain", str(pid))["processes"]
    assert (explained["exe"], explained["exe_verified"], explained["uid"]) == (str(headless.program), True, 0)
    assert explained["decision"] == {"rule": "target", "action": "pin", "target": 500}
    (ranked,) = [each for each in answer(daemon, "rank", "-n", "100000")["processes"] if each["pid"] == pid]
    assert ranked["killable"] is True
    assert isinstance(ranked["rss_pages"], int) and ranked["rss_pages"] > 0
