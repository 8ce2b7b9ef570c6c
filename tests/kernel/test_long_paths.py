"""The kernel doesn't tell the path of an executable that has more than 4,095 bytes (PATH_MAX). Other criteria fit such
a program all the same, and one that is moved there stays held."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.asking import answer
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, set_oom_score_adj, wait_for_value

START, PROTECTED = 700, 100


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[int]:
    """A descriptor of a directory whose path is too long."""
    name = "d" * 250
    with contextlib.ExitStack() as stack:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        for _ in range(17):
            os.mkdir(name, dir_fd=descriptor)
            descriptor = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            stack.callback(os.close, descriptor)
        yield descriptor
        shutil.rmtree(tmp_path / name, ignore_errors=True)


def start_in(deep: int, processes: Processes, name: str) -> int:
    """Start a program in that directory. The kernel doesn't tell where it is."""
    with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o755, dir_fd=deep), "wb") as file:
        file.write(Path("/bin/sleep").read_bytes())
    pid = processes.start(f"./{name}", "1000", preexec_fn=lambda: os.fchdir(deep))
    with pytest.raises(OSError, match="too long"):
        os.readlink(f"/proc/{pid}/exe")
    return pid


@pytest.mark.parametrize("filtered", [True, False], ids=["names", "kinds"], indirect=True)
@pytest.mark.parametrize("first", ["daemon", "program"])
@pytest.mark.parametrize("criterion", ["comm", "cmdline"])
def test_other_criteria_fit(daemon: Daemon, processes: Processes, deep: int, first: str, criterion: str) -> None:
    """Beside a rule over an executable, because the path of each program is asked for then."""
    name = f"deep-{os.getpid()}"
    text = 'name = "deep"\nuser = "root"\noom_score_adj = 500\n'
    text += f'comm = "{name}"\n' if criterion == "comm" else f'cmdline = "./{name} 1000"\n'
    config = f"{rule('/nowhere/else')}\n[[rule]]\n{text}"
    if first == "daemon":
        daemon.start(config)
    pid = start_in(deep, processes, name)
    if first == "program":
        daemon.start(config)

    wait_for_value(pid, 500)


def test_one_that_is_moved_there_stays_held(daemon: Daemon, processes: Processes, deep: int, tmp_path: Path) -> None:
    program = tmp_path / "v1" / "target"
    program.parent.mkdir()
    shutil.copy("/bin/sleep", program)
    daemon.start(rule(program, PROTECTED, scan="100ms", more='user = "root"'))
    pid = processes.start(program, "1000", preexec_fn=lambda: set_oom_score_adj(os.getpid(), START))
    wait_for_value(pid, PROTECTED)
    daemon.wait_for_scan()  # if a scan has pinned it, its exec event is yet to be read

    os.rename(program.parent, "v1", dst_dir_fd=deep)
    daemon.wait_for_scan()
    daemon.kill()
    daemon.start()
    daemon.wait_for_scan()

    assert (oom_score_adj(pid), daemon.pins()[pid]["original"]) == (PROTECTED, START)
    (explained,) = answer(daemon, "explain", str(pid))["processes"]
    assert (explained["exe"], explained["exe_verified"]) == (str(program), True)
    assert explained["decision"] == {"rule": "target", "action": "pin", "target": PROTECTED}
