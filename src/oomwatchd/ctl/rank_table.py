"""The output of `oomwatchctl rank` for people: a table in the kernel's order as it is now, also beside the order under
other rules."""

import os
import pwd
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from oomwatchd.base.badness_formula import Era
from oomwatchd.base.text import decode, printable
from oomwatchd.ctl.table import print_table, terminal_columns, wrap
from oomwatchd.oom.badness import Candidate
from oomwatchd.oom.small_files import PAGE
from oomwatchd.oom.survey import Survey

_MOVES = 10
"""The most processes with another value that are listed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A process under other rules: its place in the kernel's order, its value, and the rule."""

    place: int
    candidate: Candidate
    rule: str  # that would pin it; empty: none


def among_first(place: int, candidate: Candidate, count: int | None, other: Mapping[int, Outcome] | None) -> bool:
    """Whether a process is among the first `count`, now or under the other rules."""
    return count is None or place <= count or (other is not None and other[candidate.task.pid].place <= count)


def size(pages: int) -> str:
    """Pages as people read them: 4K, 12.3M, -1.5G."""
    if pages == 0:
        return "0"
    kib = abs(pages) * PAGE / 1024
    sign = "-" if pages < 0 else ""
    if kib < 1024:
        return f"{sign}{kib:.0f}K"
    if kib < 1024 * 1024:
        return f"{sign}{kib / 1024:.1f}M"
    return f"{sign}{kib / 1024 / 1024:.1f}G"


def bar(candidate: Candidate, most: int, room: int, characters: str = "█░") -> str:
    """A bar for the points of `candidate`. `most`, the highest points of all processes, fill `room` characters. The
    first part of the bar is the memory, the second what oom_score_adj adds. Where oom_score_adj is negative, the bar is
    shorter than the memory."""
    if candidate.why_not is not None or candidate.points <= 0 or most <= 0:
        return ""
    width = max(1, round(room * candidate.points / most))
    memory = round(width * min(candidate.task.memory, candidate.points) / candidate.points)
    return characters[0] * memory + characters[1] * (width - memory)


COLUMNS = ("rank", "pid", "user", "comm", "badness", "rss", "swap", "pgtables", "adj", "adj part", "grow")
RIGHT = frozenset({0, 1, 4, 5, 6, 7, 8, 9, 10})
BAR_MIN, BAR_MAX = 8, 40
"""The least and the most characters of a bar. Where there is less room, no bar is shown."""


def show(survey: Survey, count: int | None, *, legend: bool) -> None:
    """Print the kernel's order as a table, at most `count` processes (None: all). `legend`: also the text around it."""
    candidates = survey.ranked()
    shown = [candidate for candidate in candidates if _is_shown(candidate)][:count]
    if legend:
        print(wrap(_headline(survey)))
    rows = [_row(place, candidate, survey) for place, candidate in enumerate(shown, 1)]
    if sys.stdout.isatty():
        _show_with_bars(rows, shown, legend=legend)
    else:
        print_table(COLUMNS, rows, legend=legend, right=RIGHT)
    if legend:
        _print_notes(survey, candidates)


def _is_shown(candidate: Candidate) -> bool:
    return not candidate.task.kernel_thread and candidate.task.has_mm


BESIDE = ("rank", "then", "pid", "user", "comm", "badness", "then", "adj", "then", "rule")


def show_beside(survey: Survey, other: Mapping[int, Outcome], count: int | None, *, legend: bool) -> None:
    """Print the kernel's order now, and beside it the order under other rules."""
    rows = []
    candidates = survey.ranked()
    for place, candidate in enumerate(candidates, 1):
        if _is_shown(candidate) and among_first(place, candidate, count, other):
            rows.append(_row_beside(place, candidate, other[candidate.task.pid]))
    if legend:
        print(wrap(_headline(survey)))
    print_table(BESIDE, rows, legend=legend, right=frozenset({0, 1, 2, 5, 6, 7, 8}))
    if not legend:
        return
    for line in _moves(candidates, other):
        print(line)
    if os.geteuid() != 0:
        print(wrap("Without root the executables of others can't be read, so that no rule with `exe` fits them here."))
    _print_notes(survey, candidates)


