"""Lines of a report that say whom the kernel chose and killed: kernel text to values. Pure.

For where a report comes from, and how it is read, see `lines`.
"""

import re
from typing import NamedTuple

from oomwatchd.base.uapi import COMM_MAX
from oomwatchd.oomlog.line_parts import comm_length, last
from oomwatchd.oomlog.record import Chosen, Killed

# "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=x,
# pid=1,uid=0"

_SUMMARY = re.compile(
    r"oom-kill:constraint=(?P<constraint>CONSTRAINT_[A-Z_]{1,30})"
    r"(?:,nodemask=(?P<nodes>\(null\)|[\d,-]{1,200}?)(?=,cpuset=|,\w|$))?"
)
_MEMS = re.compile(r",mems_allowed=(?P<mems>[\d,-]{1,200}?)(?=,global_oom|,oom_memcg=|,task|\s*$)")
_SUMMARY_END = re.compile(r",pid=(?P<pid>\d{1,10}),(?:uid=(?P<uid>-?\d{1,10})?)?\W*$")
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
    whole = end is not None and end["uid"] is not None and "\n" not in text
    how = "whole" if whole else "short" if _SUMMARY_SHORT.search(text) else "cut"
    pid = int(end["pid"]) if end is not None else None
    uid = int(end["uid"]) if end is not None and end["uid"] is not None else None
    return Summary(match["constraint"], nodes, mems["mems"] if mems else None, memcg, task_memcg, names, pid, uid, how)


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
_FIGURE = re.compile(r"\b(?:(UID|oom_score_adj): ?(-?\d{1,18})(?!\d)|([a-z]{3,9}(?:-vm|-rss)?): ?(\d{1,18})[kl]B)")
_KILLED_HEAD = re.compile(r"Killed process :?(?P<pid>\d{1,10}),?(?: UID (?P<uid>\d{1,10}),?)? \(")
# The name ends where nothing but figures follow.
_KILLED_END = re.compile(
    r"\)[,.]?(?: UID (?P<uid>\d{1,10}),?)?(?P<figures>"
    r"(?: ?(?:vsz|[a-z]{4,9}-(?:vm|rss)|UID|pgtables|oom_score_adj): ?-?\d{1,18}(?:[kl]B)?,?)*)[^\w()]*$"
)
_KILLED_FIGURES = re.compile(r"\),? (?:UID \d{1,10},? )?(?=total-(?:vm:|$)|vsz:)")
_KILLED_OPEN = re.compile(
    r"(?:out of memory[^:]{0,40}: (?:Killed|OOM)|Killed process(?: \d{1,10})?,?(?: UID)?(?: \d{1,10},)?)\s*$",
    re.IGNORECASE,
)
_KILLED_FIGURE_NEXT = re.compile(r"\s*(?:total-vm|vsz|anon-rss|file-rss|shmem-rss|UID|pgtables|oom_score_adj):")
_KILLED_PART = re.compile(r"\s*(?:(?:vm|rss):)?\d{1,18}[kl]B\b|\s*(?:vm|rss):$")
_KILLED_MORE = re.compile(
    rf"\s*(?:(?:killed )?process \d|\d{{1,10}},? |UID |\(|[^\n)]{{0,15}}\))|{_KILLED_FIGURE_NEXT.pattern}"
)
_OF_CGROUP = "Memory cgroup out of memory"
_WORDS = re.compile(
    r"Memory cgroup out of memory|Out of memory(?: \(oom_kill_allocating_task\))?"
    r"|No available memory (?:\(MPOL_BIND\)|in cpuset)",  # until 2.6.35
    re.IGNORECASE,
)


class KillLine(NamedTuple):
    """`words`: what stands before, "Out of memory" and such. `whole`: the line has its end."""

    killed: Killed
    words: str
    whole: bool


def kill_line(text: str) -> KillLine | None:
    """The line that is written for each process killed, in all its forms."""
    head = _KILLED_HEAD.search(text)
    if head is None:
        return _of_openvz(text)
    end = _KILLED_END.search(text, head.end())
    whole = end is not None
    if end is None:
        # Cut, or something follows. A name can't be that long, so the last of these is the end of it.
        end = last(_KILLED_FIGURES.finditer(text, head.end(), head.end() + 4 * COMM_MAX + 20))
    stop = end.start() if end is not None else _closing(text, head.end())
    comm = text[head.end() : stop] if stop >= 0 else None  # cut within the name
    stop = stop if stop >= 0 else len(text)
    values: dict[str, int] = {}
    for a, b, c, d in _FIGURE.findall(text, stop):
        if (name := a or c) in _FIELDS:
            values.setdefault(_FIELDS[name], int(b or d))  # another line may follow without a line feed
    uid = head["uid"] or (end["uid"] if whole and end is not None else None)
    if uid is not None:
        values["uid"] = int(uid)
    words = words_before(text[: head.start()])
    return KillLine(Killed(int(head["pid"]), comm, **values), words, whole)


