"""What is pinned stays pinned, and gets back what it had; whatever happens to configuration, daemon and program."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import (
    Daemon,
    Processes,
    oom_score_adj,
    rule,
    set_oom_score_adj,
    wait_for_value,
    wait_until,
)


def test_drift_is_written_back(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, scan="200ms"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)

    set_oom_score_adj(pid, 20)

    wait_for_value(pid, 500)
    wait_until(lambda: daemon.status()["counters"]["drifts"] == 1, "the drift is counted")
    assert "someone had changed what rule 'target' pins to 20" in daemon.log()


def test_edits_are_applied_on_save(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, scan="1h"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)

    daemon.write(rule(target, 700, scan="1h"))
    wait_for_value(pid, 700)
    daemon.write(rule(target, 700, scan="1h", more="enabled = false"))
    wait_for_value(pid, 0)
    daemon.write(rule(target, 300, scan="1h"))
    wait_for_value(pid, 300)
    assert daemon.pins()[pid]["original"] == 0


def test_process_events_are_turned_off_and_on(daemon: Daemon, processes: Processes, target: Path) -> None:
    config = rule(target, scan="1h")
    daemon.start(config)
    if daemon.status()["proc_events"] != "on":
        pytest.skip("no process events in this place")

    daemon.write(config.replace("[daemon]", '[daemon]\nproc_events = "off"'))
    wait_until(lambda: daemon.status()["proc_events"] == "off", "process events are off")
    daemon.write(config)
    wait_until(lambda: daemon.status()["proc_events"] == "on", "process events are on again")
    daemon.reload()

    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)
    assert daemon.pins()[pid]["source"] == "exec"


def test_editing_in_place_is_applied_too(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, scan="1h"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)

    daemon.config.write_text(rule(target, 600, scan="1h"))

    wait_for_value(pid, 600)


def test_drop_ins_appear_and_vanish(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    with daemon.log_file.open("ab") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "oomwatchd", "--root", str(root)], env=daemon.environment, stderr=log
        )
    wait_until(daemon._ready, "ready without any configuration")
    pid = processes.start(target, "1000")

    (root / "etc/oomwatchd.d").mkdir()
    drop_in = root / "etc/oomwatchd.d/50-target.toml"
    drop_in.write_text(rule(target, 400, scan="1h"))
    wait_for_value(pid, 400)
    mask = root / "usr/lib/oomwatchd.d"
    drop_in.unlink()
    wait_for_value(pid, 0)
    assert not mask.exists()


def test_broken_file_changes_nothing(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, scan="1h"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)

    daemon.write(rule(target, '"many"', scan="1h"))

    wait_until(lambda: daemon.status()["config"]["error"], "the error is told")
    assert f"{daemon.config}:8:17: oom_score_adj must be a whole number" in daemon.log()
    reply = daemon.reload()
    assert not reply["ok"]
    assert [(error["line"], error["column"]) for error in reply["errors"]] == [(8, 17)]
    assert oom_score_adj(pid) == 500

    daemon.write(rule(target, 600, scan="1h"))
    wait_for_value(pid, 600)
    assert daemon.status()["config"]["error"] is None


def test_hangup_reloads(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, scan="1h"))
    before = daemon.status()["config"]["loaded_at"]

    os.kill(daemon.pid, 1)

    wait_until(lambda: daemon.status()["config"]["loaded_at"] > before, "reloaded")


def test_program_that_executes_another_is_released(daemon: Daemon, processes: Processes, target: Path) -> None:
    shell = target.with_name("shell")
    shutil.copy(Path("/bin/sh").resolve(), shell)
    daemon.start(rule(shell, scan="1h"))
    read, write = os.pipe()
    pid = processes.start(shell, "-c", f"read line; exec {target} 1000", stdin=read)
    wait_for_value(pid, 500)

    os.write(write, b"\n")

    wait_for_value(pid, 0)
    wait_until(lambda: pid not in daemon.pins(), "forgotten")


def test_crash_forgets_nothing(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "1000")
    set_oom_score_adj(pid, 111)
    daemon.start(rule(target, scan="1h"))
    wait_for_value(pid, 500)

    daemon.kill()
    daemon.start('[daemon]\nscan_interval = "1h"')

    wait_for_value(pid, 111)


def test_restart_keeps_the_first_value(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "1000")
    set_oom_score_adj(pid, 111)
    daemon.start(rule(target, scan="1h"))
    wait_for_value(pid, 500)

    assert daemon.stop() == 0
    assert oom_score_adj(pid) == 500
    daemon.start()

    wait_until(lambda: daemon.pins()[pid]["original"] == 111, "remembered")


def test_a_crash_does_not_lose_the_last_kill(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    named = tmp_path / f"n{os.getpid()}"
    shutil.copy(target, named)
    rules = f'[daemon]\nscan_interval = "1h"\n[[rule]]\nname = "r"\ncomm = "{named.name}"\noom_score_adj = 500'
    daemon.start(rules)
    pid = processes.start(named, "1000")
    wait_until(lambda: pid in daemon.pins(), "pinned")
    before = daemon.pins()[pid]

    daemon.kill()
    daemon.start()

    assert daemon.pins()[pid] == before
    assert before["exe"] == str(named)


def test_another_program_that_the_same_rule_fits(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    shell = tmp_path / "shell"
    shutil.copy("/bin/sh", shell)
    daemon.start(rule(target).replace(f'"{target}"', f'["{target}", "{shell}"]'))
    read, write = os.pipe()
    pid = processes.start(shell, "-c", f"read line; exec {target} 1000", stdin=read)
    os.close(read)
    wait_until(lambda: daemon.pins().get(pid, {}).get("exe") == str(shell), "the first one pinned")

    os.close(write)

    wait_until(lambda: daemon.pins()[pid]["exe"] == str(target), "it is told of as the other one")
    assert daemon.pins()[pid]["comm"] == target.name
    assert oom_score_adj(pid) == 500


def begin_at_100() -> None:
    set_oom_score_adj(os.getpid(), 100)


def test_program_that_a_second_thread_executes(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler, tmp_path: Path
) -> None:
    """The kernel reports the end of the first thread, whose place the other one takes."""
    first = tmp_path / "threadexec"
    shutil.copy(compiled("threadexec", ("-pthread",)), first)
    daemon.start(rule(first).replace(f'"{first}"', f'["{target}", "{first}"]'))
    pid = processes.start(first, target, stdin=subprocess.PIPE, preexec_fn=begin_at_100)
    stdin = processes.children[-1].stdin
    assert stdin is not None
    wait_until(lambda: daemon.pins().get(pid, {}).get("original") == 100, "pinned, and the original known")

    os.kill(daemon.pid, signal.SIGSTOP)  # so that the events are read when all of that is over
    stdin.close()
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "target\n", "it has executed the other program")
    os.kill(daemon.pid, signal.SIGCONT)

    wait_until(lambda: daemon.pins()[pid]["exe"] == str(target), "it is told of as the other one")
    assert daemon.pins()[pid]["original"] == 100


def test_restore_on_exit(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target).replace("[daemon]", '[daemon]\non_exit = "restore"'))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)

    assert daemon.stop() == 0

    assert oom_score_adj(pid) == 0


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"{}\n", b'{"oomwatchd_ledger": 1', b"\xff\x00" * 1000])
def test_damaged_ledger(daemon: Daemon, processes: Processes, target: Path, content: bytes) -> None:
    daemon.runtime.mkdir()
    (daemon.runtime / "ledger.json").write_bytes(content)

    daemon.start(rule(target))

    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)
    assert "is damaged" in daemon.log()


def test_truncated_ledger_keeps_what_can_be_read(daemon: Daemon, processes: Processes, target: Path) -> None:
    first, second = processes.start(target, "1000"), processes.start(target, "1000")
    for pid in (first, second):
        set_oom_score_adj(pid, 111)
    daemon.start(rule(target))
    wait_for_value([first, second], 500)
    daemon.kill()
    ledger = daemon.runtime / "ledger.json"
    ledger.write_bytes(ledger.read_bytes()[:-10])

    daemon.start('[daemon]\nscan_interval = "1h"')

    wait_until(lambda: sorted([oom_score_adj(first), oom_score_adj(second)]) == [111, 500], "one restored")
    assert "can't be read" in daemon.log()


def test_upgrade_under_a_running_program(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, scan="200ms"))
    pid = processes.start(target, "1000")
    wait_for_value(pid, 500)

    fresh = target.with_name("target.new")
    shutil.copy("/bin/true", fresh)
    fresh.rename(target)
    daemon.wait_for_scan()
    assert pid in daemon.pins()
    target.unlink()
    daemon.wait_for_scan()
    assert pid in daemon.pins()
    daemon.stop()
    daemon.start()
    daemon.wait_for_scan()

    assert oom_score_adj(pid) == 500
    assert pid in daemon.pins()


def test_renamed_between_the_scan_and_the_exec_event(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler, tmp_path: Path
) -> None:
    """The event tells of the program that the scan has pinned already, by a path that isn't there any more."""
    stopper, program = compiled("write_stopper", ("-shared", "-fPIC")), tmp_path / "program"
    shutil.copy("/bin/sleep", program)
    first, second = 1, 0
    while first > second:  # the scan goes from low PIDs to high ones
        first = processes.start(target, "1000")
        second = processes.start(
            *("sh", "-c", f"read line; exec '{program}' 1000"),
            stdin=subprocess.PIPE,
            preexec_fn=lambda: set_oom_score_adj(os.getpid(), 700),
        )
    go = processes.children[-1].stdin
    assert go is not None
    guarded = f'[[rule]]\nname = "guarded"\nexe = "{program}"\nuser = "root"\noom_score_adj = {{ at_most = 300 }}\n'
    daemon.spawn(rule(target, 500, scan="1h") + guarded, prefix=["env", f"LD_PRELOAD={stopper}"])
    wait_until_stopped(daemon, "the first is pinned")
    assert oom_score_adj(first) == 500
    go.write(b"\n")
    go.close()
    wait_until(lambda: os.readlink(f"/proc/{second}/exe") == str(program), "the second executes the program")
    os.kill(daemon.pid, signal.SIGCONT)
    wait_until_stopped(daemon, "the second is pinned")
    assert oom_score_adj(second) == 300

    program.rename(tmp_path / "another")
    os.kill(daemon.pid, signal.SIGCONT)

    wait_for_value(processes.start(target, "1000"), 500)  # its event comes after that of the second
    assert oom_score_adj(second) == 300
    assert second in daemon.pins()


