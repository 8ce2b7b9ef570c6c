"""Descendants that do what they can to be nobody's: by CLONE_PARENT, by double fork and setsid while events are lost or
the daemon has no turn."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, set_oom_score_adj, wait_for_value, wait_until

FIRST, PINNED = 800, 300


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    path = tmp_path / "shell"
    shutil.copy("/bin/dash", path)
    return path


def reset_below(program: Path, scan: str = "1h") -> str:
    """A rule that lowers, for the program alone and no fork of it."""
    return rule(program, PINNED, scan=scan, more='user = "root"\nsession_leader = true\nchildren = "reset"')


def test_a_sibling_made_by_clone_parent_is_a_descendant(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler, tmp_path: Path
) -> None:
    program = tmp_path / "sibling"
    shutil.copy(compiled("sibling"), program)
    daemon.start(reset_below(program))

    processes.start(program, str(FIRST), target, "1000", preexec_fn=lead_a_session, stdout=subprocess.PIPE)

    output = processes.children[-1].stdout
    assert output is not None
    maker, sibling = map(int, output.readline().split())
    processes.adopt(sibling)
    wait_for_value(maker, PINNED)
    wait_for_value(sibling, FIRST)
    processes.start(target, "1000")  # another child of ours isn't concerned
    assert oom_score_adj(processes.children[-1].pid) == 0


def test_a_sibling_that_sets_itself_the_pinned_value_is_its_parents(
    daemon: Daemon, processes: Processes, target: Path
) -> None:
    """Before the daemon reads of its fork. It has executed nothing, so that the value is known to be its parent's."""
    daemon.start(rule(target, 500, scan="1h", more='children = "reset"'))
    wait_for_value(processes.start(target, "1000"), 500)
    os.kill(daemon.pid, signal.SIGSTOP)
    sibling = os.fork()
    if sibling == 0:
        Path("/proc/self/oom_score_adj").write_text("500")
        signal.pause()
        os._exit(0)
    processes.adopt(sibling)
    wait_for_value(sibling, 500)

    os.kill(daemon.pid, signal.SIGCONT)

    daemon.reload()  # and with it a scan
    assert oom_score_adj(sibling) == 500, daemon.log()


def lead_a_session() -> None:
    """And have the value that held processes have at first."""
    os.setsid()
    Path("/proc/self/oom_score_adj").write_text(str(FIRST))


def start_daemonizing(shell: Path, processes: Processes, target: Path, gate: Path) -> IO[bytes]:
    """A held process that makes a daemon as soon as something is written to `gate`: a grandchild, orphaned, in a
    session of its own. Returns where its PID comes."""
    command = f"read line < '{gate}'; (setsid sh -c '\"{target}\" 1000 & echo $!' &); sleep 1000"
    return start_pinned(shell, processes, command)


def start_pinned(shell: Path, processes: Processes, command: str) -> IO[bytes]:
    """A pinned process that leads a session and does what `command` says. Returns where its output comes."""
    pid = processes.start(
        "sh",
        "-c",
        f"echo {FIRST} > /proc/self/oom_score_adj; exec setsid '{shell}' -c \"$0\"",
        command,
        stdout=subprocess.PIPE,
    )
    wait_for_value(pid, PINNED)
    output = processes.children[-1].stdout
    assert output is not None
    return output


