"""Tells the kinds of lines in an OOM report apart. Pure. Their values are read by `line_request`, `line_memory`,
`line_tasks` and `line_outcome`.

The kernel writes them in dump_header(), dump_tasks(), dump_oom_victim() and __oom_kill_process() of mm/oom_kill.c, in
mem_cgroup_print_oom_info() of mm/memcontrol.c, and in show_mem(). The form of a line decides how it is read, never the
kernel's version, since distributions carry newer reports back. A name (at most 15 bytes) or a cgroup path may hold any
words, also those of the report. So the text behind a name is searched from the right.
"""

import re

from oomwatchd.oomlog.line_tasks import holds_row

ANCHORS = (
    "invoked oom-killer",
    "oom-killer: gfp_mask=",
    "oom-kill:con",
    "ill process ",
    "Killed process",
    "ut of memory in UB ",
    "ut of memory: Killed",
    "OOM killed process ",
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
"""Each report has a line with one of these, so that other lines can be skipped until one comes."""

# How lines of a report begin, by their kind. It tells most other lines of a log apart.
_START = re.compile(
    r"\s*+(?:(?P<summary>oom-kill:)|(?P<invoked>oom-killer: gfp)|(?P<reaped>oom_reaper: r)"
    r"|(?P<kill>[Oo]ut of [Mm]emory|Memory cgroup out|No available memory |[Kk]ill(?:ed)? p|OOM killed p)"
    r"|(?P<stats>Memory cgroup stats)|(?P<usage>(?:memory|swap)(?:\+swap)?: usage)|(?P<task>Tasks? in )"
    r"|(?P<cpu>CPU: |Pid: |PID: )|(?P<counters>(?:in)?active_|slab_|free:|mapped:|unevictable:)"
    r"|(?P<huge>Node \d+ hugepages_total=)|(?P<zone>(?:Node \d+ )?[A-Z]\w+ free:)"
    r"|(?P<buddy>(?:Node \d+ )?[A-Z]\w+: \d+\*\d)"
    r"|(?P<swap>Free swap|Total swap)|(?P<pages>\d+ pages [Rr])"
    r"|(?P<stat>(?:total_(?:rss|cache|shmem)|anon|file|shmem|slab) \d)|(?P<panic>Kernel panic)"
    r"|(?P<table>\[ *(?:pid|\d+ *\]))|(?P<sysrq>[Ss]ys[Rr]q)|(?P<gap>[^\w.…]*+(?:\.\.\.|…|snip|cut\b)))"
)

NOISE = (
    rb"(?: ?</?(?:TASK|IRQ)>|Call [Tt]race:|Hardware name: [^\n]*|R[A-Z0-9]{2}: [^\n]*|Code: [^\n]*|[CDF]S: [^\n]*"
    rb"|Mem-[Ii]nfo:|lowmem_reserve\[\]:[^\n]*|Swap cache stats: [^\n]*|Tasks state [^\n]*"
    rb"|Node \d{1,4} (?:active|inactive)_anon:[^\n]*"
    rb"|\d{1,18} (?:total pagecache pages|pages (?:in swap cache|HighMem|cma|hwpoisoned)[^\n]*)"
    rb"| (?:sec_pagetables|kernel_misc_reclaimable|isolated_anon):[^\n]*"
    rb"| (?!mem_cgroup_out_of_memory\+)[A-Za-z_][\w.]{0,200}\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}(?: \[[\w-]{1,64}\])?)"
)
"""An expression over bytes for lines of a report that have none of the values that are read: registers, addresses,
headings."""

# The first four letters of the lines of a report, for a quick answer.
_STARTS = frozenset(
    (
        *("oom-", "oom_", "Out ", "out ", "Memo", "memo", "Kill", "kill", "swap", "Task", "CPU:", "Pid:", "PID:"),
        *("acti", "inac", "slab", "free", "mapp", "unev", "Node", "DMA ", "DMA:", "DMA3", "Norm", "High", "Mova"),
        *("Devi", "Free", "Tota", "tota", "anon", "file", "shme", "Kern", "SysR", "sysr", "Sysr", "sysR", "snip"),
        *("No a", "OOM "),
    )
)


def kind(text: str) -> str | None:
    """The kind of line that `text` begins like, a group's name in _START; None: none."""
    if text[:1].isalpha() and text[:4] not in _STARTS:
        return None
    start = _START.match(text)
    return None if start is None else start.lastgroup


_NUMBERED = re.compile(r"\s*\[ *\d+ *\](?! *-?\d)")


def begins(text: str) -> bool:
    """Whether `text` begins like a line of a report. A number in brackets that isn't followed by figures is no row of
    the task table, since some programs number their lines in this way."""
    found = kind(text)
    return found is not None and (found != "table" or _NUMBERED.match(text) is None)


def is_noise(text: str) -> bool:
    """Whether `text`, which follows a known prefix, is certainly no line of a report."""
    return (
        text[:4] not in _STARTS
        and text[:1].isalpha()
        and "oom" not in text
        and " mems_allowed=" not in text
        and "out_of_memory+" not in text
    )


def may_be_inside(text: str) -> bool:
    """Whether `text`, which doesn't begin like a line of a report, may be a line of one that begins with a process's
    name."""
    return "oom" in text or " mems_allowed=" in text or "out_of_memory+" in text


def may_be_behind(text: str) -> bool:
    """Whether a line of a report may follow in `text` behind a prefix of an unknown kind."""
    return (
        may_be_inside(text)
        or "ill process" in text
        or "illed process" in text
        or ": usage " in text
        or "limit of" in text
        or "cgroup stats" in text
        or "total_vm" in text
        or "killable" in text
        or "anic - not" in text
        or "Free swap" in text
        or "Total swap" in text
        or " pages RAM" in text
        or " pages reserved" in text
        or "PID: " in text
        or "Pid: " in text
        or "OOM" in text
        or ("] " in text and holds_row(text))
    )


# A line that ends with a process's name isn't taken for a stack trace, whatever the name is.
_TRACE = re.compile(rb"\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}(?: \[[\w-]+\])?\s*$")
_ROW_LIKE = re.compile(rb"\](?:[ \t]+-?\d+){3}")


def is_trace(raw: bytes) -> bool:
    """Whether a line is a call of a stack trace, but not the call that shows an OOM in a cgroup."""
    return _TRACE.search(raw) is not None and b"mem_cgroup_out_of_memory+" not in raw and _ROW_LIKE.search(raw) is None


_GAP = re.compile(
    r"[^\w.…]*(?:\.{3,}+|…|snip\w*+|cut)(?:\W*|.*(?:snip|skip|cut|omit|elid|lines|more).*)$", re.IGNORECASE
)
_STACK = re.compile(r"Stack ?:|\s*(?:[0-9a-f]{8}|[0-9a-f]{16})(?: (?:[0-9a-f]{8}|[0-9a-f]{16}))+\s*$")


def is_stack(text: str) -> bool:
    """Whether a line has the words of a stack in hexadecimal. On MIPS, "..." follows if there are more
    (show_stacktrace())."""
    return _STACK.match(text) is not None


def is_gap(text: str) -> bool:
    """Whether a line says that lines were left out, such as "[...]" or "<snip>"."""
    return _GAP.match(text) is not None
