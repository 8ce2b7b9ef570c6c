"""Standard streams that whoever started us has closed."""

import io
import os
import sys


def open_standard_streams() -> None:
    """Let each that is closed lead to /dev/null: Python has None for it, and the kernel would give its number to
    the next file that we open."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does it: a locale may lack a character of ours
        sys.stdout.reconfigure(errors="backslashreplace")
