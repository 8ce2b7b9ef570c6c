"""An OOM report while its lines are read, and the event that is made of it. Pure.

The module has some more than 300 lines, so that one place has how the lines become an event."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from oomwatchd.base.uapi import COMM_MAX
from oomwatchd.oomlog import line_outcome, line_parts, line_request, line_tasks, times
from oomwatchd.oomlog.named_dates import Calendar
from oomwatchd.oomlog.record import Chosen, Invoker, Killed, Memory, OomKill, Task, Zone

# A process has one row; a log that claims more of them is hostile.
MAX_TASKS = 100_000
MAX_ZONES = 4096
MAX_KEPT = 2000
MAX_LINE = 1000

_SCOPES = {
    "CONSTRAINT_NONE": "global",
    "CONSTRAINT_MEMCG": "memcg",
    "CONSTRAINT_CPUSET": "cpuset",
    "CONSTRAINT_MEMORY_POLICY": "mempolicy",
}
_PAGE_KB = 4
# Linux's page sizes, in KiB.
_PAGE_SIZES_KB = (4, 8, 16, 32, 64, 256)
_SUMS = {
    "anon_kb": ("active_anon", "inactive_anon"),
    "file_kb": ("active_file", "inactive_file"),
    "slab_kb": ("slab_reclaimable", "slab_unreclaimable"),
    "shmem_kb": ("shmem",),
    "free_kb": ("free",),
    "slab_unreclaimable_kb": ("slab_unreclaimable",),
    "unevictable_kb": ("unevictable",),
    "free_cma_kb": ("free_cma",),
}


class LineOrigin(NamedTuple):
    """Where a line was read. time: the container's, else None: it is in `prefix`. cut: the log ends within the line.
    (One is made for each line.)"""

    prefix: str = ""
    time: str | float | None = None
    host: str | None = None
    file: str | None = None
    cut: bool = False


@dataclass(slots=True)
class Report:
    """An event while its lines come in. Sizes in KiB, but for `pages` (show_mem()'s counters, in pages).

    zones: by NUMA node and name. cgroups: memory cgroup to its figures, for the old statistics of each cgroup
    below the limit. page_kb: the page size, where a line shows it."""

    origin: LineOrigin
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
    layout: line_tasks.TableLayout | None = None
    tasks: list[Task] | None = None
    chosen: Chosen | None = None
    summary: line_outcome.Summary | None = None
    killed: list[Killed] = field(default_factory=list)
    reaped: list[Killed] = field(default_factory=list)
    words: str = ""
    group: str | None = None
    no_killable: bool = False
    panic: str | None = None
    memory: dict[str, int] = field(default_factory=dict)
    pages: dict[str, int] = field(default_factory=dict)
    zones: dict[tuple[int, str], Zone] = field(default_factory=dict)
    cgroups: dict[str, dict[str, int]] = field(default_factory=dict)
    page_kb: int | None = None
    cut: bool = False
    original: list[str] = field(default_factory=list)

    def keep(self, line: str) -> None:
        """Keep a line of the log. Of a long report only the first lines are kept."""
        if len(self.original) < MAX_KEPT:
            self.original.append(line[:MAX_LINE])

    def decided(self) -> bool:
        """Whether the report has its outcome."""
        return bool(self.killed) or self.no_killable or self.panic is not None

    def past_table(self) -> bool:
        """Whether the table is over, so that no line of it, or from before it, can follow."""
        return self.decided() or self.summary is not None or self.chosen is not None

    def is_oom(self) -> bool:
        """Whether it is an OOM report. The kernel shows the state of memory for other reasons, too."""
        return (
            self.invoker is not None
            or self.past_table()
            or self.in_memcg
            or self.tasks is not None
            or bool(self.reaped)
        )

    def awaits_more(self) -> bool:
        """Whether lines that matter may follow: the outcome, or, after a panic, the process that asked for memory."""
        return not self.decided() or (self.panic is not None and self.invoker_pid is None)

    def add(self, task: Task) -> None:
        """Take in a row of the table."""
        if self.tasks is None:
            self.tasks = []
        if len(self.tasks) < MAX_TASKS:
            self.tasks.append(task)
        else:
            self.cut = True

    def add_all(self, tasks: Sequence[Task]) -> None:
        """Take in rows of the table."""
        if self.tasks is None:
            self.tasks = []
        room = MAX_TASKS - len(self.tasks)
        self.tasks += tasks[:room]
        self.cut = self.cut or len(tasks) > room

    def time(self, reference: datetime, calendar: Calendar) -> str | float | None:
        """When it was logged (see `times.time_of`)."""
        stamp = self.origin.time
        if isinstance(stamp, float):
            return stamp
        found = None if stamp is None else times.time_of(f"{stamp} ", reference, calendar)
        return times.time_of(self.origin.prefix, reference, calendar) if found is None else found


def finish(report: Report, reference: datetime, calendar: Calendar) -> OomKill:
    """The event. `reference`: see `times.time_of`."""
    victim = _victim(report)
    page_kb = _page_kb(report, victim)
    asked = report.invoker or Invoker()
    comm = None if asked.comm is None else _likely_name(asked.comm)
    return OomKill(
        time=report.time(reference, calendar),
        kernel=report.kernel,
        scope=_scope(report),
        constraint=report.constraint,
        memcg=report.memcg,
        task_memcg=report.task_memcg,
        invoker=Invoker(report.invoker_pid, comm, asked.gfp_mask, asked.order, asked.oom_score_adj, asked.gfp_words),
        victim=victim,
        also_killed=tuple(_named(killed, report) for killed in report.killed[1:]),
        tasks=_tasks(report, page_kb),
        columns=report.layout.columns if report.layout is not None else None,
        chosen=report.chosen,
        reaped=tuple(killed.pid for killed in report.reaped),
        group=report.group,
        allocating_task="allocating" in report.words,
        no_killable=report.no_killable,
        panic=report.panic,
        nodes=report.nodes or report.mems_allowed,
        memory=_memory(report, page_kb or _PAGE_KB),
        truncated=_is_truncated(report, victim),
        host=report.origin.host,
        file=report.origin.file,
        page_bytes=None if page_kb is None else 1024 * page_kb,
        uptime=times.uptime_of(report.origin.prefix),
        victim_uid=_uid(report, victim),
        original=tuple(report.original),
    )


def _likely_name(name: str) -> str:
    """The invoker's name, where a prefix that nobody knows stands before it. A name has at most 15 bytes."""
    if line_parts.comm_length(name) <= COMM_MAX:
        return name
    tail = re.split(r"(?:[:|>\]})\"]\s|\t|[|\"])\s*", name)[-1]
    if line_parts.comm_length(tail) > COMM_MAX or not tail:
        tail = name.split()[-1] if name.split() else name
    return tail if line_parts.comm_length(tail) <= COMM_MAX else name


def _tasks(report: Report, page_kb: int | None) -> tuple[Task, ...] | None:
    if report.tasks is None:
        return None
    layout, tasks = report.layout, report.tasks
    if len(tasks) > 1 and tasks[0] == tasks[1]:
        tasks = [task for task, before in zip(tasks, (None, *tasks), strict=False) if task != before]  # doubled lines
    if layout is None or not layout.counts_tables or page_kb in (None, _PAGE_KB):
        return tuple(tasks)
    factor = (page_kb or _PAGE_KB) // _PAGE_KB
    return tuple(task._replace(pgtables_bytes=factor * (task.pgtables_bytes or 0)) for task in tasks)


def _page_kb(report: Report, victim: Killed | None) -> int | None:
    """The machine's page size: the buddy lists' smallest block, or the kill line in KiB against the table in pages."""
    if report.page_kb is not None:
        return report.page_kb
    rows = {task.pid: task for task in report.tasks or ()}
    for killed in (victim, *report.killed):
        row = None if killed is None else rows.get(killed.pid)
        if killed is None or row is None or not killed.total_vm_kb or row.total_vm <= 0:
            continue
        size, rest = divmod(killed.total_vm_kb, row.total_vm)
        if rest == 0 and size in _PAGE_SIZES_KB:
            return size
    return None


def _memory(report: Report, page_kb: int) -> Memory:
    figures = dict(report.memory)
    for one in report.cgroups.values():
        for key, kb in one.items():
            figures[key] = figures.get(key, 0) + kb
    for key, parts in _SUMS.items():
        shown = [report.pages[part] for part in parts if part in report.pages]
        if shown:
            figures[key] = page_kb * sum(shown)
    for key in ("ram", "reserved"):
        if key in report.pages:
            figures[f"{key}_kb"] = page_kb * report.pages[key]
    nodes: dict[int, int] = {}
    for zone in report.zones.values():
        nodes[zone.node] = nodes.get(zone.node, 0) + zone.present_kb
    return Memory(**figures, node_kb=tuple(sorted(nodes.items())), zones=tuple(report.zones.values()))


def _named(killed: Killed, report: Report) -> Killed:
    """The process with its name, from another line about its PID where the kill line has no figures behind the name,
    so that it may be cut within it."""
    if killed.comm is not None and killed.total_vm_kb is not None:
        return killed
    names: list[str | None] = []
    if report.summary is not None and report.summary.pid == killed.pid:
        names += report.summary.names
    if report.chosen is not None and report.chosen.pid == killed.pid:
        names.append(report.chosen.comm)
    names += [one.comm for one in (*(report.tasks or ()), *report.reaped) if one.pid == killed.pid]
    start = killed.comm or ""
    return replace(killed, comm=next((name for name in names if name and name.startswith(start)), killed.comm))


def _victim(report: Report) -> Killed | None:
    if report.killed:
        return _with_whole_numbers(_named(report.killed[0], report), report)
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
    victim = replace(victim, comm=row.comm if row.comm in names else victim.comm, oom_score_adj=row.oom_score_adj)
    return _with_whole_numbers(victim, report)


def _with_whole_numbers(victim: Killed, report: Report) -> Killed:
    """The victim with the numbers of the table: the last line of a cut log may have only their first figures."""
    row = next((task for task in report.tasks or () if task.pid == victim.pid), None)
    if row is None:
        return victim
    if victim.uid is not None and str(row.uid).startswith(str(victim.uid)):
        victim = replace(victim, uid=row.uid)
    if victim.oom_score_adj is not None and str(row.oom_score_adj).startswith(str(victim.oom_score_adj)):
        victim = replace(victim, oom_score_adj=row.oom_score_adj)
    return victim


def _uid(report: Report, victim: Killed | None) -> tuple[int, str] | None:
    """The victim's user, and which part of the report says so."""
    if victim is None:
        return None
    if victim.uid is not None:
        return victim.uid, "kill line" if report.killed else "summary"
    summary = report.summary
    if summary is not None and summary.pid == victim.pid and summary.uid is not None:
        return summary.uid, "summary"
    row = next((task for task in report.tasks or () if task.pid == victim.pid), None)
    return None if row is None else (row.uid, "table")


def _scope(report: Report) -> str | None:
    if report.sysrq:
        return "sysrq"
    if report.summary is not None and report.summary.constraint in _SCOPES:
        return _SCOPES[report.summary.constraint]
    if report.in_memcg or report.words.startswith("Memory"):
        return "memcg"
    if report.words.startswith("No available"):
        return "cpuset" if report.words.endswith("cpuset") else "mempolicy"
    if report.nodes is not None and _is_bound(report.nodes, report.mems_allowed):
        return "mempolicy"
    # With panic_on_oom=1, or when nobody can be killed, only a global OOM panics.
    panic = report.panic or ""
    if report.words or "deadlocked" in panic or "system-wide" in panic or "no killable" in panic:
        return "global"
    return None


def _is_bound(nodes: str, allowed: str | None) -> bool:
    """Whether an allocation bound to `nodes` may use less than the machine. Every machine has a node 0."""
    bound = line_request.nodes(nodes)
    return bool(bound) and (bound < line_request.nodes(allowed) if allowed is not None else 0 not in bound)


def _is_truncated(report: Report, victim: Killed | None) -> bool:
    if report.cut or not report.decided() or report.invoker is None or report.invoker_pid is None:
        return True
    if report.invoker.gfp_mask is None or report.invoker.order is None:
        return True
    if victim is None:
        # A cgroup may be empty: its charges are those of processes that have left.
        return report.tasks is not None and not report.tasks and not report.no_killable
    # The newer kill line comes with a summary.
    if victim.pgtables_kb is not None and report.summary is None:
        return True
    return report.tasks is not None and not _has_row(report.tasks, victim.pid)


def _has_row(tasks: Iterable[Task], pid: int) -> bool:
    return any(pid in (task.pid, task.tgid) for task in tasks)
