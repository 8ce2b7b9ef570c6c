"""`oomwatchctl rank`: who acts first when memory runs out, and whom the kernel would kill next."""

import argparse
import contextlib
import json
import os
import pwd
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oomwatchd.base.text import decode, printable
from oomwatchd.ctl.ask import add_root
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.killers import assess_killers, killers_as_json, print_killers
from oomwatchd.ctl.table import print_table
from oomwatchd.oom import badness, memfacts
from oomwatchd.oom.badness import Candidate, Era
from oomwatchd.oom.killers.facts import roots_below
from oomwatchd.oom.survey import Survey, take_survey

if TYPE_CHECKING:
    from oomwatchd.pinning.what_if import Outlook, Pin

FORMULA = """\
The kernel reckons, in pages:

  badness = rss + swap + page tables + oom_score_adj * (total / 1000)

and kills the process with the most. total is RAM and swap of the machine, or, when a memory cgroup is at its
limit, that limit and the swap that the group may use; the division comes first and is a whole number.
Never chosen: PID 1 of the initial PID namespace, kernel threads, whoever has oom_score_adj -1000, and who has
no memory in any thread. Not to be seen from outside: a vfork child before its exec (never chosen), a process
whose memory was just reaped (never again), one in swapoff (first of all), and which nodes a cpuset or memory
policy allows.

GROW is by how much a process must grow until it is the victim: `never` means that memory runs out
before, and the first dies instead of it. What is left is taken from the usage of the cgroup, or MemAvailable
and free swap. The kernel counts RSS per CPU, so who is closer than some dozen pages is a tie. Of true equals,
start time stands for the order in which the kernel scans. oomwatchctl itself is left out.

What depends on the kernel (mm/oom_kill.c: oom_badness, oom_evaluate_task; mm/memcontrol.c:
mem_cgroup_get_max):
"""


