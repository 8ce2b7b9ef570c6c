"""Kernel log text to OOM kill records: the lines of a report put together. Pure; fed line by line, it holds one report.

A report (dump_header() in mm/oom_kill.c) begins with "invoked oom-killer" and ends with the kill; either may be
missing, and lines of others stand in between. A line that the open report has already had begins another.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from oomwatchd.oomlog import json_lines, lines
from oomwatchd.oomlog import prefix as line_prefix
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.record import Chosen, Invoker, Killed, Memory, OomKill, Task

# A process has one row; a log that claims more of them is hostile.
MAX_TASKS = 100_000
# A report of which so many lines show nothing more was cut off.
PATIENCE = 2000

# What the times of two lines differ in.
_SHAPE = bytes.maketrans(b"0123456789 ", b"00000000000")

_SCOPES = {
    "CONSTRAINT_NONE": "global",
    "CONSTRAINT_MEMCG": "memcg",
    "CONSTRAINT_CPUSET": "cpuset",
    "CONSTRAINT_MEMORY_POLICY": "mempolicy",
}


@dataclass(slots=True)
class _Report:
    """An event while its lines come in."""

    prefix: str
    invoker: Invoker | None = None
    invoker_pid: int | None = None
    kernel: str | None = None
    sysrq: bool = False
    in_memcg: bool = False
    constraint: str | None = None
    memcg: str | None = None
    task_memcg: str | None = None
    nodes: str | None = None
    mems_allowed: str | None = None
    layout: lines.Layout | None = None
    tasks: list[Task] | None = None
    chosen: Chosen | None = None
    summary: lines.Summary | None = None
    killed: list[Killed] = field(default_factory=list)
    reaped: list[Killed] = field(default_factory=list)
    words: str = ""
    group: str | None = None
    no_killable: bool = False
    panic: str | None = None
    memory: dict[str, int] = field(default_factory=dict)
    node_kb: dict[int, int] = field(default_factory=dict)
    cut: bool = False

    def decided(self) -> bool:
        return bool(self.killed) or self.no_killable or self.panic is not None

    def past_table(self) -> bool:
        """Whether nothing that stands before the table or in it can come any more."""
        return self.decided() or self.summary is not None or self.chosen is not None

    def is_oom(self) -> bool:
        """Whether it is an OOM at all: the kernel shows its memory for other reasons too."""
        return (
            self.invoker is not None
            or self.past_table()
            or self.in_memcg
            or self.tasks is not None
            or bool(self.reaped)
        )


class Parser:
    """Feed it the lines of a log in order; `feed` and `flush` return the events that have become complete.

    Who follows a live log calls `flush` once it falls silent. `busy` is false while only a line with one of `ANCHORS`,
    or rows before it, can matter: a reader of large logs skips to these."""

    ANCHORS = (
        "invoked oom-killer",
        "oom-kill:con",
        "ill process ",
        "Killed process",
        "ut of memory: Killed",
        "oom_reaper: reaped",
        " total_vm ",
        "result of limit of",
        "memory: usage ",
        "Memory cgroup stats for",
        "memory.oom.group set",
        "no killable processes",
        "deadlocked on memory",
        "panic_on_oom is",
        "Manual OOM execution",
        '"MESSAGE":[',  # journald's way with a record that isn't clean UTF-8
        '"MESSAGE" : [',
        '"MESSAGE": [',
    )

    def __init__(self, reference: datetime) -> None:
        """`reference` (naive, local): dates without a year are the last such date not after it."""
        self.reference = reference
        self._report: _Report | None = None
        self._done: list[OomKill] = []
        self._closed_any = False
        self.at_row = False
        """Whether the line just fed is a row or the header of a table: rows may follow."""
        self._quiet = 0
        self._sysrq_lines = 0
        self._victims: deque[int] = deque(maxlen=16)
        self._prefix = ""
        self._last = ""
        self._broken: tuple[Callable[[str], bool], str] | None = None

    @property
    def busy(self) -> bool:
        report = self._report
        if self._broken is not None:
            return True
        return report is not None and (
            not report.decided() or (report.panic is not None and report.invoker_pid is None)
        )

    def feed(self, line: str | LogLine) -> list[OomKill]:
        """Take in one line, without its line feed."""
        self.at_row = False
        if isinstance(line, LogLine):
            self._take_unwrapped(line)
            done, self._done = self._done, []
            return done
        prefix = self._prefix
        if prefix and line.startswith(prefix) and not line_prefix.goes_on(line, len(prefix)):
            self._take(prefix, line[len(prefix) :])
        elif (end := line_prefix.plain_prefix(line)) > 0:
            text = line[end:]
            if self._broken is None and lines.is_noise(text):
                # Nearly all lines end here.
                self._prefix, self._last = line[:end], text
                self._noise()
                return []
            self._take(line[:end], text)
        else:
            self._take_apart(line)
        if not self._done:
            return []
        done, self._done = self._done, []
        return done

    def _take_unwrapped(self, line: LogLine) -> None:
        if line.program is not None and line.program != "kernel":
            return
        stamp = f"[{line.time}] " if isinstance(line.time, float) else "" if line.time is None else f"{line.time} "
        if line.verbatim:
            self._take(stamp or "- ", line.text)
            return
        prefix, text = line_prefix.split(line.text)
        if text is not None:
            self._take(stamp or prefix, text)

    def _take_apart(self, line: str) -> None:
        if line.lstrip("\x1e \t")[:1] in ("{", '"', "d"):
            unwrapped = json_lines.unwrap(line)
            if unwrapped is not None:
                for one in unwrapped:
                    self._take_unwrapped(one)
                return
        prefix, text = line_prefix.split(line)
        if text is None:
            return
        if prefix and prefix.strip("> \t"):
            self._take(prefix, text)
        else:
            self._take_bare(text, line)

    def feed_rows(self, data: bytes, start: int, end: int) -> int:
        """Take in the rows at `start` that follow a header or row just fed, as a whole: a large log is mostly these.
        Returns where they end; what can't be taken so is left to `feed`."""
        report = self._report
        if report is None or report.layout is None or report.past_table() or self._broken is not None:
            return start
        layout = report.layout
        prefix = self._prefix.encode("utf-8", "replace").translate(_SHAPE)
        width = len(prefix)
        while data[start : start + width].translate(_SHAPE) == prefix:
            match = layout.raw.match(data, start + width, end)
            if match is None:
                break
            task = layout.raw_row(match)
            self._add(report, task)
            start = match.end()
            self._quiet = 0
            # Where a line feed is in the name, the next line has the rest.
            self._last = task.comm
        return start

    def flush(self) -> list[OomKill]:
        """The log ends here, or is silent: close the event that is open."""
        self._mend()
        self._close()
        self._prefix = self._last = ""
        self._closed_any = False
        done, self._done = self._done, []
        return done

    def _take(self, prefix: str, text: str) -> None:
        self._prefix, self._last = prefix, text
        if self._broken is not None:
            self._mend()
        if not self._read(text) and not (lines.may_be_inside(text) and self._read_any(text)):
            self._noise()

    def _take_bare(self, text: str, line: str) -> None:
        """A line without a prefix. Where the one before has one, it may be the rest of that."""
        previous, self._last = self._last, text
        width = len(self._prefix)
        below = line[width:] if width > 8 and line.startswith(" " * width) else None
        if self._broken is not None and self._join(text, below):
            return
        if below is not None and self._line_feed_in_name(previous, below):
            return
        if not self._read(text) and not (lines.may_be_behind(text) and self._read_any(text)):
            self._noise()

    def _read(self, text: str) -> bool:
        """Read a line as what it begins like."""
        report = self._report
        if report is not None and report.layout is not None and text[:1] == "[" and self._row(text):
            self._quiet = 0
            return True
        kind = lines.kind(text)
        if kind is not None:
            for read in _READERS_OF[kind]:
                if read(self, text):
                    self._quiet = 0
                    return True
        return False

    def _read_any(self, text: str) -> bool:
        """Read a line that begins with something else than what it is."""
        for read in _READERS:
            if read(self, text):
                self._quiet = 0
                return True
        return False

    def _noise(self) -> None:
        """A line of others."""
        if self._sysrq_lines > 0:
            self._sysrq_lines -= 1
        self._quiet += 1
        if self._quiet > PATIENCE and self._report is not None:
            self._close()

    # Lines that a name, a mailer or an editor broke.

    def _line_feed_in_name(self, previous: str, below: str) -> bool:
        """dmesg sets what follows a line feed under the text of the first line."""
        report = self._report
        if "invoked oom-killer" in below:
            return self._invoked(f"{previous}\n{below}")
        if report is not None and report.tasks and not report.past_table() and previous.endswith(report.tasks[-1].comm):
            task = report.tasks[-1]
            if len(task.comm) < 64:
                report.tasks[-1] = task._replace(comm=f"{task.comm}\n{below}")
            self._last = below
            return True
        return False

    def _hold(self, read: Callable[[str], bool], text: str) -> bool:
        self._broken = (read, text)
        return True

    def _join(self, text: str, below: str | None) -> bool:
        """Put `text` behind the line that was broken before it, if it belongs there."""
        assert self._broken is not None
        read, start = self._broken
        belongs = len(start) < 4096
        if belongs and read == self._kill_line:
            belongs = below is not None or lines.continues_kill_line(text)
        elif belongs:
            belongs = lines.kind(text) is None and "oom-kill" not in text
        if not belongs:
            self._mend()
            return False
        self._broken = None
        read(f"{start}\n{below}" if below is not None else f"{start.rstrip()} {text.lstrip()}")
        return True

    def _mend(self) -> None:
        """What was broken gets no other half."""
        if self._broken is None:
            return
        read, start = self._broken
        self._broken = None
        if read == self._kill_line:
            self._kill(start)

    # The open event.

    def _new(self) -> _Report:
        self._close()
        self._report = _Report(self._prefix)
        return self._report

    def _open(self, *, another: bool = False) -> _Report:
        """The open event; a new one if there is none, or if this line begins `another`."""
        return self._new() if self._report is None or another else self._report

    def _close(self) -> None:
        report, self._report = self._report, None
        self._quiet = 0
        if report is None or not report.is_oom():
            return
        kill = _finish(report, self.reference)
        if kill.victim is not None:
            self._victims.append(kill.victim.pid)
        self._closed_any = True
        self._done.append(kill)

    def _before_table(self) -> _Report:
        """The event to which a line belongs that stands before the table."""
        report = self._report
        return self._open(another=report is not None and (report.past_table() or report.tasks is not None))

    # Readers: each takes one kind of line and returns whether it was of that kind.

    def _invoked(self, text: str) -> bool:
        found = lines.invoked(text)
        if found is None:
            return False
        report = self._new()
        report.invoker, report.nodes = found
        # Before 3.19 nothing but the key's own line tells that sysrq-f asked.
        by_key = self._sysrq_lines > 0 and (report.invoker.comm or "").startswith(("kworker", "events"))
        report.sysrq = report.invoker.order == -1 or by_key
        self._sysrq_lines = 0
        return True

    def _sysrq(self, text: str) -> bool:
        if "Manual OOM execution" not in text:
            return False
        self._sysrq_lines = 50
        return True

    def _cpu(self, text: str) -> bool:
        report = self._report
        expected = report.invoker.comm if report is not None and report.invoker is not None else None
        found = lines.cpu(text, expected)
        if found is None:
            return False
        if report is None or report.invoker_pid is not None:
            return True
        if report.invoker is None:
            # Its first line is cut off. Only a panic is sure to be in the invoker's context.
            if report.panic is not None:
                report.invoker_pid, report.kernel = found.pid, found.kernel
            return True
        name = _same_name(expected, found.comm)
        if name is None or (report.decided() and report.panic is None):
            return True
        asked = report.invoker
        report.invoker = Invoker(None, name, asked.gfp_mask, asked.order, asked.oom_score_adj)
        report.invoker_pid, report.kernel = found.pid, found.kernel
        return True

    def _mems_allowed(self, text: str) -> bool:
        found = lines.mems_allowed(text)
        if found is None:
            return False
        if self._report is not None and not self._report.past_table():
            self._report.mems_allowed = found
        return True

    def _trace(self, text: str) -> bool:
        if "mem_cgroup_out_of_memory+" not in text:
            return False
        # A question mark: it merely lay on the stack.
        if self._report is not None and not self._report.past_table() and "? mem_cgroup_out_of_memory" not in text:
            self._report.in_memcg = True
        return True

    def _limit(self, text: str) -> bool:
        found = lines.limit_of(text)
        if found is None:
            return False
        report = self._before_table()
        if report.memcg is not None:
            report = self._new()
        report.in_memcg = True
        report.constraint = "CONSTRAINT_MEMCG(implied)"
        report.task_memcg, report.memcg = found
        return True

    def _usage(self, text: str) -> bool:
        found = lines.usage(text)
        if found is None:
            return False
        report = self._before_table()
        if "usage_kb" in found and "usage_kb" in report.memory:
            report = self._new()
        report.in_memcg = True
        report.memory |= found
        return True

    def _stats(self, text: str) -> bool:
        found = lines.stats_of(text)
        if found is None:
            return False
        report = self._before_table()
        report.in_memcg = True
        report.memcg = found[0] or report.memcg
        for key, kb in found[1].items():
            report.memory[key] = report.memory.get(key, 0) + kb
        return True

    def _stat(self, text: str) -> bool:
        found = lines.stat(text)
        if found is None:
            return False
        if self._report is not None and self._report.in_memcg and self._report.tasks is None:
            self._report.memory[found[0]] = found[1]
        return True

    def _counters(self, text: str) -> bool:
        zone = lines.zone(text) if "Node " in text else None
        if zone is not None:
            if self._report is not None and len(self._report.node_kb) < 4096:
                self._report.node_kb[zone[0]] = self._report.node_kb.get(zone[0], 0) + zone[1]
            return True
        found = lines.counters(text)
        if not found:
            return False
        memory = self._before_table().memory
        for key, kb in found:
            memory[key] = memory.get(key, 0) + kb if key in ("anon_kb", "file_kb", "slab_kb") else kb
        return True

    def _total(self, text: str) -> bool:
        found = lines.total(text)
        if found is None:
            return False
        self._before_table().memory[found[0]] = found[1]
        return True

    def _table(self, text: str) -> bool:
        if "[" not in text:
            return False
        if "total_vm" in text and self._header(text):
            return True
        if self._report is not None and self._report.layout is not None:
            start = text.find("[")
            return start >= 0 and self._row(text[start:])
        task = lines.row_without_header(text)
        if task is None:
            return lines.row_is_broken(text) and self._hold(self._row, text)
        report = self._report
        report = self._open(another=report is not None and report.past_table())
        report.cut = True
        self._add(report, task)
        return True

    def _header(self, text: str) -> bool:
        columns = lines.header(text)
        if columns is None:
            return False
        if columns[-1] != "name":
            # Broken once more is possible; what can't be a header any longer is given up.
            return len(columns) > 12 or self._hold(self._header, text)
        report = self._before_table()
        report.layout = lines.layout(columns)
        report.tasks = []
        self.at_row = True
        return True

    def _row(self, text: str) -> bool:
        report = self._report
        if report is None or report.layout is None:
            task = lines.row_without_header(text)
            if task is not None:
                self._add(self._open(), task)
            return task is not None
        task = report.layout.row(text)
        if task is None:
            return self._broken is None and lines.row_is_broken(text) and self._hold(self._row, text)
        if report.past_table():
            report = self._new()
            report.cut = True
        self._add(report, task)
        return True

    def _add(self, report: _Report, task: Task) -> None:
        self.at_row = True
        if report.tasks is None:
            report.tasks = []
        if len(report.tasks) < MAX_TASKS:
            report.tasks.append(task)
        else:
            report.cut = True

    def _summary(self, text: str) -> bool:
        found = lines.summary(text)
        if found is None:
            return False
        old = self._report
        report = self._open(another=old is not None and (old.summary is not None or old.decided()))
        report.summary = found
        report.in_memcg = report.in_memcg or found.constraint == "CONSTRAINT_MEMCG"
        report.nodes = found.nodes or report.nodes
        report.mems_allowed = found.mems_allowed or report.mems_allowed
        report.memcg = found.memcg or report.memcg
        # Cut, or broken by a name that may feign what follows: then only what stands in front is believed.
        if found.end == "whole":
            report.task_memcg = found.task_memcg
        if found.end != "cut":
            report.constraint = found.constraint
        report.cut = report.cut or found.end != "whole"
        return True

    def _choice(self, text: str) -> bool:
        found = lines.chosen(text)
        if found is None:
            return False
        old = self._report
        report = self._open(another=old is not None and (old.chosen is not None or old.decided()))
        report.chosen, report.words = found
        return True

    def _kill_line(self, text: str) -> bool:
        if lines.kill_line_is_broken(text):
            return self._hold(self._kill_line, text)
        return self._kill(text)

    def _kill(self, text: str) -> bool:
        found = lines.kill_line(text)
        if found is None:
            return False
        report = self._report
        if report is not None and report.decided() and not self._belongs(report, found.words):
            report = None
        report = report or self._new()
        report.killed.append(found.killed)
        report.words = found.words or report.words
        report.cut = report.cut or not found.whole
        return True

    def _belongs(self, report: _Report, words: str) -> bool:
        """Whether a further kill is the same event's. memory.oom.group kills many, and says so, but a log that begins
        in the middle may lack that. Else each is an event of its own: the kernel limits reports, not kills."""
        if not report.killed or words != report.words:
            return False
        if report.group is not None:
            return len(report.killed) < MAX_TASKS
        if report.invoker is not None or report.tasks is not None or report.summary is not None or self._closed_any:
            return False
        before = line_prefix.time_of(report.prefix, self.reference)
        now = line_prefix.time_of(self._prefix, self.reference)
        if isinstance(before, float) and isinstance(now, float):
            return words.startswith("Memory") and 0 <= now - before < 0.05
        return words.startswith("Memory") and before is not None and before == now

    def _group(self, text: str) -> bool:
        found = lines.group(text)
        if found is None:
            return False
        report = self._open()
        report.group = found
        report.in_memcg = True
        return True

    def _reaped(self, text: str) -> bool:
        found = lines.reaped(text)
        if found is None:
            return False
        # The reaper comes later, perhaps when the next report has begun.
        if found.pid not in self._victims:
            report = self._open()
            if len(report.reaped) < MAX_TASKS:
                report.reaped.append(found)
        return True

    def _nobody(self, text: str) -> bool:
        if "no killable processes" not in text and "No task eligible" not in text:
            return False
        old = self._report
        report = self._open(another=old is not None and old.decided())
        report.no_killable = True
        report.panic = lines.panic(text)
        return True

    def _panic(self, text: str) -> bool:
        why = lines.panic(text)
        if why is None:
            return False
        old = self._report
        report = self._open(another=old is not None and (bool(old.killed) or old.panic is not None))
        report.panic = why
        return True

    def _gap(self, text: str) -> bool:
        if not lines.is_gap(text):
            return False
        if self._report is not None and not self._report.decided():
            self._report.cut = True
        return True


