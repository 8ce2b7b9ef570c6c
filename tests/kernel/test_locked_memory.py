"""A process that keeps its memory locked, so that its command line can't be read, keeps nobody else from being
pinned."""

import shutil
from pathlib import Path

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, public_directory, wait_for_value

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def test_innocent_beside_it(daemon: Daemon, processes: Processes, target: Path, compiled: Compiler) -> None:
    with public_directory() as directory:
        locker = directory / "locker"
        shutil.copy(compiled("memory_locker", ("-pthread",)), locker)
        sleep = directory / "sleep"
        shutil.copy("/bin/sleep", sleep)
        daemon.start(
            f"""
[daemon]
scan_interval = "100ms"
[[rule]]
name = "arguments"
exe = ["{locker}", "{sleep}"]
cmdline = ["* 7", "* 1000"]
oom_score_adj = 300
[[rule]]
name = "local"
exe = "{target}"
oom_score_adj = 400
"""
        )
        for _ in range(2):
            processes.start(*NOBODY, locker, "7")
        for _ in range(30):
            wait_for_value(processes.start(target, "1000"), 400)
            assert daemon.status()["pinned"] > 0
        wait_for_value(processes.start(*NOBODY, sleep, "1000"), 300)
        latency = daemon.ask("metrics")["latency"]
        print(dict(zip(latency["bounds_us"], latency["counts"], strict=False)))
        assert daemon.stop() == 0
