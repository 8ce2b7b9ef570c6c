"""The lines of one stream, what one kernel wrote to one log, read into reports. Pure."""

import re
from collections.abc import Sequence

from oomwatchd.oomlog import line_outcome, lines, read_memory, read_outcome, read_request, read_tasks
from oomwatchd.oomlog.assembly import Assembly, Reader
from oomwatchd.oomlog.line_parts import settled
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.report import LineOrigin

# A broken line is put together again up to this length.
_JOINED_MAX = 4096
_NAME_MAX = 64
_COPIES = 3

_READERS: tuple[Reader, ...] = (
    read_tasks.table,
    read_request.invoked,
    read_outcome.reaped,
    read_outcome.summary,
    read_outcome.choice,
    read_outcome.kill_line,
    read_request.cpu,
    read_memory.limit,
    read_outcome.group,
    read_memory.usage,
    read_memory.stats,
    read_memory.counters,
    read_memory.swap,
    read_memory.machine_pages,
    read_memory.stat,
    read_request.mems_allowed,
    read_request.trace,
    read_outcome.nobody,
    read_outcome.panic,
    read_request.sysrq,
    read_outcome.gap,
)

# What begins with a name, or follows what another CPU wrote. All else begins the kernel's record: behind its own
# prefix "x: Out of memory: Killed process 1" is a record of another program, through /dev/kmsg.
_INSIDE: tuple[Reader, ...] = (
    read_request.invoked,
    read_outcome.summary,
    read_request.mems_allowed,
    read_request.trace,
)
_OF_USERS = re.compile(r"[\w./-]{1,64}\[\d{1,10}\]: ")

# What /dev/kmsg has below a record of a driver: " SUBSYSTEM=pci".
_DICTIONARY = re.compile(r" [A-Z][A-Z_]{0,40}=")

_READERS_OF: dict[str, tuple[Reader, ...]] = {
    "summary": (read_outcome.summary,),
    "invoked": (read_request.invoked,),
    "reaped": (read_outcome.reaped,),
    "kill": (read_outcome.choice, read_outcome.kill_line, read_outcome.nobody),
    "stats": (read_memory.stats,),
    "usage": (read_memory.usage,),
    "task": (read_memory.limit, read_outcome.group),
    "cpu": (read_request.cpu,),
    "counters": (read_memory.counters,),
    "zone": (read_memory.zone,),
    "buddy": (read_memory.buddy,),
    "huge": (read_memory.huge,),
    "swap": (read_memory.swap,),
    "pages": (read_memory.machine_pages,),
    "stat": (read_memory.stat,),
    "panic": (read_outcome.nobody, read_outcome.panic),
    "table": (read_tasks.table,),
    "sysrq": (read_request.sysrq, read_outcome.nobody),
    "gap": (read_outcome.gap,),
}


