"""What OOM killers in user space log: systemd-oomd, earlyoom, nohang, oomd. Pure.

One module for each killer, with its sources and their versions. The name of a process may hold any text. So it is found
by the words that the killer writes before and behind it."""

from collections.abc import Callable

from oomwatchd.oomlog.killers import earlyoom, nohang, oomd, systemd_oomd
from oomwatchd.oomlog.killers.kills import Kills, Said

__all__ = ["PROGRAMS", "Kills", "Said", "read_line"]

PROGRAMS = ("systemd-oomd", "earlyoom", "nohang", "nohang-desktop", "oomd")
"""The names of the killers, as their lines are tagged."""
_READERS: dict[str, Callable[[Kills, Said], None]] = {
    "systemd-oomd": systemd_oomd.read,
    "earlyoom": earlyoom.read,
    "nohang": nohang.read,
    "nohang-desktop": nohang.read,
    "oomd": oomd.read,
    "kernel": oomd.read,
}


def read_line(kills: Kills, said: Said) -> None:
    """Add to `kills` what a line says. It is a line of one of PROGRAMS, or of the kernel, through which oomd speaks
    too; any other is passed over."""
    reader = _READERS.get(said.program)
    if reader is not None:
        reader(kills, said)
