"""Opens standard streams that were closed when the program was started."""

import io
import os
import sys


def open_standard_streams() -> None:
    """Open /dev/null in the place of each closed standard stream. Otherwise Python has None for the stream, and the
    kernel gives its number to the next file that is opened."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # open(2) takes the lowest free number, which is `descriptor`
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does: the locale's encoding may lack a character
        sys.stdout.reconfigure(errors="backslashreplace")
