"""Run oomwatchctl as a user without privilege."""

import os
import subprocess
import sys

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


def oomwatchctl(*words: str) -> "subprocess.CompletedProcess[bytes]":
    """Exit status and output of `oomwatchctl WORDS` as nobody."""
    if os.getuid() != 0:
        pytest.skip("can't become another user without root")
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, check=False)