def _closing(text: str, start: int) -> int:
    """Where the bracket that closes the name stands, if each bracket within the name is closed; -1: nowhere."""
    first = at = text.find(")", start)
    while at >= 0 and not is_balanced(text[start:at]):
        at = text.find(")", at + 1, start + 4 * COMM_MAX)
    return first if at < 0 else at


def is_balanced(name: str) -> bool:
    """Whether each bracket that a name opens is closed in it."""
    return name.count("(") <= name.count(")")


# OpenVZ's and Virtuozzo's kernels; a "UB" is a container, 0 the host.
_OPENVZ = re.compile(
    r"[Oo]ut of memory in UB (?P<ub>\d{1,10}): OOM killed process (?P<pid>\d{1,10}) \((?P<comm>.*)\) "
    r"score -?\d{1,10} vm:(?P<vm>\d{1,18})kB, rss:"
)
# "OOM killed process x (pid=1, ve=101) exited, free=43104 gen=24501." (until 2.6.18)
_OPENVZ_EXIT = re.compile(
    r"OOM killed process (?P<comm>.{1,64}) \(pid=(?P<pid>\d{1,10}), ve=\d{1,10}\) exited, free=\d"
)


def _of_openvz(text: str) -> KillLine | None:
    match = _OPENVZ.search(text)
    if match is None:
        exited = _OPENVZ_EXIT.search(text)
        return None if exited is None else KillLine(Killed(int(exited["pid"]), exited["comm"]), "", True)
    words = "Out of memory" if match["ub"] == "0" else _OF_CGROUP
    return KillLine(Killed(int(match["pid"]), match["comm"], total_vm_kb=int(match["vm"])), words, True)


def words_before(text: str) -> str:
    """Which kind of OOM the kernel says it is, at the end of `text`: "Out of memory", "Memory cgroup out of memory"."""
    found = _WORDS.findall(text)
    if not found:
        return ""
    # A small letter follows "Memory cgroup", which a cut or a mailer's line feed has taken away.
    return _OF_CGROUP if found[-1] == "out of memory" else found[-1].capitalize()


def kill_line_is_broken(text: str) -> bool:
    """Whether a mailer or a line feed in the name may have broken a kill line here."""
    head = _KILLED_HEAD.search(text)
    if head is None:
        return ("Killed" in text or "UB " in text) and _KILLED_OPEN.search(text) is not None
    end = _KILLED_END.search(text, head.end())
    if end is None:
        return ")" not in text[head.end() :] or _KILLED_FIGURES.search(text, head.end()) is not None
    figures = end["figures"].rstrip()
    return not figures or figures.endswith(",") or re.search(r"(?:UID|pgtables):\d{1,18}(?:kB)?$", figures) is not None


def continues_kill_line(start: str, text: str) -> bool:
    """Whether `text` looks like the rest of the kill line that begins with `start`."""
    if start.rstrip().endswith((":", "-")):
        return _KILLED_PART.match(text) is not None
    head = _KILLED_HEAD.search(start)
    end = None if head is None else _KILLED_END.search(start, head.end())
    pattern = _KILLED_MORE if end is None else _KILLED_FIGURE_NEXT
    return pattern.match(text) is not None


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


_GROUP = re.compile(r"Tasks in (/.*) are going to be killed due to memory\.oom\.group set")


def group(text: str) -> str | None:
    """The memory cgroup that is killed as a whole (since 4.19)."""
    match = _GROUP.search(text)
    return None if match is None else match[1]


_PANIC = re.compile(r"Kernel panic - not syncing: (.*\S)", re.DOTALL)
_PANIC_OOM = re.compile(r"out of memory|deadlocked on memory|panic_on_oom", re.IGNORECASE)


def panic(text: str) -> str | None:
    """Why the kernel panicked, if for want of memory."""
    match = _PANIC.search(text)
    return match[1].removesuffix(" ]---") if match is not None and _PANIC_OOM.search(match[1]) else None
