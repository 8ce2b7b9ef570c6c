"""Run oomwatchctl as a user without privilege."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

# The first run imports everything: the user may not be allowed to read the Python that root has.
PROGRAM = """
import contextlib, io, os, sys
from oomwatchd.ctl import main
with contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


def needs_reachable_python(command: Sequence[str]) -> None:
    """Skip the test where the user that `command` becomes can't run the Python of these tests and import oomwatchd, as
    out of a checkout below a home directory with mode 0700."""
    tried = subprocess.run(
        [*command, sys.executable, "-c", "import oomwatchd.daemon.main"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        why = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"other users can't get to this checkout or its Python: {why}")


def oomwatchctl(*words: str) -> "subprocess.CompletedProcess[bytes]":
    """Exit status and output of `oomwatchctl WORDS` as nobody."""
    if os.getuid() != 0:
        pytest.skip("can't become another user without root")
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, check=False)