class KernelStream:
    """Takes lines in order. `number` counts the lines of the whole log: a report of which `patience` lines of it show
    nothing more was cut off."""

    def __init__(self, assembly: Assembly, patience: int) -> None:
        self.assembly = assembly
        self._patience = patience
        self._copies = 0
        self.last_number = 0
        """The number of the last line that belonged to a report."""

    def take(self, number: int, origin: LineOrigin, text: str) -> list[OomKill]:
        """Read a line that has a prefix."""
        assembly = self.assembly
        if text == assembly.previous and text and not assembly.is_later(origin) and self._is_copy(text):
            return []
        if assembly.broken is not None:
            self.mend()
        assembly.origin = origin
        if origin.cut:
            text = settled(text)
        is_read = self._read(text)
        if not is_read and lines.may_be_inside(text) and _OF_USERS.match(text) is None:
            is_read = self._read_by(_INSIDE, text)
        self._taken(number, text, is_read=is_read)
        assembly.previous = text
        return assembly.take_done()

    def _is_copy(self, text: str) -> bool:
        """Whether a line with the text of the line before is a copy of it, since two programs may write the kernel's
        lines to one log. memory.oom.group has the kernel write one kill twice, so of kills only where other lines are
        doubled, too."""
        if "illed process" in text:
            return self._copies >= _COPIES
        self._copies += lines.kind(text) is not None or "invoked oom-killer" in text
        return True

    def take_bare(self, number: int, text: str, line: str, *, cut: bool = False) -> list[OomKill]:
        """Read a line without a prefix. `text`: `line` without blanks in front. If the line before has a prefix, this
        may be the second part of it. `cut`: see LineOrigin."""
        assembly = self.assembly
        if cut:
            assembly.origin = assembly.origin._replace(cut=True)
            text, line = settled(text), settled(line)
        if line[:1] == " " and assembly.origin.prefix.endswith(";") and _DICTIONARY.match(line) is not None:
            return []
        below = line[len(assembly.origin.prefix) :] if self.is_below(line) else None
        joined = assembly.broken is not None and self._join(text, below)
        if not joined and not (below is not None and self._line_feed_in_name(below)):
            is_read = self._read(text) or (lines.may_be_behind(text) and self._read_by(_READERS, text))
            self._taken(number, text, is_read=is_read)
        assembly.previous = text if below is None else below
        return assembly.take_done()

    def is_below(self, line: str) -> bool:
        """Whether a line stands under the text of the one before, as dmesg sets what follows a line feed."""
        width = len(self.assembly.origin.prefix)
        return width > 8 and line.startswith(" " * width)

    def pass_over(self, origin: LineOrigin, text: str) -> None:
        """Note a line that certainly says nothing of an OOM."""
        self.assembly.origin = origin
        self.assembly.previous = text
        self.assembly.sysrq_key.pass_lines()
        self.assembly.keep(text, read=False)

    def give_up(self, number: int) -> list[OomKill]:
        """Complete the open report if the last `patience` lines of the log had nothing of it."""
        if number - self.last_number > self._patience and self.assembly.report is not None:
            self.assembly.close()
        return self.assembly.take_done()

    def flush(self) -> list[OomKill]:
        """Complete the open report, since the log ends, or no more lines come."""
        self.mend()
        self.assembly.end()
        return self.assembly.take_done()

    def _taken(self, number: int, text: str, *, is_read: bool) -> None:
        if is_read:
            self.last_number = number
        else:
            self.assembly.sysrq_key.pass_lines()
        self.assembly.keep(text, read=is_read)

    def _read(self, text: str) -> bool:
        """Read a line as what it begins like."""
        report = self.assembly.report
        if report is not None and report.layout is not None and text[:1] == "[" and read_tasks.row(self.assembly, text):
            return True
        kind = lines.kind(text)
        return kind is not None and self._read_by(_READERS_OF[kind], text)

    def _read_by(self, readers: Sequence[Reader], text: str) -> bool:
        """Read a line by the first of `readers` that can."""
        # A loop takes less time than any(), and each line of a report comes here.
        for read in readers:  # noqa: SIM110
            if read(self.assembly, text):
                return True
        return False

    # Lines that a name, a mailer or an editor broke.

    def _line_feed_in_name(self, below: str) -> bool:
        """dmesg sets what follows a line feed under the text of the first line."""
        assembly = self.assembly
        report, previous = assembly.report, assembly.previous
        if "invoked oom-killer" in below:
            return read_request.invoked(assembly, f"{previous}\n{below}")
        if report is not None and report.tasks and not report.past_table():
            task = report.tasks[-1]
            if task.comm is None or not previous.endswith(task.comm):
                return False
            if len(task.comm) < _NAME_MAX:
                report.tasks[-1] = task._replace(comm=f"{task.comm}\n{below}")
            return True
        return False

    def _join(self, text: str, below: str | None) -> bool:
        """Join `text` to the broken line before it, if it is the second part of that line."""
        assert self.assembly.broken is not None
        read, start = self.assembly.broken
        belongs = len(start) < _JOINED_MAX
        if belongs and read == read_outcome.kill_line:
            belongs = below is not None or line_outcome.continues_kill_line(start, text)
        elif belongs:
            belongs = lines.kind(text) is None and "oom-kill" not in text
        if not belongs:
            self.mend()
            return False
        self.assembly.broken = None
        between = "" if read == read_outcome.kill_line and start.rstrip().endswith((":", "-")) else " "
        whole = f"{start}\n{below}" if below is not None else f"{start.rstrip()}{between}{text.lstrip()}"
        read(self.assembly, whole)
        return True

    def mend(self) -> None:
        """Read a broken line without its second part, since that doesn't come."""
        if self.assembly.broken is None:
            return
        read, start = self.assembly.broken
        self.assembly.broken = None
        if read == read_outcome.kill_line:
            read_outcome.kill(self.assembly, start)