@pytest.mark.serial  # others would lose events too, and it counts what was lost
@pytest.mark.parametrize("programs", [1000, 40_000])
def test_daemonized_grandchildren_are_not_missed_however_much_else_starts(
    daemon: Daemon, processes: Processes, shell: Path, target: Path, compiled: Compiler, tmp_path: Path, programs: int
) -> None:
    """Without the filter events are lost on the way, and what remains gives them away."""
    storm, gate = compiled("storm", ["-static"]), tmp_path / "gate"
    os.mkfifo(gate)
    daemon.start(reset_below(shell))
    output = start_daemonizing(shell, processes, target, gate)
    bystander = processes.start(target, "1000")
    wait_for_value(processes.start(shell, "-c", "sleep 1000", preexec_fn=lead_a_session), PINNED)
    set_oom_score_adj(bystander, PINNED)  # after its fork has been heard of
    os.kill(daemon.pid, signal.SIGSTOP)
    subprocess.run([storm, str(programs // 2)], check=True)
    gate.write_text("\n")
    grandchild = processes.adopt(int(output.readline()))
    subprocess.run([storm, str(programs // 2)], check=True)

    os.kill(daemon.pid, signal.SIGCONT)

    wait_for_value(grandchild, FIRST)
    lost = daemon.status()["counters"]["lost"]
    assert lost == 0 if daemon.filtered else lost >= (programs > 1000)
    # Who was there before has its value from elsewhere.
    assert oom_score_adj(bystander) == PINNED, daemon.log()


def test_a_settled_descendant_keeps_what_it_is_given_later(
    daemon: Daemon, processes: Processes, shell: Path, target: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    daemon.start(reset_below(shell, "100ms"))
    output = start_daemonizing(shell, processes, target, gate)
    gate.write_text("\n")
    grandchild = processes.adopt(int(output.readline()))
    wait_for_value(grandchild, FIRST)
    daemon.wait_for_scan()  # until it has been looked at, too

    set_oom_score_adj(grandchild, PINNED)
    daemon.wait_for_scan()

    assert oom_score_adj(grandchild) == PINNED


@pytest.mark.serial  # it waits for a moment without events
def test_a_release_finds_descendants_that_had_the_right_value_from_the_start(
    daemon: Daemon, processes: Processes, shell: Path, target: Path, tmp_path: Path
) -> None:
    """And that the daemon has never heard of, since nothing about them mattered."""
    daemon.start(rule(shell, 500, scan="100ms", more='session_leader = true\nchildren = "inherit"'))
    command = f"sh -c 'while read line; do (setsid sh -c \"{target} 1000 & echo \\$!\" &); done'"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    processes.start(shell, "-c", f"exec 3<&0; {command} <&3 & wait", **pipes)
    child = processes.children[-1]
    assert child.stdin is not None and child.stdout is not None
    line_in, line_out = child.stdin, child.stdout
    wait_for_value(child.pid, 500)
    grandchildren = list[int]()

    def forked_unheard() -> bool:
        before = daemon.status()["counters"]["events"]
        line_in.write(b"\n")
        line_in.flush()
        grandchildren.append(processes.adopt(int(line_out.readline())))
        return not daemon.filtered or bool(daemon.status()["counters"]["events"] == before)

    wait_until(forked_unheard, "a grandchild was forked, and no event came")
    wait_for_value(grandchildren, 500)

    daemon.write("")
    daemon.write("[daemon]\n")
    assert daemon.reload()["ok"]

    wait_for_value(grandchildren, 0)
    line_in.close()


@pytest.mark.serial  # others would lose events too
def test_who_only_shows_a_pinned_value_after_a_loss_keeps_it(
    daemon: Daemon, processes: Processes, shell: Path, target: Path, compiled: Compiler, tmp_path: Path
) -> None:
    """They are forked while events are lost, some in a session of their own, by a parent that lives and isn't held."""
    storm, gate = compiled("storm", ["-static"]), tmp_path / "gate"
    os.mkfifo(gate)
    daemon.start(reset_below(shell))
    output = start_daemonizing(shell, processes, target, gate)
    os.kill(daemon.pid, signal.SIGSTOP)
    subprocess.run([storm, "5000"], check=True)
    while not daemon.filtered and not daemon.dropped():  # else each fork event is read, and the maker is a guess
        subprocess.run([storm, "5000"], check=True)
    bystanders = [processes.start(target, "1000", start_new_session=leads) for leads in (False, True)]
    for bystander in bystanders:
        set_oom_score_adj(bystander, PINNED)
    gate.write_text("\n")
    grandchild = processes.adopt(int(output.readline()))

    os.kill(daemon.pid, signal.SIGCONT)

    wait_for_value(grandchild, FIRST)
    daemon.reload()  # and with it a scan, of all
    assert [oom_score_adj(bystander) for bystander in bystanders] == [PINNED, PINNED], daemon.log()


@pytest.mark.serial  # others would lose events too
def test_an_orphan_is_found_though_its_maker_has_died_since_the_loss(
    daemon: Daemon, processes: Processes, shell: Path, target: Path, compiled: Compiler, tmp_path: Path
) -> None:
    storm, gate = compiled("storm", ["-static"]), tmp_path / "gate"
    os.mkfifo(gate)
    daemon.start(reset_below(shell))
    output = start_pinned(shell, processes, f"read line < '{gate}'; '{target}' 1000 & echo $!")
    os.kill(daemon.pid, signal.SIGSTOP)
    subprocess.run([storm, "5000"], check=True)
    while not daemon.filtered and not daemon.dropped():
        subprocess.run([storm, "5000"], check=True)
    gate.write_text("\n")
    orphan = processes.adopt(int(output.readline()))
    processes.children[-1].wait()
    wait_until(lambda: os.path.samefile(f"/proc/{orphan}/exe", target), "it runs another program")
    assert oom_score_adj(orphan) == PINNED

    os.kill(daemon.pid, signal.SIGCONT)

    wait_for_value(orphan, FIRST)


MAKES_A_DAEMON = """
import os, signal, sys
sys.stdin.readline()
if os.fork() == 0:
    os.setsid()
    pid = os.fork()
    print(pid, flush=True) if pid else signal.pause()
    os._exit(0)
os.wait()
signal.pause()
"""
"""At a line, forks an orphan in a session of its own, which executes nothing."""


def test_who_was_settled_from_its_fork_on_is_released_after_a_crash(
    daemon: Daemon, processes: Processes, shell: Path
) -> None:
    """It is forked so long after its parent has settled that nobody looks at it, and it executes nothing. When those
    above it are gone, in another session, only the ledger's file shows where its value comes from."""
    daemon.constants["oomwatchd.pinning.tracking.FORK_NS"] = 0
    pipe = subprocess.PIPE
    daemon.start(rule(shell, 500, scan="100ms", more='session_leader = true\nchildren = "inherit"'))
    command = f"exec 3<&0; '{sys.executable}' -c '{MAKES_A_DAEMON}' <&3 & echo $!; wait"
    leader = processes.start(shell, "-c", command, stdin=pipe, stdout=pipe, start_new_session=True)
    child = processes.children[-1]
    assert child.stdin is not None and child.stdout is not None
    parent = int(child.stdout.readline())
    wait_until(lambda: is_settled(daemon, parent), "the parent has settled, and is saved")
    child.stdin.write(b"\n")
    child.stdin.flush()
    orphan = processes.adopt(int(child.stdout.readline()))
    wait_for_value(orphan, 500)
    daemon.wait_for_scan()

    daemon.kill()
    for pid in (parent, leader):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in (parent, leader)), "both have ended")
    daemon.start('[daemon]\nscan_interval = "1h"\n')

    wait_for_value(orphan, 0)


def is_settled(daemon: Daemon, pid: int) -> bool:
    """Whether the ledger's file says so."""
    lines = (daemon.runtime / "ledger.json").read_text().splitlines()
    return any(f'"pid":{pid},' in line and '"settled_ns":' in line for line in lines)
