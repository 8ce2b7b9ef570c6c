"""`oomwatchctl rank`: whom the kernel would kill next."""

import argparse
import json
import os
import pwd
import shutil
import sys
from dataclasses import dataclass

from oomwatchd import badness, memfacts
from oomwatchd.badness import Candidate, Era, Machine, Memcg, Task
from oomwatchd.ctl.table import print_table
from oomwatchd.text import decode, printable

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


def configure_rank(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = FORMULA + "\n".join(f"  {_since(era)}: {era.note}" for era in badness.ERAS)
    parser.add_argument("-n", type=_count, metavar="N", help="only the first N")
    parser.add_argument(
        "--cgroup",
        metavar="PATH",
        help="if this memory cgroup ran out: /a/b, as in /proc/PID/cgroup, or a directory in /sys/fs/cgroup",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object; amounts are pages")
    parser.add_argument("--no-legend", action="store_true", help="no header and no notes")


def run_rank(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 if there is no such cgroup or /proc can't be read."""
    try:
        survey = take_survey(None if arguments.cgroup is None else os.fsencode(arguments.cgroup))
    except OSError as error:
        print(f"oomwatchctl: {error.args[-1]}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(as_json(survey, arguments.n)))
        return 0
    _show(survey, arguments.n, legend=not arguments.no_legend)
    return 0


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError
    return number


@dataclass(frozen=True, slots=True)
class Survey:
    """Everyone who competes, in order, and what for."""

    asked: bytes | None  # the cgroup that was asked for
    machine: Machine
    memcg: Memcg | None  # the group that runs out of memory; None: the machine does
    room: int | None  # pages that are left in it
    candidates: list[Candidate]
    outsider: Task | None  # would die before all of them, but is outside of the cgroup that was asked for
    refused: int  # processes that may not be read

    @property
    def total(self) -> int:
        return self.machine.total if self.memcg is None else self.memcg.total(self.machine)


def take_survey(
    asked: bytes | None = None,
    proc: str = "/proc",
    cgroup: str = "/sys/fs/cgroup",
    era: Era | None = None,
) -> Survey:
    """Read everyone below `proc` and rank them: all, or those in the memory cgroup `asked` and below it.
    `era` is that of the running kernel by default. Raises OSError with a sentence for the user."""
    era = badness.era_of(os.uname().release) if era is None else era
    machine = memfacts.read_machine(proc)
    hierarchy = memfacts.find_hierarchy(cgroup)
    group = None if asked is None else _find_group(hierarchy, asked)
    processes, refused = memfacts.read_processes(proc, hierarchy.version if hierarchy else None)
    tasks = [process.task for process in processes]
    known: dict[bytes, Memcg | None] = {}

    def chain(path: bytes | None) -> list[Memcg]:
        """The group `path` and its ancestors, as far as they are memory cgroups."""
        if hierarchy is None or path is None:
            return []
        for each in memfacts.ancestry(path):
            if each not in known:
                known[each] = memfacts.read_memcg(hierarchy, each, machine)
        return [found for each in memfacts.ancestry(path) if (found := known[each]) is not None]

    def room(task: Task) -> int | None:
        return _least([machine.room, *(each.room(machine) for each in chain(task.memcg))])

    memcg = badness.tightest(chain(group), machine)
    if memcg is not None and _least([memcg.room(machine), machine.room]) != memcg.room(machine):
        memcg = None  # the machine is out of memory before the group reaches its limit
    total = machine.total if memcg is None else memcg.total(machine)
    competing = [t for t in tasks if memcg is None or memfacts.is_within(t.memcg, memcg.path)]
    inside = [t for t in competing if group is None or memfacts.is_within(t.memcg, group)]
    first = next(iter(badness.rank(competing, total, room, era)), None)
    outside = first is not None and first.why_not is None and first.task not in inside
    return Survey(
        asked=group,
        machine=machine,
        memcg=memcg,
        room=machine.room if memcg is None else memcg.room(machine),
        candidates=badness.rank(inside, total, room, era),
        outsider=first.task if first is not None and outside else None,
        refused=refused,
    )


def _find_group(hierarchy: memfacts.Hierarchy | None, asked: bytes) -> bytes:
    if hierarchy is None:
        raise FileNotFoundError("there are no memory cgroups in '/sys/fs/cgroup'; leave out --cgroup")
    group = memfacts.group_path(hierarchy, asked)
    if group is None:
        raise FileNotFoundError(
            f"there is no memory cgroup '{printable(asked)}' in '{printable(hierarchy.root)}'; "
            "give a path as in /proc/PID/cgroup, or a directory of the cgroup file system"
        )
    return group


def _least(amounts: list[int | None]) -> int | None:
    return min((amount for amount in amounts if amount is not None), default=None)


# --- for programs -----------------------------------------------------------------------------------------


def as_json(survey: Survey, count: int | None = None) -> dict[str, object]:
    """The object of `rank --json`, see oomwatchctl(1)."""
    return {
        "total_pages": survey.total,
        "scope": "global" if survey.memcg is None else "memcg",
        "memcg": None if survey.memcg is None else decode(survey.memcg.path),
        "cgroup": None if survey.asked is None else decode(survey.asked),
        "room_pages": survey.room,
        "page_size": memfacts.PAGE,
        "kernel": os.uname().release,
        "outsider": None if survey.outsider is None else survey.outsider.pid,
        "unreadable": survey.refused,
        "processes": [_process(i, c) for i, c in enumerate(survey.candidates[:count], 1)],
    }


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
    shown = [c for c in survey.candidates if not c.task.kernel_thread and c.task.has_mm][:count]
    if legend:
        print(_headline(survey))
    rows = [_row(place, candidate, survey) for place, candidate in enumerate(shown, 1)]
    if sys.stdout.isatty():
        _show_with_bars(rows, shown, legend=legend)
    else:
        print_table(COLUMNS, rows, legend=legend, right=RIGHT)
    if legend:
        for note in _notes(survey):
            print(note)


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


def _notes(survey: Survey) -> list[str]:
    era = badness.era_of(os.uname().release)
    threads = sum(c.task.kernel_thread for c in survey.candidates)
    zombies = sum(not c.task.has_mm and not c.task.kernel_thread for c in survey.candidates)
    notes = []
    if survey.outsider is not None and survey.asked is not None:
        who = f"{printable(survey.outsider.comm)} ({survey.outsider.pid})"
        notes.append(f"{printable(survey.asked)} doesn't run out by itself, and {who} outside of it would die first.")
    if survey.refused > 0:
        notes.append(f"Not shown: {survey.refused} processes that may not be read; run it as root.")
    if threads + zombies > 0:
        notes.append(f"Never chosen either: {threads} kernel threads, {zombies} zombies.")
    notes.append(
        f"Kernel {os.uname().release}, reckoned as since {_since(era)} (mm/oom_kill.c): {era.note}. More under --help."
    )
    return notes


def _since(era: Era) -> str:
    return "before" if era.since == (0, 0) else f"{era.since[0]}.{era.since[1]}"
