"""The lines of an OOM report, one by one: kernel text to values. Pure.

Written by dump_header(), dump_tasks(), dump_oom_victim() and __oom_kill_process() in mm/oom_kill.c, by
mem_cgroup_print_oom_info() in mm/memcontrol.c and by show_mem(). A line's shape decides how it is read, never the
kernel's version: distributions carry newer reports back. A name (at most 15 bytes) or cgroup path may hold anything,
the words of the report too, so what stands behind a name is read from the right.
"""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from oomwatchd.base.text import decode
from oomwatchd.oomlog.record import Chosen, Invoker, Killed, Task, Zone

_N = r"-?\d{1,18}"
COMM_MAX = 15  # TASK_COMM_LEN less its NUL

# What lines of a report begin with, by kind. Most lines of a log are told from them with this alone.
_START = re.compile(
    r"\s*+(?:(?P<summary>oom-kill:)|(?P<reaped>oom_reaper: r)"
    r"|(?P<kill>[Oo]ut of [Mm]emory|Memory cgroup out|[Kk]ill(?:ed)? p)"
    r"|(?P<stats>Memory cgroup stats)|(?P<usage>(?:memory|swap)(?:\+swap)?: usage)|(?P<task>Tasks? in )"
    r"|(?P<cpu>CPU: |Pid: |PID: )|(?P<counters>(?:in)?active_|slab_|free:|mapped:|unevictable:)"
    r"|(?P<huge>Node \d+ hugepages_total=)|(?P<zone>(?:Node \d+ )?[A-Z]\w+ free:)"
    r"|(?P<buddy>(?:Node \d+ )?[A-Z]\w+: \d+\*\d)"
    r"|(?P<swap>Free swap|Total swap)|(?P<pages>\d+ pages [Rr])"
    r"|(?P<stat>(?:total_(?:rss|cache|shmem)|anon|file|shmem|slab) \d)|(?P<panic>Kernel panic)"
    r"|(?P<table>\[ *(?:pid|\d+ *\]))|(?P<sysrq>[Ss]ys[Rr]q)|(?P<gap>[^\w.…]*+(?:\.\.\.|…|snip|cut\b)))"
)

# The first letters of these, for a quick no.
_STARTS = frozenset(
    (
        *("oom-", "oom_", "Out ", "out ", "Memo", "memo", "Kill", "kill", "swap", "Task", "CPU:", "Pid:", "PID:"),
        *("acti", "inac", "slab", "free", "mapp", "unev", "Node", "DMA ", "DMA:", "DMA3", "Norm", "High", "Mova"),
        *("Devi", "Free", "Tota", "tota", "anon", "file", "shme", "Kern", "SysR", "sysr", "Sysr", "sysR", "snip"),
    )
)


def kind(text: str) -> str | None:
    """What kind of line `text` begins like."""
    if text[:1].isalpha() and text[:4] not in _STARTS:
        return None
    start = _START.match(text)
    return None if start is None else start.lastgroup


def is_noise(text: str) -> bool:
    """Whether `text`, behind a known prefix, is surely nothing of a report."""
    return (
        text[:4] not in _STARTS
        and text[:1].isalpha()
        and "oom" not in text
        and " mems_allowed=" not in text
        and "out_of_memory+" not in text
    )


def may_be_inside(text: str) -> bool:
    """Whether `text`, which begins like no line of a report, may be one that begins with a name."""
    return "oom" in text or " mems_allowed=" in text or "out_of_memory+" in text


def may_be_behind(text: str) -> bool:
    """Whether a line of a report may stand in `text` behind a prefix that nobody knows."""
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
        or ("] " in text and _ROW.search(text) is not None)
    )


def _last(found: Iterator[re.Match[str]]) -> re.Match[str] | None:
    last = None
    for one in found:
        last = one
    return last


# "java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), nodemask=0, order=0, oom_score_adj=0"

_INVOKED = "invoked oom-killer"
_GFP = re.compile(r"gfp_mask=(0x[0-9a-fA-F]{1,16})\b(?:\(([A-Za-z_|0-9]{1,300})\))?")
_ORDER = re.compile(rf"\border=({_N})(?!\d)")
_ADJ = re.compile(rf"\boom_score_adj=({_N})(?!\d)")
_NODEMASK = re.compile(r"\bnodemask=([\d,-]{1,200}?)(?=,? |,$|$)")