def wait_until_stopped(daemon: Daemon, when: str) -> None:
    """Wait until write_stopper.c has stopped the daemon."""
    status = Path(f"/proc/{daemon.pid}/status")
    wait_until(lambda: "State:\tT" in status.read_text(), f"stopped when {when}; its log: {daemon.log()}")


def test_impostor_in_a_mount_namespace(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    """Anyone can bind-mount a program of theirs over another in a namespace of their own."""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    hog = tmp_path / "hog"
    shutil.copy("/bin/sleep", hog)
    daemon.start(rule(target, scan="200ms", more="user = [0, 65534]"))  # so that it could lower
    command = f"mount --bind {hog} {target} && exec {target} 1000"
    unshare = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Ur", "-m"]

    pid = processes.start(*unshare, "sh", "-c", command)
    wait_until(lambda: os.readlink(f"/proc/{pid}/exe") == str(target), "the impostor shows the path")
    genuine = processes.start(target, "1000")
    wait_for_value(genuine, 500)
    daemon.wait_for_scan()

    assert oom_score_adj(pid) == 0
    assert pid not in daemon.pins()


def test_never_a_write_to_a_recycled_pid(tmp_path: Path) -> None:
    """In a PID namespace of its own a process is opened, dies, and its PID is given to another one."""
    script = tmp_path / "recycle.py"
    script.write_text("""
import os, signal
from oomwatchd.kernel.procfs import ProcessDir, Vanished

def sleeper():
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid

first = sleeper()
with ProcessDir(first) as directory:
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(first - 1))
    second = sleeper()
    assert second == first, (first, second)
    for act in (directory.read_stat, directory.read_oom_score_adj, lambda: directory.write_oom_score_adj(500)):
        try:
            act()
        except Vanished:
            continue
        raise AssertionError(act)
    with open(f"/proc/{second}/oom_score_adj") as file:
        assert file.read() == "0\\n"
os.kill(second, signal.SIGKILL)
""")
    subprocess.run(["unshare", "-p", "-f", "--mount-proc", sys.executable, script], check=True)
