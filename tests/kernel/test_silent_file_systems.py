"""A file system whose server doesn't answer keeps nobody else from being pinned."""

import os
from pathlib import Path

from tests.kernel.asking import oomwatchctl
from tests.kernel.conftest import Mount, mounted
from tests.kernel.running import (
    Daemon,
    Processes,
    oom_score_adj,
    public_directory,
    set_oom_score_adj,
    wait_for_value,
    wait_until,
)

USER, OTHER_USER = 65533, 65532


def start_at_700(processes: Processes, program: Path, *prefix: str) -> int:
    """A rule that lowers has something to lower, and looks at the file."""
    return processes.start(*prefix, program, "1000", preexec_fn=lambda: set_oom_score_adj(os.getpid(), 700))


def config(mount: Mount, target: Path, scan: str = "100ms") -> str:
    return f"""
[daemon]
scan_interval = "{scan}"
[[rule]]
name = "on the mount"
exe = "{mount.program}"
user = "root"
oom_score_adj = {{ at_most = 500 }}
[[rule]]
name = "local"
exe = "{target}"
oom_score_adj = 400
"""


def test_local_program_beside_it(daemon: Daemon, processes: Processes, mount: Mount, target: Path) -> None:
    held = start_at_700(processes, mount.program)
    daemon.start(config(mount, target))
    wait_for_value(held, 500)
    late = start_at_700(processes, mount.program)
    wait_for_value(late, 500)
    told, over = (f"The file system of '{mount.program}' {what}" for what in ("doesn't answer", "answers again"))

    mount.stop_answering()

    # On a busy machine it may have been told of before, too.
    wait_until(lambda: daemon.log().count(told) > daemon.log().count(over), "told of")
    times = daemon.log().count(told)
    for _ in range(50):
        wait_for_value(processes.start(target, "1000"), 400)
        assert daemon.status()["pinned"] > 0
    daemon.wait_for_scan()
    latency = daemon.ask("metrics")["latency"]
    print(dict(zip(latency["bounds_us"], latency["counts"], strict=False)))
    assert daemon.log().count(told) == times
    assert "'on the mount'" in next(line for line in daemon.log().splitlines() if told in line)
    assert str(mount.program) in oomwatchctl(daemon, "explain", str(held)).stdout

    mount.answer()

    wait_until(lambda: daemon.log().count(over) == daemon.log().count(told), "told of")
    wait_for_value([held, late], 500)


def test_stop_beside_it(daemon: Daemon, processes: Processes, mount: Mount, target: Path) -> None:
    start_at_700(processes, mount.program)
    daemon.start(config(mount, target))
    mount.stop_answering()
    wait_until(lambda: "doesn't answer" in daemon.log(), "told of")
    assert daemon.stop() == 0


def test_started_beside_it(daemon: Daemon, processes: Processes, mount: Mount, target: Path) -> None:
    pid = start_at_700(processes, mount.program)
    wait_until(lambda: os.readlink(f"/proc/{pid}/exe") == str(mount.program), "executed")
    mount.stop_answering()
    local = processes.start(target, "1000")

    daemon.start(config(mount, target))

    assert (oom_score_adj(pid), oom_score_adj(local)) == (700, 400)
    mount.answer()
    wait_for_value(pid, 500)


def test_one_users_processes_leave_helpers_to_others(daemon: Daemon, processes: Processes) -> None:
    """A helper that waits for a file system can't be ended, and there are few. Who is pinned beside it needs one, too,
    because the kernel doesn't keep what it has looked up in these file systems."""

    def by(uid: int) -> tuple[str, ...]:
        return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")

    with (
        public_directory() as directory,
        mounted(directory / "silent") as silent,
        mounted(directory / "sound") as sound,
    ):
        held = [start_at_700(processes, silent.program, *by(USER)) for _ in range(12)]
        wait_until(lambda: {os.readlink(f"/proc/{pid}/exe") for pid in held} == {str(silent.program)}, "executed")
        silent.stop_answering()
        daemon.start(
            f"""
[daemon]
scan_interval = "100ms"
[[rule]]
name = "programs"
exe = ["{silent.program}", "{sound.program}"]
user = [{USER}, {OTHER_USER}, 0]
oom_score_adj = {{ at_most = 500 }}
"""
        )
        wait_until(lambda: f"of '{silent.program}' doesn't answer" in daemon.log(), "told of")
        another = start_at_700(processes, sound.program, *by(USER))
        wait_until(lambda: f"of '{sound.program}' doesn't answer" in daemon.log(), "no further helper for this user")

        for uid in (OTHER_USER, 0):
            wait_for_value([start_at_700(processes, sound.program, *by(uid)) for _ in range(3)], 500)
        assert {oom_score_adj(pid) for pid in held} == {700}

        silent.answer()

        # Who has not asked yet asks at once, and an answer counts for all.
        held.append(start_at_700(processes, silent.program, *by(OTHER_USER)))
        wait_for_value([*held, another], 500)
        assert daemon.stop() == 0