def invoked(text: str) -> tuple[Invoker, str | None] | None:
    """Who asked, and the nodes that the allocation was bound to. Before the name may stand a prefix of a kind that
    nobody knows."""
    at = text.find(_INVOKED)
    if at < 0:
        return None
    rest = text[at + len(_INVOKED) :]
    gfp, order, adj, nodes = (pattern.search(rest) for pattern in (_GFP, _ORDER, _ADJ, _NODEMASK))
    invoker = Invoker(
        comm=text[:at].removesuffix(" ") or None,
        gfp_mask=gfp[1] if gfp else None,
        order=int(order[1]) if order else None,
        oom_score_adj=int(adj[1]) if adj else None,
        gfp_words=gfp[2] if gfp else None,
    )
    return invoker, nodes[1] if nodes else None


# "CPU: 0 UID: 0 PID: 113 Comm: eater Not tainted 6.18.0 #1", "Pid: 24113, comm: sshd Not tainted 2.6.32 #1"

_CPU = re.compile(r"\bP(?:ID: ?|id: )(?P<pid>\d{1,10}),? [Cc]omm: ?(?P<rest>.*)", re.DOTALL)
_TAINT = re.compile(
    r"(?:Kdump: loaded )?(?:Not tainted|Tainted: [^\d\n]{0,80}?)\s{1,20}\(?(?P<kernel>\d{1,3}\.\d[^\s)]{0,80})"
)


class Cpu(NamedTuple):
    """`comm`: None where it can't be told from what follows it."""

    pid: int
    comm: str | None
    kernel: str | None


def cpu(text: str, expected: str | None) -> Cpu | None:
    """The line that dump_stack() starts with. `expected`: the name that the report began with."""
    if "omm: " not in text:
        return None
    match = _CPU.search(text)
    if match is None:
        return None
    pid, rest = int(match["pid"]), match["rest"]
    if expected is not None and rest.startswith(expected) and rest[len(expected) :][:1] in ("", " "):
        taint = _TAINT.match(rest, len(expected) + 1)
        return Cpu(pid, expected, taint["kernel"] if taint else None)
    taint = _last(_TAINT.finditer(rest))  # a name may look like the first
    if taint is None:
        return Cpu(pid, rest.rstrip() or None, None)
    return Cpu(pid, rest[: taint.start()].removesuffix(" "), taint["kernel"])


# "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name" and its rows

_HEADER = re.compile(r"\[ {0,9}pid {0,9}\]\s{1,9}uid\s{1,9}(?P<columns>tgid\s{1,9}total_vm\s{1,9}rss\b.{0,300})")
_ROW = re.compile(rf"\[ {{0,9}}(\d{{1,10}})\]((?:\s{{1,20}}{_N}){{6,10}}) (.*)", re.DOTALL)
_ROW_BROKEN = re.compile(rf"\[ {{0,9}}\d{{1,10}}\](?:\s{{1,20}}{_N}){{2,10}}\s*$")
_TABLES = ("nr_ptes", "nr_pmds", "nr_puds")


def header(text: str) -> tuple[str, ...] | None:
    """The columns of the task table; without "name" as the last, the line is cut."""
    match = _HEADER.search(text) if "total_vm" in text else None
    if match is None:
        return None
    columns = ("pid", "uid", *match["columns"].split())
    return columns if len(set(columns)) == len(columns) and "rss" in columns else None


def row_pattern(columns: tuple[str, ...]) -> re.Pattern[str]:
    """Matches a row of that table: its pid, its numbers, the name. One blank before it, the rest is the name's."""
    numbers = len(columns) - 2
    return re.compile(rf"\[ {{0,9}}(\d{{1,10}})\]((?:\s{{1,20}}{_N}){{{numbers}}})(?: (.*))?$", re.DOTALL)


def row_without_header(text: str) -> Task | None:
    """A row of a table whose header isn't in the log. What its middle columns are is only a guess, and left out."""
    match = _ROW.search(text)
    if match is None:
        return None
    numbers = match[2].split()
    uid, tgid, total_vm, rss = (int(number) for number in numbers[:4])
    return Task(int(match[1]), tgid, uid, total_vm, rss, None, None, int(numbers[-1]), match[3])


