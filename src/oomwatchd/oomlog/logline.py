"""What a source of log text hands to the parser: one line, and what its container knows of it.

A plain log file yields text alone. A container (JSON, the journal's export format) knows more: a time, a host, who
wrote the line. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log, decoded, without its line feed. None stands for what the container doesn't know.

    text: may still begin with what a logging program puts in front (see `oomlog.prefix`), unless `verbatim`.
    time: a date as text (the parser makes ISO 8601 of it, with an offset where it has one), or seconds since boot (a
    float).
    host: the name of the machine.
    file: where the line was read, as people name it ("kern.log", "logs.tar.gz/var/log/messages").
    program: who wrote the line, a syslog tag or the journal's SYSLOG_IDENTIFIER; "kernel" for the kernel, which the
    journal's _TRANSPORT=kernel means too. Lines of other programs are no evidence of a kill by the kernel.
    facility: the syslog facility, a name as syslog(3) has it ("kern", "user").
    verbatim: `text` is the record as the program wrote it, as in journald's MESSAGE: nothing is taken off in front.
    cut: the log ends within this line, so that its last word may lack a part."""

    text: str
    time: str | float | None = None
    host: str | None = None
    file: str | None = None
    program: str | None = None
    facility: str | None = None
    verbatim: bool = False
    cut: bool = False


class Unwrapper(Protocol):
    """Reads the lines of a container's text, one by one, into the lines of the log that it holds.

    Damaged records are left out; nothing is raised."""

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line of the container's text, without its line feed; return what it completes."""

    def flush(self) -> Sequence[LogLine]:
        """The text ends here."""
