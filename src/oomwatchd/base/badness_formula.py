"""The formula by which the kernel's OOM killer chooses (oom_badness() in mm/oom_kill.c), and how it has changed. Pure.

Two rooms that don't import each other calculate with it: `oom` with facts from /proc, `oomlog` with the table in a log.
All amounts are pages."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Era:
    """How the kernels of one period choose. The period begins with the kernel `since`, and ends before the next newer
    one in ERAS."""

    since: tuple[int, int]
    """The first two numbers of the kernel's version."""
    clamps: bool
    """Whether points below 1 count as 1."""
    last_of_equals: bool
    """Whether of several processes with the same points the last one that was scanned dies; False: the first one."""
    root_bonus: bool
    """Whether 3 % of the memory of a process with CAP_SYS_ADMIN aren't counted."""
    note: str
    """These rules in words, for people."""


ERAS = (
    Era(
        (5, 9),
        clamps=False,
        last_of_equals=True,
        root_bonus=False,
        note="points may be negative; of equals the last scanned dies (commit 9066e5cfb73c)",
    ),
    Era(
        (5, 3),
        clamps=True,
        last_of_equals=True,
        root_bonus=False,
        note="points below 1 count as 1, so that ties are common among the lowered",
    ),
    Era(
        (4, 17),
        clamps=True,
        last_of_equals=False,
        root_bonus=False,
        note="as from 5.3 on, but of equals the first scanned dies; up to 5.0 a child of the one chosen may "
        "die in its place (removed by bbbe48029720)",
    ),
    Era(
        (0, 0),
        clamps=True,
        last_of_equals=False,
        root_bonus=True,
        note="as before 5.3, and 3 % of its memory is forgiven to a process with CAP_SYS_ADMIN "
        "(removed by d46078b28889). Reckoned as 3.14 to 4.16 do it; older kernels differ more",
    ),
)


def era_of(release: str) -> Era:
    """The era of the kernel `release`, as uname(2) gives it ("6.1.0-18-amd64"). A name that doesn't begin with two
    numbers counts as the newest kernel. A distribution may have put newer rules into an older kernel; that can't be
    seen here."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        return ERAS[0]
    version = (int(match[1]), int(match[2]))
    return next(era for era in ERAS if version >= era.since)


def badness(memory: int, oom_score_adj: int, total: int) -> int:
    """The points of a process, before any clamping. `memory`: its pages that are resident, in swap, or page tables.
    `total`: all pages that the process could use. The division comes first, as in the kernel, so with a `total` below
    1000 pages oom_score_adj has no effect."""
    return memory + oom_score_adj * (total // 1000)


def root_bonus(memory: int) -> int:
    """The pages that aren't counted for a process with CAP_SYS_ADMIN that has `memory` pages (Linux 3.14 to 4.16)."""
    return memory * 3 // 100