def row_is_broken(text: str) -> bool:
    """Whether a mailer may have broken a row here."""
    return _ROW_BROKEN.match(text) is not None


class Layout:
    """How to read the rows under one header. `counts_tables`: page tables are a number of pages in it."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        at = {name: index - 1 for index, name in enumerate(columns)}  # the pid is matched apart
        self.columns = columns
        self._pattern = row_pattern(columns)
        self.counts_tables = "pgtables_bytes" not in at and any(name in at for name in _TABLES)
        self._tgid, self._total_vm, self._rss = at["tgid"], at["total_vm"], at["rss"]
        self._pgtables, self._swapents = at.get("pgtables_bytes"), at.get("swapents")
        self._adj = at.get("oom_score_adj")
        self._tables = [at[name] for name in _TABLES if name in at]
        wanted = {"uid", "tgid", "total_vm", "rss", "pgtables_bytes", "swapents", "oom_score_adj", *_TABLES}
        self._raw = rb"\[ {0,9}(\d{1,10})\]" + b"".join(
            rb"[ \t]+(-?\d{1,18})" if name in wanted else rb"[ \t]+-?\d{1,18}" for name in columns[1:-1]
        )
        shown = [name for name in columns[1:-1] if name in wanted]
        self._is_usual = shown == ["uid", "tgid", "total_vm", "rss", "pgtables_bytes", "swapents", "oom_score_adj"]
        self._shown = [columns.index(name) - 1 for name in shown]

    def row(self, text: str) -> Task | None:
        """A row, or None if `text` isn't one of this table."""
        match = self._pattern.match(text)
        if match is None:
            return None
        pid, middle, comm = match.groups("")
        return self._task(int(pid), [int(number) for number in middle.split()], comm)

    def raw_pattern(self, prefix: bytes) -> re.Pattern[bytes]:
        """Matches a whole line of a table as bytes; `prefix` is a pattern of what stands before each row."""
        return re.compile(prefix + self._raw + rb" ([^\n]{1,255})\n")

    def raw_row(self, match: re.Match[bytes]) -> Task:
        """What a match of a `raw_pattern` says."""
        if self._is_usual:
            pid, uid, tgid, total_vm, rss, pgtables, swapents, adj, comm = match.groups()
            comm = comm.rstrip() if comm.endswith((b"\r", b"  ")) else comm
            name = comm.decode() if comm.isascii() else decode(comm)
            return Task(
                int(pid), int(tgid), int(uid), int(total_vm), int(rss), int(pgtables), int(swapents), int(adj), name
            )
        first, *shown, comm = match.groups()
        numbers = [0] * (len(self.columns) - 2)
        for at, number in zip(self._shown, shown, strict=True):
            numbers[at] = int(number)
        return self._task(int(first), numbers, decode(comm.rstrip(b"\r")))

    def _task(self, pid: int, numbers: list[int], comm: str) -> Task:
        pgtables = None
        if self._pgtables is not None:
            pgtables = numbers[self._pgtables]
        elif self._tables:
            # Counted in tables; each fills a page (mm_pgtables_bytes()), here of 4 KiB.
            pgtables = 4096 * sum(numbers[index] for index in self._tables)
        return Task(
            pid,
            numbers[self._tgid],
            numbers[0],
            numbers[self._total_vm],
            numbers[self._rss],
            pgtables,
            None if self._swapents is None else numbers[self._swapents],
            None if self._adj is None else numbers[self._adj],
            comm,
        )


@functools.lru_cache(maxsize=32)
def layout(columns: tuple[str, ...]) -> Layout:
    """The layout under a header. A machine has one kind of table, and a header in each report."""
    return Layout(columns)


# "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=x,
# pid=1,uid=0"

_SUMMARY = re.compile(
    r"oom-kill:constraint=(?P<constraint>CONSTRAINT_[A-Z_]{1,30})"
    r"(?:,nodemask=(?P<nodes>\(null\)|[\d,-]{1,200}?)(?=,cpuset=|,\w|$))?"
)
_MEMS = re.compile(r",mems_allowed=(?P<mems>[\d,-]{1,200}?)(?=,global_oom|,oom_memcg=|,task|\s*$)")
_SUMMARY_END = re.compile(r",pid=(?P<pid>\d{1,10}),uid=(?P<uid>\d{1,10})\W*$")
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
_SUMMARY_SHORT = re.compile(r",mems_allowed=[\d,-]{0,200}\s*$")


