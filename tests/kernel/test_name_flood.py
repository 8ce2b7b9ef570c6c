"""A process that changes its name without end keeps nobody else from being pinned. At the end it has what its last name
gives it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, wait_for_value, wait_until


@pytest.mark.serial  # the kernel may lose events, also for other daemons
@pytest.mark.parametrize("fits", [True, False], ids=["fits", "no longer fits"])
def test_innocent_beside_it(
    daemon: Daemon, processes: Processes, target: Path, compiled: Compiler, tmp_path: Path, fits: bool
) -> None:
    program, name = tmp_path / "renamer", f"n{tmp_path.stat().st_ino}"[:15]
    shutil.copy(compiled("renamer"), program)
    daemon.start(
        f"""
[daemon]
scan_interval = "1h"
[[rule]]
name = "renamed"
comm = "{name}"
oom_score_adj = 500
[[rule]]
name = "local"
exe = "{target}"
oom_score_adj = 400
"""
    )
    pid = processes.start(program, name, name if fits else "done", stdin=subprocess.PIPE)
    flood = processes.children[-1].stdin
    assert flood is not None
    wait_until(lambda: f"Pinned process {pid} " in daemon.log(), "its events are heard")

    for _ in range(20):
        wait_for_value(processes.start(target, "1000"), 400)
        assert daemon.status()["pid"] == daemon.pid
    assert processes.children[0].poll() is None
    flood.close()

    wait_for_value(pid, 500 if fits else 0)
    wait_until(lambda: (pid in daemon.pins()) == fits, "listed as it is")
