"""A program that fits is pinned, however it is started; 200 of 200 times each."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until
from tests.kernel.test_hostile import cgroup

TIMES = 200


def spawn(processes: Processes, target: Path) -> int:
    return processes.adopt(os.posix_spawn(target, [str(target), "1000"], os.environ))


def fork_and_exec(processes: Processes, target: Path) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(target, [str(target), "1000"])
        finally:
            os._exit(127)
    return processes.adopt(pid)


def by_shell(processes: Processes, target: Path) -> int:
    return processes.start("sh", "-c", f"exec '{target}' 1000")


def by_env(processes: Processes, target: Path) -> int:
    return processes.start("env", target, "1000")


def by_symlink(processes: Processes, target: Path) -> int:
    link = target.with_name("another-name")
    if not link.exists():
        link.symlink_to(target)
    return processes.start(link, "1000")


@pytest.mark.serial  # nothing may be lost
@pytest.mark.parametrize("start", [spawn, fork_and_exec, by_shell, by_env, by_symlink])
def test_pinned_however_it_is_started(
    daemon: Daemon, processes: Processes, target: Path, start: Callable[[Processes, Path], int]
) -> None:
    daemon.start(rule(target, scan="1h"))

    pids = [start(processes, target) for _ in range(TIMES)]

    wait_for_value(pids, 500)
    wait_until(lambda: daemon.pins().keys() == set(pids), "all of them listed")
    assert daemon.status()["counters"]["lost"] == 0


@pytest.mark.serial  # nothing may be lost
@pytest.mark.parametrize("children", ["inherit", "reset"])
@pytest.mark.parametrize("forks", [1, 2, 3])
def test_a_program_that_had_gone_into_the_background_before_it_was_looked_at(
    daemon: Daemon, processes: Processes, compiled: Compiler, tmp_path: Path, forks: int, children: str
) -> None:
    """Its exec event is about a process that is gone, and what is left of it has none. By then its fork may have
    been heard of with the pin of another."""
    program = tmp_path / "background"
    shutil.copy(compiled("background"), program)
    daemon.start(rule(program, scan="1h", more=f'children = "{children}"'))
    os.kill(daemon.pid, signal.SIGSTOP)
    pids = [processes.start(program, "0", stdout=subprocess.DEVNULL)]
    for _ in range(3):
        found = subprocess.run([program, str(forks)], check=True, stdout=subprocess.PIPE)
        pids.append(processes.adopt(int(found.stdout)))

    os.kill(daemon.pid, signal.SIGCONT)

    wait_for_value(pids, 500)
    assert daemon.status()["counters"]["lost"] == 0


@pytest.mark.parametrize("children", ["inherit", "reset"])
def test_a_program_in_the_background_below_one_that_a_rule_leaves_alone(
    daemon: Daemon, processes: Processes, compiled: Compiler, tmp_path: Path, children: str
) -> None:
    """Its parent is known from before its exec event, as a descendant that no rule concerns."""
    program, shell, go = tmp_path / "background", tmp_path / "shell", tmp_path / "go"
    shutil.copy(compiled("background"), program)
    shutil.copy("/bin/dash", shell)
    os.mkfifo(go)
    ignoring = f'[[rule]]\nname = "shell"\nexe = "{shell}"\nignore = true\n'
    daemon.start(rule(program, scan="1h", more=f'children = "{children}"\n{ignoring}'))
    command = f"""sh -c 'echo $$; read line < "{go}"; exec "{program}" 1' & wait; read line < "{go}" """
    processes.start(shell, "-c", command, stdout=subprocess.PIPE)
    output = processes.children[-1].stdout
    assert output is not None
    child = processes.adopt(int(output.readline()))
    wait_for_value(processes.start(program, "0", stdout=subprocess.DEVNULL), 500)  # so all before is dealt with
    os.kill(daemon.pid, signal.SIGSTOP)
    go.write_text("\n")
    processes.pids.remove(child)  # it ends, and its PID may be another's
    orphan = processes.adopt(int(output.readline()))

    os.kill(daemon.pid, signal.SIGCONT)

    wait_for_value(orphan, 500)


def test_script_by_its_name(daemon: Daemon, processes: Processes, tmp_path: Path) -> None:
    script = tmp_path / f"s{os.getpid()}-script"
    script.write_text("#!/bin/sh\nwhile :; do sleep 1000; done\n")
    script.chmod(0o755)
    shell = Path("/proc/self/root/bin/sh").resolve()
    daemon.start(f"""
        [daemon]
        scan_interval = "1h"
        [[rule]]
        name = "script"
        exe = "{shell}"
        comm = "{script.name}"
        oom_score_adj = 500
        children = "reset"
    """)

    pids = [processes.start(script, start_new_session=True) for _ in range(TIMES)]

    wait_for_value(pids, 500)
    for pid in pids:
        processes.pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.mark.parametrize("name", [b"with space", b"line\nfeed", b"latin-\xff\xfe", b"par) S 1 1 (en"])
def test_names_of_any_bytes(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path, name: bytes) -> None:
    odd = os.fsencode(tmp_path) + b"/" + name
    shutil.copy(os.fsencode(target), odd)
    daemon.start(rule(f"{tmp_path}/[wlp]*", scan="1h"))

    pids = [processes.start(odd, "1000") for _ in range(TIMES)]

    wait_for_value(pids, 500)
    wait_until(lambda: daemon.pins().keys() == set(pids), "all of them listed")
    assert all("\n" not in line for line in daemon.log().split("\n"))
    assert b"\xff" not in daemon.log_file.read_bytes()


def test_one_that_runs_already(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "1000")

    daemon.start(rule(target, scan="1h"))

    wait_for_value(pid, 500)
    assert daemon.pins()[pid]["source"] == "scan"
    assert daemon.pins()[pid]["original"] == 0


@pytest.mark.serial  # others would lose events too
def test_lost_events_are_counted_and_made_up_for(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler
) -> None:
    storm = compiled("storm", ["-static"])
    daemon.filtered = False  # with the filter nothing of this comes, and nothing is lost
    daemon.start(rule(target, scan="1h"))

    os.kill(daemon.pid, 19)
    pid = processes.start(target, "1000")
    subprocess.run([storm, "40000"], check=True)
    late = processes.start(target, "1000")
    os.kill(daemon.pid, 18)

    wait_for_value([pid, late], 500)
    wait_until(lambda: daemon.status()["counters"]["lost"] > 0, "the loss is counted")
    assert "lost process events" in daemon.log()


@pytest.mark.serial  # others would lose events too
def test_a_lost_exec_of_one_that_scans_had_ruled_out_is_made_up_for(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler, tmp_path: Path
) -> None:
    storm, gate = compiled("storm", ["-static"]), tmp_path / "gate"
    os.mkfifo(gate)
    opened = os.open(gate, os.O_RDWR)  # so that to open it blocks nobody
    pids = [processes.start("sh", "-c", f"read line < '{gate}'; exec '{target}' 1000") for _ in range(10)]
    daemon.filtered = False
    daemon.start(rule(target, scan="1h"))

    os.kill(daemon.pid, 19)
    subprocess.run([storm, "40000"], check=True)
    os.write(opened, b"\n" * len(pids))
    wait_until(lambda: all(Path(f"/proc/{pid}/exe").readlink() == target for pid in pids), "all of them execute it")
    os.kill(daemon.pid, 18)

    wait_for_value(pids, 500)
    assert daemon.status()["counters"]["lost"] > 0
    os.close(opened)


def test_scans_find_processes_without_an_event(daemon: Daemon, processes: Processes, target: Path) -> None:
    other = target.with_name("other")
    shutil.copy(target, other)
    pid = processes.start(other, "1000")
    daemon.start(rule(target, scan="100ms"))
    assert oom_score_adj(pid) == 0

    other.rename(target)

    wait_for_value(pid, 500)
    assert daemon.pins()[pid]["source"] == "scan"


@pytest.mark.parametrize("mode", ["off", "network namespace"])
def test_scans_alone(daemon: Daemon, processes: Processes, target: Path, mode: str) -> None:
    config = rule(target, scan="200ms")
    if mode == "off":
        daemon.start(config.replace("[daemon]", '[daemon]\nproc_events = "off"'))
    else:
        daemon.start(config, prefix=["unshare", "-n"])

    pids = [start(processes, target) for start in (spawn, by_shell) for _ in range(TIMES // 2)]

    wait_for_value(pids, 500)
    status = daemon.status()
    assert status["proc_events"] == "off"
    assert status["events_reason"]
    assert status["events_reason"] in daemon.log()


def test_program_that_comes_to_fit_without_an_event(daemon: Daemon, processes: Processes, target: Path) -> None:
    """The process was there before, and no rule could fit it then. A second look comes half a second after the program
    began; then only scans find the move to another cgroup."""
    with cgroup(f"oomwatchd-test-{os.getpid()}") as directory:
        daemon.start(rule(target, 500, scan="300ms", more=f'cgroup = "*/{directory.name}"'))
        late = processes.start("sh", "-c", f"read line; exec '{target}' 1000", stdin=subprocess.PIPE)
        daemon.wait_for_scan()
        process = processes.children[-1]
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        wait_until(lambda: Path(f"/proc/{late}/exe").readlink() == target, "executed")
        for _ in range(3):
            daemon.wait_for_scan()
        assert oom_score_adj(late) == 0

        (directory / "cgroup.procs").write_text(str(late))
        daemon.wait_for_scan()

        shown = oom_score_adj(late)
        processes.end()
    assert shown == 500