class Summary(NamedTuple):
    """`names`: what the victim's name may be, the likeliest first; more than one where it holds ",task=".
    `end`: "whole", "short" (ends with mems_allowed), "cut"."""

    constraint: str
    nodes: str | None
    mems_allowed: str | None
    memcg: str | None
    task_memcg: str | None
    names: tuple[str, ...]
    pid: int | None
    uid: int | None
    end: str


def summary(text: str) -> Summary | None:
    """The line of dump_oom_victim() (since 5.0)."""
    match = _SUMMARY.search(text)
    if match is None:
        return None
    mems = _MEMS.search(text, match.end())
    nodes = None if match["nodes"] == "(null)" else match["nodes"]
    end = _SUMMARY_END.search(text, match.end())
    middle = text[mems.end() if mems else match.end() : end.start() if end else None]
    names: tuple[str, ...] = ()
    if end is not None:
        starts = [at.end() for at in re.finditer(",task=", middle)]
        fitting = [at for at in starts if comm_length(middle[at:]) <= COMM_MAX]
        names = tuple(middle[at:] for at in (fitting or starts[-1:]))
        middle = middle[: (fitting or starts or [len(middle)])[0]].removesuffix(",task=")
    memcg, task_memcg = _paths(middle, whole=end is not None)
    how = "whole" if end is not None and "\n" not in text else "short" if _SUMMARY_SHORT.search(text) else "cut"
    pid, uid = (int(end["pid"]), int(end["uid"])) if end else (None, None)
    return Summary(match["constraint"], nodes, mems["mems"] if mems else None, memcg, task_memcg, names, pid, uid, how)


def comm_length(name: str) -> int:
    """The bytes of a name. The log may show an odd byte as \\xNN."""
    return len(_ESCAPED.sub("?", name).encode(errors="replace"))


def _paths(text: str, *, whole: bool) -> tuple[str | None, str | None]:
    """oom_memcg and task_memcg. The latter is the former or below it, which tells where a path holds ",task_memcg="."""
    start = text.find(",oom_memcg=")
    splits = [at.start() for at in re.finditer(",task_memcg=", text)]
    if start < 0:
        return None, text[splits[0] + 12 :] if splits and whole else None
    pairs = [(text[start + 11 : at], text[at + 12 :]) for at in splits]
    if not pairs:
        return None, None
    memcg, task = next((pair for pair in pairs if _is_below(pair[1], pair[0])), pairs[0])
    return memcg, task if whole else None


def _is_below(path: str, ancestor: str) -> bool:
    return path == ancestor or path.startswith(ancestor.rstrip("/") + "/")


# What ends with a name is no stack trace, whatever the name.
_TRACE = re.compile(rb"\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}(?: \[[\w-]+\])?\s*$")
_ROW_LIKE = re.compile(rb"\](?:[ \t]+-?\d+){3}")


def is_trace(raw: bytes) -> bool:
    """Whether a line is a call in a stack trace that says nothing of an OOM."""
    return _TRACE.search(raw) is not None and b"mem_cgroup_out_of_memory+" not in raw and _ROW_LIKE.search(raw) is None


# "Memory cgroup out of memory: Killed process 1 (x) total-vm:4kB, anon-rss:4kB, file-rss:4kB, shmem-rss:0kB, UID:0
# pgtables:4kB oom_score_adj:0"; "Killed process 1, UID 500, (x) total-vm:…" (RHEL 6); "Killed process 1 (x) vsz:…"