_READERS: tuple[Callable[[Parser, str], bool], ...] = (
    Parser._table,
    Parser._invoked,
    Parser._reaped,
    Parser._summary,
    Parser._choice,
    Parser._kill_line,
    Parser._cpu,
    Parser._limit,
    Parser._group,
    Parser._usage,
    Parser._stats,
    Parser._counters,
    Parser._total,
    Parser._stat,
    Parser._mems_allowed,
    Parser._trace,
    Parser._nobody,
    Parser._panic,
    Parser._sysrq,
    Parser._gap,
)

_READERS_OF: dict[str, tuple[Callable[[Parser, str], bool], ...]] = {
    "summary": (Parser._summary,),
    "reaped": (Parser._reaped,),
    "kill": (Parser._choice, Parser._kill_line, Parser._nobody),
    "stats": (Parser._stats,),
    "usage": (Parser._usage,),
    "task": (Parser._limit, Parser._group),
    "cpu": (Parser._cpu,),
    "counters": (Parser._counters,),
    "zone": (Parser._counters,),
    "total": (Parser._total,),
    "stat": (Parser._stat,),
    "panic": (Parser._nobody, Parser._panic),
    "table": (Parser._table,),
    "sysrq": (Parser._sysrq, Parser._nobody),
    "gap": (Parser._gap,),
}