def _row_beside(place: int, today: Candidate, outcome: Outcome) -> list[object]:
    then = outcome.candidate
    return [
        place if today.why_not is None else "never",
        outcome.place if then.why_not is None else "never",
        today.task.pid,
        _user(today.task.uid),
        decode(today.task.comm),
        size(today.points) if today.why_not is None else None,
        size(then.points) if then.why_not is None else None,
        today.task.oom_score_adj,
        then.task.oom_score_adj,
        outcome.rule or None,
    ]


def _moves(candidates: list[Candidate], other: Mapping[int, Outcome]) -> list[str]:
    """Lines about the processes that get another value, with their places before and after: "sshd (812): 3rd →
    never"."""
    moves = []
    for place, today in enumerate(candidates, 1):
        outcome = other[today.task.pid]
        if outcome.candidate.task.oom_score_adj == today.task.oom_score_adj or not _is_shown(today):
            continue
        before, after = _place(place, today), _place(outcome.place, outcome.candidate)
        moves.append(f"{printable(today.task.comm)} ({today.task.pid}): {before} → {after}")
    if len(moves) > _MOVES:
        moves[_MOVES:] = [f"and {len(moves) - _MOVES} more"]
    return moves


def _place(place: int, candidate: Candidate) -> str:
    if candidate.why_not is not None:
        return "never"
    suffix = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{suffix}"


def _show_with_bars(rows: list[list[object]], shown: list[Candidate], *, legend: bool) -> None:
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    characters = "#+" if plain else "█░"
    table = [COLUMNS, *([str(cell) for cell in row] for row in rows)]
    used = sum(max(len(row[i]) for row in table) + 2 for i in range(len(COLUMNS)))
    room = min(terminal_columns() - used, BAR_MAX)
    most = shown[0].points if shown else 0
    notes = [c.why_not or (bar(c, most, room, characters) if room >= BAR_MIN else "") for c in shown]
    if any(notes):
        print_table([*COLUMNS, ""], [[*r, n] for r, n in zip(rows, notes, strict=True)], legend=legend, right=RIGHT)
    else:
        print_table(COLUMNS, rows, legend=legend, right=RIGHT)


def _row(place: int, candidate: Candidate, survey: Survey) -> list[object]:
    task = candidate.task
    killable = candidate.why_not is None
    return [
        place if killable else "never",
        task.pid,
        _user(task.uid),
        decode(task.comm),
        size(candidate.points) if killable else None,
        size(task.rss),
        size(task.swap),
        size(task.pgtables),
        task.oom_score_adj,
        size(task.oom_score_adj * (survey.total // 1000)),
        None if not killable else "never" if candidate.grow is None else size(candidate.grow),
    ]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _headline(survey: Survey) -> str:
    left = "an unknown amount" if survey.room is None else size(survey.room)
    weight = f"one point of oom_score_adj weighs {size(survey.total // 1000)}"
    if survey.memcg is None:
        machine = survey.machine
        where = "" if survey.asked is None else f"No limit of its own holds {printable(survey.asked)} back. "
        return (
            f"{where}If the machine runs out of memory ({size(machine.ram)} RAM, {size(machine.swap_total)} swap, "
            f"{left} left), {weight}."
        )
    return (
        f"If the memory cgroup {printable(survey.memcg.path)} runs out of memory ({size(survey.total)}, "
        f"{left} left), {weight}."
    )


def _print_notes(survey: Survey, candidates: list[Candidate]) -> None:
    outsider = survey.outsider()
    if outsider is not None and survey.asked is not None:
        who = f"{printable(outsider.comm)} ({outsider.pid})"
        print(wrap(f"{printable(survey.asked)} doesn't run out by itself, and {who} outside of it would die first."))
    if survey.refused > 0:
        print(f"Not shown: {survey.refused} processes that may not be read; run it as root.")
    threads = sum(c.task.kernel_thread for c in candidates)
    zombies = sum(not c.task.has_mm and not c.task.kernel_thread for c in candidates)
    if threads + zombies > 0:
        print(f"Never chosen either: {threads} kernel threads, {zombies} zombies.")
    era = survey.era
    kernel = f"Kernel {os.uname().release}, reckoned as since {since(era)} (mm/oom_kill.c)"
    print(wrap(f"{kernel}: {era.note}. More under --help."))


def since(era: Era) -> str:
    """The first kernel release that reckons so, for people; "before" for the oldest way."""
    return "before" if era.since == (0, 0) else f"{era.since[0]}.{era.since[1]}"