_FIELDS = {
    "total-vm": "total_vm_kb",
    "vsz": "total_vm_kb",
    "anon-rss": "anon_rss_kb",
    "file-rss": "file_rss_kb",
    "shmem-rss": "shmem_rss_kb",
    "UID": "uid",
    "pgtables": "pgtables_kb",
    "oom_score_adj": "oom_score_adj",
}
_FIGURE = re.compile(r"\b(?:(UID|oom_score_adj):(-?\d{1,18})(?!\d)|([a-z]{3,9}(?:-vm|-rss)?):(\d{1,18})[kl]B)")
_KILLED_HEAD = re.compile(r"Killed process :?(?P<pid>\d{1,10}),?(?: UID (?P<uid>\d{1,10}),?)? \(")
# The name ends where nothing but figures follow.
_KILLED_END = re.compile(
    r"\)[,.]?(?: UID (?P<uid>\d{1,10}),?)?(?P<figures>"
    r"(?: ?(?:vsz|[a-z]{4,9}-(?:vm|rss)|UID|pgtables|oom_score_adj):-?\d{1,18}(?:[kl]B)?,?)*)[^\w()]*$"
)
_KILLED_FIGURES = re.compile(r"\),? (?:UID \d{1,10},? )?(?=total-vm:|vsz:)")
_KILLED_OPEN = re.compile(
    r"(?:out of memory[^:]{0,40}: Killed|Killed process(?: \d{1,10})?,?(?: UID)?(?: \d{1,10},)?)\s*$",
    re.IGNORECASE,
)
_KILLED_MORE = re.compile(
    r"\s*(?:process \d|\d{1,10},? |UID |\(|[^\n)]{0,15}\)"
    r"|(?:total-vm|vsz|anon-rss|file-rss|shmem-rss|UID|pgtables|oom_score_adj):)"
)
_WORDS = re.compile(r"Memory cgroup out of memory|Out of memory(?: \(oom_kill_allocating_task\))?", re.IGNORECASE)


class KillLine(NamedTuple):
    """`words`: what stands before, "Out of memory" and such. `whole`: the line has its end."""

    killed: Killed
    words: str
    whole: bool


def kill_line(text: str) -> KillLine | None:
    """The line that is written for each process killed, in all its forms."""
    head = _KILLED_HEAD.search(text)
    if head is None:
        return None
    end = _KILLED_END.search(text, head.end())
    whole = end is not None
    if end is None:
        # Cut, or something follows. A name can't be that long, so the last of these is the end of it.
        end = _last(_KILLED_FIGURES.finditer(text, head.end(), head.end() + 4 * COMM_MAX + 20))
    stop = end.start() if end is not None else text.find(")", head.end())
    if stop < 0:
        stop = len(text)  # cut within the name
    values = {
        _FIELDS[name]: int(value)
        for a, b, c, d in _FIGURE.findall(text, stop)
        if (name := a or c) in _FIELDS and (value := b or d)
    }
    uid = head["uid"] or (end["uid"] if whole and end is not None else None)
    if uid is not None:
        values["uid"] = int(uid)
    words = words_before(text[: head.start()])
    return KillLine(Killed(int(head["pid"]), text[head.end() : stop], **values), words, whole)


def words_before(text: str) -> str:
    """Which kind of OOM the kernel says it is, at the end of `text`: "Out of memory", "Memory cgroup out of memory"."""
    found = _WORDS.findall(text)
    return found[-1].capitalize() if found else ""


def kill_line_is_broken(text: str) -> bool:
    """Whether a mailer or a line feed in the name may have broken a kill line here."""
    head = _KILLED_HEAD.search(text)
    if head is None:
        return "Killed" in text and _KILLED_OPEN.search(text) is not None
    end = _KILLED_END.search(text, head.end())
    if end is None:
        return ")" not in text[head.end() :] or _KILLED_FIGURES.search(text, head.end()) is not None
    figures = end["figures"].rstrip()
    return figures.endswith(",") or re.search(r"(?:UID|pgtables):\d{1,18}(?:kB)?$", figures) is not None


def continues_kill_line(text: str) -> bool:
    """Whether `text` looks like the rest of a broken kill line."""
    return _KILLED_MORE.match(text) is not None


# "Out of memory: Kill process 1 (x) score 900 or sacrifice child", "… with score …", "… kill process … or a child"

_CHOSEN = re.compile(r"[Kk]ill process (\d{1,10}),? \((.*)\),? (?:with )?score (\d{1,18})\b", re.DOTALL)


