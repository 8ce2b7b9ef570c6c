"""Processes that come to fit a rule, or stop to, while they run; and those that resist."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.asking import answer, oomwatchctl
from tests.kernel.running import (
    Commanded,
    Daemon,
    Processes,
    descendants,
    oom_score_adj,
    rule,
    wait_for_value,
    wait_until,
)
from tests.kernel.test_hostile import UNIFIED, cgroup


@pytest.mark.parametrize(
    ("criterion", "there", "back"),
    [
        ('user = "nobody"', "u 65534", "u 0"),
        ('group = "nogroup"', "g 65534", "g 0"),
        ('comm = "transformed"', "n transformed", "n chameleon"),
        ('not = { user = "root" }', "u 65534", "u 0"),
    ],
)
def test_events_tell_of_a_change(daemon: Daemon, chameleon: Commanded, criterion: str, there: str, back: str) -> None:
    daemon.start(rule(chameleon.program, 500, scan="1h", more=criterion))
    pid = chameleon.start()
    assert oom_score_adj(pid) == 0

    chameleon.change(there)
    wait_for_value(pid, 500)
    chameleon.change(back)

    wait_for_value(pid, 0)


def test_effective_id_alone_says_nothing(daemon: Daemon, chameleon: Commanded) -> None:
    """sshd's monitor takes the user's effective ID at each login, and any user can start a setuid program."""
    daemon.start(rule(chameleon.program, 500, scan="100ms", more='user = "root"'))
    pid = chameleon.start()
    wait_for_value(pid, 500)

    for line in ("e 65534", "e 0") * 3:
        chameleon.change(line)
    chameleon.change("e 65534")
    daemon.wait_for_scan()
    assert oom_score_adj(pid) == 500
    chameleon.change("e 0")
    chameleon.change("u 65534")  # and effective root

    wait_for_value(pid, 0)
    counters = daemon.status()["counters"]
    assert (counters["pins"], counters["releases"]) == (1, 1)


def test_scan_finds_a_new_session(daemon: Daemon, chameleon: Commanded) -> None:
    daemon.start(rule(chameleon.program, 500, scan="200ms", more="session_leader = true"))
    pid = chameleon.start()
    daemon.wait_for_scan()
    assert oom_score_adj(pid) == 0

    chameleon.change("s")

    wait_for_value(pid, 500)


@pytest.mark.parametrize("scan", ["200ms", "1h"])
def test_move_into_another_cgroup(daemon: Daemon, chameleon: Commanded, scan: str) -> None:
    """As desktops move programs into scopes just after their start, when no scan may be near. The second look comes
    later here, so that it comes after the move on a busy machine, too."""
    daemon.constants["oomwatchd.daemon.second_looks._SECONDS"] = 3.0
    unit = f"oomwatchd-test-{os.getpid()}.scope"
    daemon.start(rule(chameleon.program, 500, scan=scan, more=f'unit = "{unit}"'))
    with cgroup(unit) as directory:
        pid = chameleon.start()
        (directory / "cgroup.procs").write_text(str(pid))
        try:
            wait_for_value(pid, 500)
            if scan != "1h":
                (UNIFIED / "cgroup.procs").write_text(str(pid))
                wait_for_value(pid, 0)
        finally:
            chameleon.end()


LOWERS = 'user = "root"'
"""Who names a user may lower, so that every other PID namespace counts as a container."""


@pytest.mark.parametrize(("more", "value"), [("", 500), (LOWERS, 0), (f"containers = true\n{LOWERS}", 500)])
def test_other_pid_namespace(daemon: Daemon, processes: Processes, target: Path, more: str, value: int) -> None:
    daemon.start(rule(target, 500, scan="200ms", more=more))
    outer = processes.start("unshare", "-p", "-f", "--mount-proc", "--kill-child", target, "1000")

    def inner() -> int:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"PPid:\t{outer}\n" in (entry / "status").read_text(errors="replace"):
                    return int(entry.name) if os.readlink(entry / "exe") == str(target) else 0
        return 0

    pid = wait_until(inner, "the program runs in its namespace")
    daemon.wait_for_scan()

    assert oom_score_adj(pid) == value


def test_fight_ends_with_one_warning(daemon: Daemon, chameleon: Commanded) -> None:
    daemon.start(rule(chameleon.program, 500, scan="100ms", name="fought for"))
    pid = chameleon.start()
    wait_for_value(pid, 500)

    chameleon.tell("w 600")
    wait_until(lambda: "Someone keeps changing" in daemon.log(), "the warning")
    for _ in range(5):
        daemon.wait_for_scan()

    assert daemon.log().count(f"Someone keeps changing oom_score_adj of process {pid} (chameleon)") == 1
    assert "which rule 'fought for' pins to 500" in daemon.log()
    assert daemon.log().count("someone had changed") == daemon.status()["counters"]["drifts"] == 3
    assert oom_score_adj(pid) == 600


def test_flood_is_summed_up(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, 500))
    pids = [processes.start(target, "1000") for _ in range(50)]
    wait_for_value(pids, 500)

    daemon.stop()

    assert daemon.log().count("Pinned process") == 20
    assert "Rule 'target': 30 processes pinned" in daemon.log()


@pytest.mark.parametrize(("more", "first", "pinned"), [("", 0, 700), ('user = "root"', 700, 100)])
def test_release_keeps_what_the_process_has_set_itself(
    daemon: Daemon, chameleon: Commanded, more: str, first: int, pinned: int
) -> None:
    """Also if it hasn't executed anything since, and whether the pin raised or lowered."""
    daemon.start(rule(chameleon.program, pinned, scan="1h", more=f'{more}\ncomm = "chameleon"'))
    pid = chameleon.start("sh", "-c", f'echo {first} > /proc/$$/oom_score_adj; exec "$0"')
    wait_for_value(pid, pinned)

    chameleon.change("v 200")
    chameleon.change("n renamed")

    wait_until(lambda: pid not in daemon.pins(), "it is released")
    assert oom_score_adj(pid) == 200
    daemon.stop()
    assert oom_score_adj(pid) == 200