_WATCH_SECONDS = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def configure_rank(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = FORMULA + "\n".join(f"  {_since(era)}: {era.note}" for era in badness.ERAS)
    parser.add_argument("-n", type=_count, metavar="N", help="only the first N, today or under FILE")
    parser.add_argument(
        "--cgroup",
        metavar="PATH",
        help="if this memory cgroup ran out: /a/b, as in /proc/PID/cgroup, or a directory in /sys/fs/cgroup",
    )
    parser.add_argument("--with", metavar="FILE", dest="file", help="beside it the order under the rules of FILE")
    parser.add_argument("-c", metavar="FILE", dest="config", help="as if the rules of FILE were in force today")
    parser.add_argument("--watch", action="store_true", help="again every 2 s, until it is interrupted")
    add_root(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object; amounts are pages")
    parser.add_argument("--no-legend", action="store_true", help="the order of the kernel alone, no header, no notes")


def run_rank(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 if there is no such cgroup, /proc can't be read, or FILE is invalid."""
    if not arguments.watch:
        _run_once(arguments)
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if sys.stdout.isatty():
                print(_CLEAR, end="")
            _run_once(arguments)
            sys.stdout.flush()
            time.sleep(_WATCH_SECONDS)
    return 0


def _run_once(arguments: argparse.Namespace) -> None:
    roots = roots_below(arguments.root)
    try:
        asked = None if arguments.cgroup is None else os.fsencode(arguments.cgroup)
        survey = take_survey(asked, roots.proc, roots.cgroup)
    except OSError as error:
        raise CommandError(1, str(error.args[-1])) from None
    other = values = None
    if arguments.file is not None:
        outlooks = _outlooks(survey, arguments.file, arguments.root)
        values = {pid: outlook.value for pid, outlook in outlooks.items()}
        other = _outcomes(survey, outlooks)
    if arguments.config is not None:
        survey = survey.under({pid: o.value for pid, o in _outlooks(survey, arguments.config, arguments.root).items()})
    legend = not arguments.no_legend
    if arguments.json or legend:
        today, then = assess_killers(survey, roots, values)
    if arguments.json:
        print(json.dumps({"killers": killers_as_json(today, then), **as_json(survey, arguments.n, other)}))
        return
    if legend:
        print_killers(today, then)
    if other is None:
        _show(survey, arguments.n, legend=legend)
    else:
        _show_beside(survey, other, arguments.n, legend=legend)


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError
    return number


# --- under other rules ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What other rules would make of one process."""

    place: int
    candidate: Candidate
    rule: str  # that would hold it; empty: none


def _outlooks(survey: Survey, file: str, root: str) -> Mapping[int, "Outlook"]:
    """What everyone would have under the rules of `file` alone, by PID. Today's pins are asked of the daemon, if one
    runs. Raises CommandError if the file is invalid, with all that is wrong with it."""
    # Most runs of rank need neither.
    from oomwatchd.config import load as config
    from oomwatchd.pinning.what_if import preview

    try:
        rules = config.load(config.layout(file)).rules
    except config.ConfigError as error:
        print("\n".join(printable(str(problem)) for problem in error.problems), file=sys.stderr)
        raise CommandError(1, f"the rules of '{file}' are invalid") from None
    return preview(rules, survey.processes, _pins_of_today(root))


def _outcomes(survey: Survey, outlooks: Mapping[int, "Outlook"]) -> Mapping[int, Outcome]:
    ranked = survey.under({pid: outlook.value for pid, outlook in outlooks.items()}).ranked()
    return {c.task.pid: Outcome(place, c, outlooks[c.task.pid].rule) for place, c in enumerate(ranked, 1)}


def _pins_of_today(root: str) -> list["Pin"]:
    from oomwatchd.control.client import Client, NotRunning
    from oomwatchd.control.protocol import runtime_directory
    from oomwatchd.pinning.what_if import Pin

    try:
        with Client(runtime_directory(root)) as client:
            listed = client.ask({"verb": "list"})["pins"]
    except (NotRunning, OSError, KeyError):
        return []
    return [Pin(p["pid"], p["starttime"], p["rule"], p["oom_score_adj"], p["original"]) for p in listed]


# --- for programs -----------------------------------------------------------------------------------------


def as_json(survey: Survey, count: int | None = None, other: Mapping[int, Outcome] | None = None) -> dict[str, object]:
    """The object of `rank --json`, see oomwatchctl(1)."""
    outsider = survey.outsider()
    return {
        "total_pages": survey.total,
        "scope": "global" if survey.memcg is None else "memcg",
        "memcg": None if survey.memcg is None else decode(survey.memcg.path),
        "cgroup": None if survey.asked is None else decode(survey.asked),
        "room_pages": survey.room,
        "page_size": memfacts.PAGE,
        "kernel": os.uname().release,
        "outsider": None if outsider is None else outsider.pid,
        "unreadable": survey.refused,
        "processes": [
            _process(place, candidate) | _with(candidate, other)
            for place, candidate in enumerate(survey.ranked(), 1)
            if _among_first(place, candidate, count, other)
        ],
    }


def _with(candidate: Candidate, other: Mapping[int, Outcome] | None) -> dict[str, object]:
    if other is None:
        return {}
    outcome = other[candidate.task.pid]
    changed = ("rank", "badness", "oom_score_adj", "killable", "why_not", "grow_pages")
    then = _process(outcome.place, outcome.candidate)
    return {"with": {key: then[key] for key in changed} | {"rule": outcome.rule or None}}


def _among_first(place: int, candidate: Candidate, count: int | None, other: Mapping[int, Outcome] | None) -> bool:
    """Whether it is among the first `count` today or under the other rules."""
    return count is None or place <= count or (other is not None and other[candidate.task.pid].place <= count)


def _process(place: int, candidate: Candidate) -> dict[str, object]:
    task = candidate.task
    return {
        "rank": place,
        "pid": task.pid,
        "comm": decode(task.comm),
        "uid": task.uid,
        "badness": candidate.points,
        "oom_score_adj": task.oom_score_adj,
        "rss_pages": task.rss,
        "swap_pages": task.swap,
        "pgtable_pages": task.pgtables,
        "killable": candidate.why_not is None,
        "why_not": candidate.why_not,
        "grow_pages": candidate.grow,
    }


# --- for people -------------------------------------------------------------------------------------------


def size(pages: int) -> str:
    """Pages as people read them: 4K, 12.3M, -1.5G."""
    if pages == 0:
        return "0"
    kib = abs(pages) * memfacts.PAGE / 1024
    sign = "-" if pages < 0 else ""
    if kib < 1024:
        return f"{sign}{kib:.0f}K"
    if kib < 1024 * 1024:
        return f"{sign}{kib / 1024:.1f}M"
    return f"{sign}{kib / 1024 / 1024:.1f}G"


def bar(candidate: Candidate, most: int, room: int, characters: str = "█░") -> str:
    """The points of `candidate` beside the `most` that anyone has, which fill `room` characters: its memory,
    then what oom_score_adj adds (or less than its memory, where oom_score_adj takes away)."""
    if candidate.why_not is not None or candidate.points <= 0 or most <= 0:
        return ""
    width = max(1, round(room * candidate.points / most))
    memory = round(width * min(candidate.task.memory, candidate.points) / candidate.points)
    return characters[0] * memory + characters[1] * (width - memory)


COLUMNS = ("rank", "pid", "user", "comm", "badness", "rss", "swap", "pgtables", "adj", "adj part", "grow")
RIGHT = frozenset({0, 1, 4, 5, 6, 7, 8, 9, 10})
# The table without the bar is at most this wide; less is left for the bar than BAR_MIN: it is cut.
TABLE_WIDTH, BAR_MIN, BAR_MAX = 96, 8, 40


def _show(survey: Survey, count: int | None, *, legend: bool) -> None:
    candidates = survey.ranked()
    shown = [candidate for candidate in candidates if _is_shown(candidate)][:count]
    if legend:
        print(_headline(survey))
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


def _show_beside(survey: Survey, other: Mapping[int, Outcome], count: int | None, *, legend: bool) -> None:
    """Today's order, and beside it that under other rules."""
    rows = []
    candidates = survey.ranked()
    for place, candidate in enumerate(candidates, 1):
        if _is_shown(candidate) and _among_first(place, candidate, count, other):
            rows.append(_row_beside(place, candidate, other[candidate.task.pid]))
    if legend:
        print(_headline(survey))
    print_table(BESIDE, rows, legend=legend, right=frozenset({0, 1, 2, 5, 6, 7, 8}))
    if not legend:
        return
    for line in _moves(candidates, other):
        print(line)
    if os.geteuid() != 0:
        print("Without root the executables of others can't be read, so that no rule with `exe` fits them here.")
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


def _moves(candidates: list[Candidate], other: Mapping[int, Outcome], most: int = 10) -> list[str]:
    """Who gets another value, and where that moves it: "sshd (812): 3rd → never"."""
    moves = []
    for place, today in enumerate(candidates, 1):
        outcome = other[today.task.pid]
        if outcome.candidate.task.oom_score_adj == today.task.oom_score_adj or not _is_shown(today):
            continue
        before, after = _place(place, today), _place(outcome.place, outcome.candidate)
        moves.append(f"{printable(today.task.comm)} ({today.task.pid}): {before} → {after}")
    if len(moves) > most:
        moves[most:] = [f"and {len(moves) - most} more"]
    return moves


def _place(place: int, candidate: Candidate) -> str:
    if candidate.why_not is not None:
        return "never"
    suffix = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{suffix}"


def _show_with_bars(rows: list[list[object]], shown: list[Candidate], *, legend: bool) -> None:
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    characters = "#+" if plain else "█░"
    # On a narrow terminal the bar is worth more than the user's name.
    dropped = {2} if shutil.get_terminal_size().columns < TABLE_WIDTH + BAR_MIN else set[int]()
    kept = [i for i in range(len(COLUMNS)) if i not in dropped]
    table = [COLUMNS, *([str(cell) for cell in row] for row in rows)]
    used = sum(max(len(row[i]) for row in table) + 2 for i in kept)
    room = min(max(shutil.get_terminal_size().columns - used, BAR_MIN), BAR_MAX)
    most = shown[0].points if shown else 0
    for row, candidate in zip(rows, shown, strict=True):
        row.append(candidate.why_not or bar(candidate, most, room, characters))
    print_table(
        [*(COLUMNS[i] for i in kept), ""],
        [[*(row[i] for i in kept), row[-1]] for row in rows],
        legend=legend,
        right=frozenset(new for new, old in enumerate(kept) if old in RIGHT),
    )


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
        print(f"{printable(survey.asked)} doesn't run out by itself, and {who} outside of it would die first.")
    if survey.refused > 0:
        print(f"Not shown: {survey.refused} processes that may not be read; run it as root.")
    threads = sum(c.task.kernel_thread for c in candidates)
    zombies = sum(not c.task.has_mm and not c.task.kernel_thread for c in candidates)
    if threads + zombies > 0:
        print(f"Never chosen either: {threads} kernel threads, {zombies} zombies.")
    era = survey.era
    print(
        f"Kernel {os.uname().release}, reckoned as since {_since(era)} (mm/oom_kill.c): {era.note}. More under --help."
    )


def _since(era: Era) -> str:
    return "before" if era.since == (0, 0) else f"{era.since[0]}.{era.since[1]}"