def chosen(text: str) -> tuple[Chosen, str] | None:
    """Whom the kernel took, before a child could be sacrificed, and the words before it."""
    match = _CHOSEN.search(text)
    if match is None:
        return None
    return Chosen(int(match[1]), match[2], int(match[3])), words_before(text[: match.start()])


_REAPED = re.compile(r"oom_reaper: reaped process :?(\d{1,10}) \((.*)\)", re.DOTALL)


def reaped(text: str) -> Killed | None:
    """ "oom_reaper: reaped process 1 (x), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB" (since 4.6)."""
    match = _REAPED.search(text)
    return None if match is None else Killed(int(match[1]), match[2])


_LIMIT = re.compile(r"Task in (/.*) killed as a result of limit of (/.*?)\s*$")


def limit_of(text: str) -> tuple[str, str] | None:
    """The victim's memory cgroup and the one with the limit (until 4.20)."""
    match = _LIMIT.search(text)
    return None if match is None else (match[1], match[2])


_GROUP = re.compile(r"Tasks in (/.*) are going to be killed due to memory\.oom\.group set")


def group(text: str) -> str | None:
    """The memory cgroup that is killed as a whole (since 4.19)."""
    match = _GROUP.search(text)
    return None if match is None else match[1]


_PANIC = re.compile(r"Kernel panic - not syncing: (.*?)\s*$", re.DOTALL)
_PANIC_OOM = re.compile(r"out of memory|deadlocked on memory|panic_on_oom", re.IGNORECASE)


def panic(text: str) -> str | None:
    """Why the kernel panicked, if for want of memory."""
    match = _PANIC.search(text)
    return match[1] if match is not None and _PANIC_OOM.search(match[1]) else None


# The memory picture.

_USAGE = re.compile(r"(memory\+swap|memory|swap): usage (\d{1,18})kB, limit (\d{1,20})kB")
_STATS = re.compile(r"Memory cgroup stats for (?P<memcg>/.*?)(?:: ?(?P<inline>cache:.*))?:?\s*$")
_INLINE = re.compile(r"\b(cache|rss|shmem|swap):(\d{1,18})KB")
_INLINE_KEYS = {"cache": "file_kb", "rss": "anon_kb", "shmem": "shmem_kb", "swap": "swap_usage_kb"}
_STAT = re.compile(r"\s*(total_rss|total_cache|total_shmem|anon|file|shmem|slab) (\d{1,20})\s*$")
_STAT_KEYS = {
    "total_rss": "anon_kb",
    "total_cache": "file_kb",
    "total_shmem": "shmem_kb",
    "anon": "anon_kb",
    "file": "file_kb",
    "shmem": "shmem_kb",
    "slab": "slab_kb",
}
_COUNTER = re.compile(
    r"\b(active_anon|inactive_anon|active_file|inactive_file|slab_reclaimable|slab_unreclaimable|shmem|free|free_cma|unevictable):"
    r"(\d{1,18})(?!\d|kB)"
)
_NODE = re.compile(
    r"(?:Node (\d{1,5}) )?(\w{1,20}) free:(\d{1,18})kB (?:boost:\d{1,18}kB )?(?:min:(\d{1,18})kB )?"
    r".* present:(\d{1,18})kB"
)
_BUDDY = re.compile(r"(?:Node (\d{1,5}) )?(\w{1,20}): \d{1,12}\*(\d{1,4})kB ")
_BLOCKS = re.compile(r"\b(\d{1,12})\*\d{1,8}kB")
_HUGE = re.compile(r"hugepages_total=(\d{1,12}) .*hugepages_size=(\d{1,10})kB")
_SWAP = re.compile(r"(Free|Total) swap {1,3}[=:] {0,3}(\d{1,18})kB")
_PAGES = re.compile(r"(\d{1,17}) pages (RAM|reserved)\s*$")


def usage(text: str) -> dict[str, int] | None:
    """ "memory: usage 4kB, limit 4kB, failcnt 9" of a memory cgroup."""
    match = _USAGE.search(text)
    if match is None:
        return None
    name, used, limit = match[1], int(match[2]), int(match[3])
    if name == "memory+swap":
        return {"memsw_limit_kb": limit}
    if name == "swap":
        return {"swap_usage_kb": used, "swap_limit_kb": limit}
    return {"usage_kb": used, "limit_kb": limit}


