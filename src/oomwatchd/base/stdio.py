"""Opens standard streams that were closed when the program was started."""

import io
import os
import sys


def open_standard_streams() -> None:
    """Open /dev/null in the place of each closed standard stream. Else Python has None for it, and the kernel gives its
    number to the next file that is opened."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does it: a locale may lack a character of ours
        sys.stdout.reconfigure(errors="backslashreplace")