def _same_name(expected: str | None, seen: str | None) -> str | None:
    """The invoker's name, if the line of dump_stack() is its own: the two lines agree, but for a prefix that nobody
    knows, or for what follows a line feed."""
    if seen is None:
        return expected
    if expected is None or expected.endswith((f" {seen}", f"\t{seen}", f"|{seen}")):
        return seen
    return expected if seen == expected or expected.startswith(f"{seen}\n") else None


def _finish(report: _Report, reference: datetime) -> OomKill:
    tasks = None if report.tasks is None else tuple(report.tasks)
    victim = _victim(report)
    asked = report.invoker or Invoker()
    return OomKill(
        time=line_prefix.time_of(report.prefix, reference),
        kernel=report.kernel,
        scope=_scope(report),
        constraint=report.constraint,
        memcg=report.memcg,
        task_memcg=report.task_memcg,
        invoker=Invoker(report.invoker_pid, asked.comm, asked.gfp_mask, asked.order, asked.oom_score_adj),
        victim=victim,
        also_killed=tuple(report.killed[1:]),
        tasks=tasks,
        columns=report.layout.columns if report.layout is not None else None,
        chosen=report.chosen,
        reaped=tuple(killed.pid for killed in report.reaped),
        group=report.group,
        allocating_task="allocating" in report.words,
        no_killable=report.no_killable,
        panic=report.panic,
        nodes=report.nodes or report.mems_allowed,
        memory=Memory(**report.memory, node_kb=tuple(sorted(report.node_kb.items()))),
        truncated=_is_truncated(report, victim),
    )