def test_end_of_a_long_command_line(daemon: Daemon, processes: Processes, tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shutil.copy("/bin/bash", shell)
    daemon.start(rule(shell, 500, scan="200ms", more='cmdline = "* oomwatchd-at-the-end"'))
    words = ["-c", "read", *(["0" * 100_000] * 4)]

    fitting = processes.start(shell, *words, "oomwatchd-at-the-end", stdin=subprocess.PIPE)
    other = processes.start(shell, *words, stdin=subprocess.PIPE)

    wait_for_value(fitting, 500)
    daemon.wait_for_scan()
    assert oom_score_adj(other) == 0
    (explained,) = answer(daemon, "explain", str(other), status=1)["processes"]
    assert explained["cmdline_cut"] is True
    assert "only its first and last 64 KiB are compared" in oomwatchctl(daemon, "explain", str(other)).stdout


@pytest.mark.parametrize("prefix", [(), ("unshare", "-fp", "--mount-proc")], ids=["here", "in a PID namespace"])
def test_process_with_so_many_groups_that_its_status_is_long(
    daemon: Daemon, chameleon: Commanded, prefix: tuple[str, ...]
) -> None:
    """The kernel lists them before the PID namespaces. sssd and winbind give a user thousands, setgroups(2) up to
    65,536."""
    groups = ",".join(map(str, range(100_000, 112_000)))
    daemon.start(rule(chameleon.program, "{ at_least = 500 }", more='user = "root"'))

    pid = chameleon.start("setpriv", "--groups", groups, *prefix)
    if prefix:
        (pid,) = descendants(pid)
    wait_for_value(pid, 500)
    assert len(Path(f"/proc/{pid}/status").read_bytes()) > 1 << 16
    chameleon.change("u 65534")

    wait_for_value(pid, 0)
