"""oomwatchctl as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.kernel.running import Daemon

PROGRAM = str(Path(sys.executable).with_name("oomwatchctl"))


def oomwatchctl(daemon: Daemon, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Exit status and output."""
    return subprocess.run(
        [PROGRAM, *words],
        env={**daemon.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def answer(daemon: Daemon, *words: str, status: int = 0) -> Any:
    """What it says with --json."""
    done = oomwatchctl(daemon, *words, "--json")
    assert (done.returncode, done.stderr) == (status, "")
    return json.loads(done.stdout)


def as_nobody(daemon: Daemon, *words: str) -> "subprocess.CompletedProcess[str]":
    """The same, as a user without privilege; the interpreter may lie where such a user can't go, so it is loaded
    before."""
    from tests.unprivileged import PROGRAM as BECOME_NOBODY

    return subprocess.run(
        [sys.executable, "-c", BECOME_NOBODY, *words],
        env={**os.environ, **daemon.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