def stats_of(text: str) -> tuple[str, dict[str, int] | None] | None:
    """ "Memory cgroup stats for /a:" names the group with the limit. Its old form, with the figures behind it (KiB),
    comes for each group below the limit, and doesn't say which has it."""
    match = _STATS.search(text)
    if match is None:
        return None
    if match["inline"] is None:
        return match["memcg"], None
    return match["memcg"], {_INLINE_KEYS[key]: int(kb) for key, kb in _INLINE.findall(match["inline"])}


def stat(text: str) -> tuple[str, int] | None:
    """A line of a memory cgroup's memory.stat."""
    match = _STAT.match(text)
    return None if match is None else (_STAT_KEYS[match[1]], int(match[2]) // 1024)


def counters(text: str) -> list[tuple[str, int]]:
    """Counters of the whole machine (show_free_areas()), in pages."""
    if text.startswith("Node "):
        return []
    return [(key, int(pages)) for key, pages in _COUNTER.findall(text)]


def zone(text: str) -> Zone | None:
    """ "Node 0 DMA free:4kB min:4kB … present:9kB …". Machines with one node may leave its number out."""
    match = _NODE.search(text)
    if match is None:
        return None
    node, name, free, lowest, present = match.groups()
    return Zone(int(node or 0), name, int(present), int(free), None if lowest is None else int(lowest))


class FreeBlocks(NamedTuple):
    """A zone's free pieces of 2^n pages, n from 0. page_kb: the size of a page."""

    node: int
    zone: str
    page_kb: int
    blocks: tuple[int, ...]


def free_blocks(text: str) -> FreeBlocks | None:
    """ "Node 0 DMA: 261*16kB (UE) 12*32kB …" (show_free_areas() lists them by size)."""
    match = _BUDDY.match(text)
    if match is None:
        return None
    counts = tuple(int(count) for count in _BLOCKS.findall(text)[:32])
    return FreeBlocks(int(match[1] or 0), match[2], int(match[3]), counts)


def huge_pages(text: str) -> int | None:
    """ "Node 0 hugepages_total=4 hugepages_free=4 hugepages_surp=0 hugepages_size=2048kB": all of them, in KiB."""
    match = _HUGE.search(text)
    return None if match is None else int(match[1]) * int(match[2])


def swap(text: str) -> tuple[str, int] | None:
    """ "Total swap = 4kB" and "Free swap = 4kB", in KiB."""
    match = _SWAP.search(text)
    return None if match is None else ("swap_free_kb" if match[1] == "Free" else "swap_total_kb", int(match[2]))


def machine_pages(text: str) -> tuple[str, int] | None:
    """ "9 pages RAM" and "1 pages reserved"."""
    match = _PAGES.search(text)
    return None if match is None else ("ram" if match[2] == "RAM" else "reserved", int(match[1]))


_MEMS_ALLOWED = re.compile(r" cpuset=.* mems_allowed=([\d,-]{1,200})\s*$")
_GAP = re.compile(r"[^\w.…]*(?:\.{3,}|…|snip\w*|cut)(?:\W*|.*(?:snip|skip|cut|omit|elid|lines|more).*)$", re.IGNORECASE)


def mems_allowed(text: str) -> str | None:
    """ "java cpuset=/ mems_allowed=0-1": the NUMA nodes that the invoker may use (until 4.20)."""
    match = _MEMS_ALLOWED.search(text) if "mems_allowed=" in text else None
    return None if match is None else match[1]


_STACK = re.compile(r"Stack ?:|\s*(?:[0-9a-f]{8}|[0-9a-f]{16})(?: (?:[0-9a-f]{8}|[0-9a-f]{16}))+\s*$")


def is_stack(text: str) -> bool:
    """A line of a stack's words in hexadecimal. On MIPS "..." follows where they go on (show_stacktrace())."""
    return _STACK.match(text) is not None


def is_gap(text: str) -> bool:
    """ "[...]", "<snip>": someone left lines out."""
    return _GAP.match(text) is not None


def nodes(text: str) -> set[int]:
    """ "0-1,4" as numbers. A list that no machine has is empty."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit() or len(first) > 4 or len(last) > 4:
            return set()
        found.update(range(int(first), int(last or first) + 1))
    return found