def _victim(report: _Report) -> Killed | None:
    if report.killed:
        return report.killed[0]
    victim = None
    if report.summary is not None and report.summary.pid is not None and report.summary.names:
        victim = Killed(report.summary.pid, report.summary.names[0], report.summary.uid)
    elif report.reaped and not report.no_killable:
        victim = report.reaped[0]
    if victim is None:
        return None
    row = next((task for task in report.tasks or () if task.pid == victim.pid), None)
    if row is None:
        return victim
    names = report.summary.names if report.summary is not None else ()
    return replace(victim, comm=row.comm if row.comm in names else victim.comm, oom_score_adj=row.oom_score_adj)


def _scope(report: _Report) -> str | None:
    if report.sysrq:
        return "sysrq"
    if report.summary is not None and report.summary.constraint in _SCOPES:
        return _SCOPES[report.summary.constraint]
    if report.in_memcg or report.words.startswith("Memory"):
        return "memcg"
    if report.nodes is not None and _is_bound(report.nodes, report.mems_allowed):
        return "mempolicy"
    # With panic_on_oom=1, or when nobody can be killed, only a global OOM panics.
    panic = report.panic or ""
    if report.words or "deadlocked" in panic or "system-wide" in panic or "no killable" in panic:
        return "global"
    return None


def _is_bound(nodes: str, allowed: str | None) -> bool:
    """Whether an allocation bound to `nodes` may use less than the machine. Every machine has a node 0."""
    bound = lines.nodes(nodes)
    return bool(bound) and (bound < lines.nodes(allowed) if allowed is not None else 0 not in bound)


def _is_truncated(report: _Report, victim: Killed | None) -> bool:
    if report.cut or not report.decided() or report.invoker is None or report.invoker_pid is None:
        return True
    if report.invoker.gfp_mask is None or report.invoker.order is None:
        return True
    if victim is None:
        return report.tasks is not None and not report.tasks
    # The newer kill line comes with a summary.
    if victim.pgtables_kb is not None and report.summary is None:
        return True
    return report.tasks is not None and all(victim.pid not in (task.pid, task.tgid) for task in report.tasks)
