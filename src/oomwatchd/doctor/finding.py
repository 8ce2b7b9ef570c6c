"""A finding, and the words that findings share."""

from collections.abc import Iterable
from dataclasses import dataclass

from oomwatchd.base.text import printable
from oomwatchd.oom.processes import OomProcess
from oomwatchd.oom.small_files import PAGE

CRITICAL, WARNING, NOTICE = "critical", "warning", "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that weakens or defeats the pins."""

    id: str  # doesn't change between versions
    severity: str  # critical: pins have no effect; warning: some are weakened; notice: worth knowing
    message: str  # one sentence why
    advice: str  # one command or setting that mends it


def name(process: OomProcess) -> str:
    """A process as people know it: "name (PID)"."""
    return f"{printable(process.task.comm)} ({process.task.pid})"


def names(processes: Iterable[OomProcess]) -> str:
    """The names of the first three processes, and how many more there are."""
    names = [name(process) for process in processes]
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest} more" if rest > 0 else "")


def mib(pages: int) -> str:
    """Pages as MiB: "12 MiB"."""
    return f"{pages * PAGE / 2**20:.0f} MiB"


def own_memory(process: OomProcess) -> int:
    """Pages that would become free if the process ended. Shared pages and pages of files aren't counted."""
    anon = process.task.rss if process.anon is None else process.anon
    return anon + process.task.swap + process.task.pgtables
