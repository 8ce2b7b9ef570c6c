"""A file system whose server doesn't answer keeps nobody else from being pinned."""

import os
from pathlib import Path

from tests.kernel.asking import oomwatchctl
from tests.kernel.conftest import Mount
from tests.kernel.running import Daemon, Processes, oom_score_adj, set_oom_score_adj, wait_for_value, wait_until


def start_at_700(processes: Processes, program: Path) -> int:
    """A rule that lowers has something to lower, and looks at the file."""
    return processes.start(program, "1000", preexec_fn=lambda: set_oom_score_adj(os.getpid(), 700))


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

    mount.stop_answering()

    wait_until(lambda: "doesn't answer" in daemon.log(), "told of")
    for _ in range(50):
        wait_for_value(processes.start(target, "1000"), 400)
        assert daemon.status()["pinned"] > 0
    daemon.wait_for_scan()
    latency = daemon.ask("metrics")["latency"]
    print(dict(zip(latency["bounds_us"], latency["counts"], strict=False)))
    told = f"The file system of '{mount.program}' doesn't answer"
    assert daemon.log().count(told) == 1
    assert "'on the mount'" in next(line for line in daemon.log().splitlines() if told in line)
    assert str(mount.program) in oomwatchctl(daemon, "explain", str(held)).stdout

    mount.answer()

    wait_until(lambda: f"The file system of '{mount.program}' answers again" in daemon.log(), "told of")
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
