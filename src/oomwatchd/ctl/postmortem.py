"""oomwatchctl postmortem: past OOM kills out of the kernel log."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from oomwatchd.base.text import printable
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.rulebook import add_options, open_rulebook
from oomwatchd.ctl.table import BOLD, DIM, RED, colour, print_table
from oomwatchd.oomlog import advice, replay, source
from oomwatchd.oomlog.logfile import SourceError
from oomwatchd.oomlog.record import Killed, OomKill
from oomwatchd.oomlog.what_if import Rules

# Rows that are shown to people. Programs get them all.
SHOWN = 10
BAR = 24

_NO_JOURNAL = (
    "No OOM kill found in the journal. If this system keeps none, give the log as a file "
    "(oomwatchctl postmortem /var/log/kern.log*) or as input (dmesg | oomwatchctl postmortem -)."
)


def configure_postmortem(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="kernel logs, plain or compressed, rotated ones in any order, journal files; -: stdin; none: the journal",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--replay", action="store_true", help="reckon the kernel's choice anew, as it was and under the rules"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page with a timeline and all tables")
    parser.add_argument("--no-legend", action="store_true", help="leave the tables' headers out")
    add_options(parser)


def run_postmortem(arguments: argparse.Namespace) -> int:
    rules = Rules(open_rulebook(arguments).config.rules) if arguments.replay else None
    kills = _kills(arguments.files)
    if arguments.html is not None:
        from oomwatchd.ctl.postmortem_html import Page

        try:
            with Page(arguments.html, rules) as page:
                found = _show(page.through(kills), arguments, rules)
        except OSError as error:
            raise CommandError(1, f"Failed to write {arguments.html}: {error.strerror or error}.") from None
    else:
        found = _show(kills, arguments, rules)
    if found:
        return 0
    if not arguments.json or not arguments.files:
        hint = _NO_JOURNAL if not arguments.files else f"No OOM kill found in {', '.join(arguments.files)}."
        print(f"oomwatchctl: {printable(hint)}", file=sys.stderr)
    return 1


def _kills(files: list[str]) -> Iterator[OomKill]:
    def failed(error: SourceError) -> None:
        print(f"oomwatchctl: {printable(str(error))}", file=sys.stderr)

    if files:
        return source.kills(files, failed)
    return source.system_journal(failed)


def _show(kills: Iterable[OomKill], arguments: argparse.Namespace, rules: Rules | None) -> bool:
    if arguments.json:
        return print_json(kills)
    found = False
    for kill in kills:
        if found:
            print()
        found = True
        print_kill(kill, rules, legend=not arguments.no_legend)
    return found


def print_json(kills: Iterable[OomKill]) -> bool:
    """Print one object, kill by kill, so that a log of any size takes no more memory than its largest report.
    Returns whether there was one."""
    separator = '{"kills": ['
    for kill in kills:
        print(separator, end="")
        print(json.dumps(as_json(kill)), end="")
        separator = ",\n"
    found = separator == ",\n"
    print("]}" if found else '{"kills": []}')
    return found


def as_json(kill: OomKill) -> dict[str, Any]:
    """The event as programs get it; oomwatchctl(1) documents the keys."""
    again = replay.replay(kill)
    asked = kill.invoker
    return {
        "killer": kill.killer,
        "time": kill.time,
        "host": kill.host,
        "file": kill.file,
        "page_bytes": kill.page_bytes,
        "unit": kill.unit,
        "container": kill.container,
        "trigger": kill.trigger,
        "kernel": kill.kernel,
        "scope": kill.scope,
        "constraint": kill.constraint,
        "memcg": kill.memcg,
        "task_memcg": kill.task_memcg,
        "invoker": {
            "pid": asked.pid,
            "comm": asked.comm,
            "gfp_mask": asked.gfp_mask,
            "order": asked.order,
            "oom_score_adj": asked.oom_score_adj,
        },
        "victim": None if kill.victim is None else _killed(kill.victim),
        "also_killed": [_killed(killed) for killed in kill.also_killed],
        "tasks": None if kill.tasks is None else [task._asdict() for task in kill.tasks],
        "no_killable": kill.no_killable,
        "panic": kill.panic,
        "truncated": kill.truncated,
        "replay": None
        if again is None
        else {"predicted_pid": None if again.predicted is None else again.predicted.pid, "agrees": again.agrees},
    }


def _killed(killed: Killed) -> dict[str, Any]:
    return {name: getattr(killed, name) for name in Killed.__slots__}


def print_kill(kill: OomKill, rules: Rules | None, *, legend: bool) -> None:
    """One event for people: what, who, why, the memory, the table; with `rules`, whom they would have made the
    victim."""
    ranked = replay.rank(kill)
    again = replay.replay(kill, ranked)
    kernel = f" (Linux {printable(kill.kernel)})" if kill.kernel else ""
    print(colour(f"{when(kill)}: {advice.headline(kill)}{kernel}", BOLD))
    _line("killed", colour(advice.outcome(kill), RED))
    if kill.victim is not None:
        _line("", figures(kill))
    for killed in advice.also_killed(kill)[:SHOWN]:
        _line("also", advice.named(killed))
    asked = kill.invoker
    if asked.comm is not None or asked.pid is not None:
        _line("asked", ", ".join([advice.asker(kill), *request(kill)]))
    memory = advice.memory_picture(kill)
    if memory is not None:
        _line("memory", memory)
    _lines("why", advice.reasons(kill, ranked, again))
    if rules is not None:
        _line("replay", advice.verdict(again))
        _lines("rules", advice.under_rules(kill, rules.outlook(kill)))
    if ranked:
        _print_table(kill, ranked, legend=legend)


def when(kill: OomKill) -> str:
    """The time for people."""
    if kill.time is None:
        return "At an unknown time"
    return f"{kill.time:.6f} s after boot" if isinstance(kill.time, float) else kill.time.replace("T", " ")


def _line(label: str, text: str) -> None:
    print(f"  {label:7} {text}")


def _lines(label: str, texts: Iterable[str]) -> None:
    for index, text in enumerate(texts):
        _line("" if index else label, text)


def figures(kill: OomKill) -> str:
    """What the log says of the victim."""
    victim = kill.victim
    assert victim is not None
    parts = [] if victim.uid is None else [f"uid {victim.uid}"]
    for label, kb in (
        ("anon", victim.anon_rss_kb),
        ("file", victim.file_rss_kb),
        ("shmem", victim.shmem_rss_kb),
        ("page tables", victim.pgtables_kb),
        ("virtual", victim.total_vm_kb),
    ):
        if kb is not None:
            parts.append(f"{label} {advice.size(kb)}")
    if victim.oom_score_adj is not None:
        parts.append(f"oom_score_adj {victim.oom_score_adj}")
    if kill.task_memcg is not None:
        parts.append(f"in {printable(kill.task_memcg)}")
    return ", ".join(parts) or "the log has no figures"


def request(kill: OomKill) -> list[str]:
    """What was asked for."""
    asked = kill.invoker
    parts = []
    if asked.order is not None and asked.order >= 0:
        parts.append(f"for {advice.size(replay.PAGE_KB << min(asked.order, 20))} in one piece (order {asked.order})")
    if asked.gfp_mask is not None:
        parts.append(f"gfp_mask {asked.gfp_mask}")
    if asked.oom_score_adj is not None:
        parts.append(f"oom_score_adj {asked.oom_score_adj}")
    return parts


def _print_table(kill: OomKill, ranked: list[replay.Ranked], *, legend: bool) -> None:
    dead = {one.pid for one in (kill.victim, *kill.also_killed) if one is not None}
    highest = max((one.points for one in ranked if one.points is not None), default=0)
    rows: list[list[object]] = []
    for number, one in enumerate(ranked, 1):
        if number > SHOWN and one.task.pid not in dead:
            continue
        if len(rows) > 2 * SHOWN:
            break
        task = one.task
        rows.append(
            [
                "†" if task.pid in dead else "",
                number,
                task.pid,
                task.uid,
                "never" if one.points is None else one.points,
                _mib(task.rss),
                _mib(task.swapents),
                task.oom_score_adj,
                _bar(one.points, highest),
                task.comm,
            ]
        )
    columns = ("", "rank", "pid", "uid", "badness", "rss", "swap", "adj", "", "comm")
    print_table(columns, rows, legend=legend, right=frozenset(range(1, 8)))
    if len(rows) < len(ranked):
        print(colour(f"… and {len(ranked) - len(rows)} more", DIM))


def _mib(pages: int | None) -> str | None:
    return None if pages is None else f"{pages * replay.PAGE_KB / 1024:.1f}M"


def _bar(points: int | None, highest: int) -> str:
    if points is None or points <= 0 or highest <= 0:
        return ""
    return "█" * max(1, round(BAR * points / highest))
