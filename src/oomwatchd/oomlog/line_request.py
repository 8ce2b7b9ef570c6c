"""Lines of a report that say who asked for memory: kernel text to values. Pure.

For where a report comes from, and how it is read, see `lines`.
"""

import re
from typing import NamedTuple

from oomwatchd.oomlog.line_parts import NUMBER, last
from oomwatchd.oomlog.record import Invoker

# "java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), nodemask=0, order=0, oom_score_adj=0"

_INVOKED = "invoked oom-killer"
_NAMELESS = re.compile(r"\s*oom-killer: gfp_mask=")
_GFP = re.compile(r"gfp_mask=(0x[0-9a-fA-F]{1,16})\b(?:\(([A-Za-z_|0-9]{1,300})\))?")
_ORDER = re.compile(rf"\border=({NUMBER})(?!\d)")
_ADJ = re.compile(rf"\boom_score_adj=({NUMBER})(?!\d)")
_NODEMASK = re.compile(r"\bnodemask=([\d,-]{1,200}?)(?=,? |,$|$)")


def invoked(text: str) -> tuple[Invoker, str | None] | None:
    """Who asked, and the nodes that the allocation was bound to. Before the name may stand a prefix of a kind that
    nobody knows. Until 2.6.17 no name is told: "oom-killer: gfp_mask=0xd0, order=0"."""
    at = text.find(_INVOKED)
    if at < 0 and _NAMELESS.match(text) is None:
        return None
    rest = text[at + len(_INVOKED) :] if at >= 0 else text
    gfp, order, adj, nodes = (pattern.search(rest) for pattern in (_GFP, _ORDER, _ADJ, _NODEMASK))
    invoker = Invoker(
        comm=text[: max(at, 0)].removesuffix(" ") or None,
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
    taint = last(_TAINT.finditer(rest))  # a name may look like the first
    if taint is None:
        return Cpu(pid, rest.rstrip() or None, None)
    return Cpu(pid, rest[: taint.start()].removesuffix(" "), taint["kernel"])


_MEMS_ALLOWED = re.compile(r" mems_allowed=([\d,-]{1,200})\s*$")


def mems_allowed(text: str) -> str | None:
    """ "java cpuset=/ mems_allowed=0-1": the NUMA nodes that the invoker may use (until 4.20)."""
    match = _MEMS_ALLOWED.search(text)
    return match[1] if match is not None and " cpuset=" in text[: match.start()] else None


def nodes(text: str) -> set[int]:
    """ "0-1,4" as numbers. A list that no machine has is empty."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit() or len(first) > 4 or len(last) > 4:
            return set()
        found.update(range(int(first), int(last or first) + 1))
    return found
