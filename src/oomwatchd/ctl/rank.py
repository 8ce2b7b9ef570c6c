"""`oomwatchctl rank`: who acts first when memory runs out, and whom the kernel would kill next."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from oomwatchd.base.badness_formula import ERAS
from oomwatchd.base.text import decode, printable
from oomwatchd.ctl.arguments import count, path
from oomwatchd.ctl.ask import add_root
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.rank_killers import assess_killers, killers_as_json, print_killers
from oomwatchd.ctl.rank_table import Outcome, among_first, show, show_beside, since
from oomwatchd.oom.badness import Candidate
from oomwatchd.oom.killers.killer_facts import roots_below
from oomwatchd.oom.small_files import PAGE
from oomwatchd.oom.survey import Survey, take_survey

if TYPE_CHECKING:
    from oomwatchd.pinning.what_if import CurrentPin, Preview

FORMULA = """\
The kernel calculates, in pages:

  badness = rss + swap + page tables + oom_score_adj * (total / 1000)

and kills the process with the most. total is RAM and swap of the machine, or, when a memory cgroup is at its
limit, that limit and the swap that the group may use; the division comes first and is a whole number.
Never chosen: PID 1 of the initial PID namespace, kernel threads, processes with oom_score_adj -1000, and
processes without memory in any thread. Not visible here: a vfork child before its exec (never chosen), a
process whose memory was just reaped (never chosen again), one in swapoff (chosen first), and which nodes a
cpuset or memory policy allows.

GROW is by how much a process must grow to become the victim: `never` means that memory runs out before, and
the first process dies instead. The memory that is left is calculated from the usage of the cgroup, or from
MemAvailable and free swap. The kernel counts RSS per CPU, so a difference of some dozen pages is a tie. If
two processes have equal badness, their start times stand for the order in which the kernel scans them.
oomwatchctl itself is left out.

What depends on the kernel (mm/oom_kill.c: oom_badness, oom_evaluate_task; mm/memcontrol.c:
mem_cgroup_get_max):
"""


_WATCH_SECONDS = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def configure_rank(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl rank` to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = FORMULA + "\n".join(f"  {since(era)}: {era.note}" for era in ERAS)
    parser.add_argument("-n", type=count, metavar="N", help="only the first N, now or under FILE")
    parser.add_argument(
        "--cgroup",
        type=path,
        metavar="PATH",
        help="if this memory cgroup ran out: /a/b, as in /proc/PID/cgroup, or a directory in /sys/fs/cgroup",
    )
    parser.add_argument("--with", type=path, metavar="FILE", dest="file", help="also the order under the rules of FILE")
    parser.add_argument("-c", type=path, metavar="FILE", dest="config", help="as if the rules of FILE were in force")
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
        previews = _previews(survey, arguments.file, arguments.root)
        values = {pid: preview.value for pid, preview in previews.items()}
        other = _outcomes(survey, previews)
    if arguments.config is not None:
        survey = survey.under({pid: o.value for pid, o in _previews(survey, arguments.config, arguments.root).items()})
    legend = not arguments.no_legend
    if arguments.json or legend:
        today, then = assess_killers(survey, roots, values)
    if arguments.json:
        print(json.dumps({"killers": killers_as_json(today, then), **as_json(survey, arguments.n, other)}))
        return
    if legend:
        print_killers(today, then)
    if other is None:
        show(survey, arguments.n, legend=legend)
    else:
        show_beside(survey, other, arguments.n, legend=legend)


# --- under other rules ------------------------------------------------------------------------------------


def _previews(survey: Survey, file: str, root: str) -> Mapping[int, "Preview"]:
    """The value that each process would have under the rules of `file` alone, by PID. If a daemon runs, it tells the
    present pins. Raises CommandError if the file is invalid."""
    # Imported here, since most runs of rank need neither.
    from oomwatchd.config import load as config
    from oomwatchd.pinning.what_if import preview_rules

    try:
        rules = config.load(config.layout(file)).rules
    except config.ConfigError as error:
        print("\n".join(printable(str(problem)) for problem in error.problems), file=sys.stderr)
        raise CommandError(1, f"the rules of '{file}' are invalid") from None
    return preview_rules(rules, survey.processes, _pins_of_today(root))


def _outcomes(survey: Survey, previews: Mapping[int, "Preview"]) -> Mapping[int, Outcome]:
    ranked = survey.under({pid: preview.value for pid, preview in previews.items()}).ranked()
    return {c.task.pid: Outcome(place, c, previews[c.task.pid].rule) for place, c in enumerate(ranked, 1)}


def _pins_of_today(root: str) -> list["CurrentPin"]:
    from oomwatchd.control.client import Client, NotRunning
    from oomwatchd.control.protocol import runtime_directory
    from oomwatchd.pinning.what_if import CurrentPin

    try:
        with Client(runtime_directory(root), seconds=5) as client:
            listed = client.ask({"verb": "list"})["pins"]
    except (NotRunning, OSError, KeyError):
        return []
    return [CurrentPin(p["pid"], p["starttime"], p["rule"], p["oom_score_adj"], p["original"]) for p in listed]


# --- for programs -----------------------------------------------------------------------------------------


def as_json(survey: Survey, count: int | None = None, other: Mapping[int, Outcome] | None = None) -> dict[str, object]:
    """The object that `rank --json` prints; oomwatchctl(1) describes the keys."""
    outsider = survey.outsider()
    return {
        "total_pages": survey.total,
        "scope": "global" if survey.memcg is None else "memcg",
        "memcg": None if survey.memcg is None else decode(survey.memcg.path),
        "cgroup": None if survey.asked is None else decode(survey.asked),
        "room_pages": survey.room,
        "page_size": PAGE,
        "kernel": os.uname().release,
        "outsider": None if outsider is None else outsider.pid,
        "unreadable": survey.refused,
        "processes": [
            _process(place, candidate) | _with(candidate, other)
            for place, candidate in enumerate(survey.ranked(), 1)
            if among_first(place, candidate, count, other)
        ],
    }


def _with(candidate: Candidate, other: Mapping[int, Outcome] | None) -> dict[str, object]:
    if other is None:
        return {}
    outcome = other[candidate.task.pid]
    changed = ("rank", "badness", "oom_score_adj", "killable", "why_not", "grow_pages")
    then = _process(outcome.place, outcome.candidate)
    return {"with": {key: then[key] for key in changed} | {"rule": outcome.rule or None}}


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
