"""`oomwatchctl postmortem`: past OOM kills, by the kernel and by other killers, read from logs."""

import argparse
import gc
import json
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from oomwatchd.base.text import printable
from oomwatchd.ctl.arguments import path
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.moments import parse_moment
from oomwatchd.ctl.pager import page
from oomwatchd.ctl.pieces import Pieces
from oomwatchd.ctl.postmortem_text import describe, summary
from oomwatchd.ctl.rulebook import add_options, open_rulebook
from oomwatchd.oomlog import replay, source
from oomwatchd.oomlog.advice import Advice, advise
from oomwatchd.oomlog.history import Growth, History
from oomwatchd.oomlog.logfile import SourceError
from oomwatchd.oomlog.record import Killed, OomKill, Task
from oomwatchd.oomlog.times import seconds_of
from oomwatchd.oomlog.under_rules import Rules

_NO_JOURNAL = (
    "No OOM kill found in the journal: read were the records of the kernel, systemd-oomd, earlyoom, nohang and oomd, "
    "{period}. If this system keeps no journal, give the log as a file (oomwatchctl postmortem /var/log) or as input "
    "(dmesg | oomwatchctl postmortem -)."
)
_BOOT = re.compile(r"all|[+-]?\d{1,9}|[0-9a-f]{32}(?:[+-]\d{1,9})?")


def configure_postmortem(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl postmortem` to its parser."""
    parser.add_argument(
        "files",
        nargs="*",
        type=path,
        metavar="FILE",
        help="logs (also compressed), archives, folders, journal files; -: stdin; without FILE: the journal",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("-n", "--lines", type=_count, metavar="N", help="the newest N kills alone; all: all")
    parser.add_argument("-S", "--since", type=_moment, metavar="TIME", help="kills since that time (systemd.time(7))")
    parser.add_argument("-U", "--until", type=_moment, metavar="TIME", help="kills up to that time")
    parser.add_argument("-b", "--boot", type=_boot, metavar="BOOT", help="kills of that boot: 0, -1, an ID, all")
    parser.add_argument("-r", "--reverse", action="store_true", help="the newest first")
    parser.add_argument(
        "--replay",
        action="store_true",
        help="calculate the kernel's choice again, as it was and under the rules",
    )
    parser.add_argument("--html", type=path, metavar="FILE", help="write a page with a timeline and all tables")
    parser.add_argument("--no-legend", action="store_true", help="tables without their headers")
    parser.add_argument("--no-pager", action="store_true", help="don't send long output through a pager")
    add_options(parser)


def _moment(text: str) -> datetime:
    try:
        return parse_moment(text, datetime.now().astimezone())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if re.fullmatch(r"\+?\d{1,9}", text) is None:
        raise argparse.ArgumentTypeError(f"Failed to parse lines '{text}'")
    return int(text)


def _boot(text: str) -> str:
    if _BOOT.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"Failed to parse boot descriptor '{text}'")
    return text


class _Reading:
    """Reads the logs that were asked for, and prints the errors."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        since, until = arguments.since, arguments.until
        if since is not None and until is not None and since > until:
            raise CommandError(2, "--since= must be before --until=.")
        self.files: list[str] = arguments.files
        self.since: float | None = None if since is None else since.timestamp()
        self.until: float | None = None if until is None else until.timestamp()
        self.boot: str | None = arguments.boot
        self.newest: int | None = arguments.lines
        self.keep_text = arguments.html is not None
        self.unread = 0
        self.partly = 0
        self.undated = 0

    def failed(self, error: SourceError) -> None:
        """Print an error about a log that can't be read."""
        print(f"oomwatchctl: {printable(str(error))}", file=sys.stderr)
        if error.partial:
            self.partly += 1
        else:
            self.unread += 1

    def kills(self) -> Iterator[tuple[OomKill, Growth | None]]:
        """The kills that were asked for, in the order of time. With each kill comes how much the victims of its name
        have grown; None: that isn't known."""
        history = History()
        found = ((kill, history.take(kill)) for kill in self._within(self._read()))
        return found if self.newest is None else iter(deque(found, maxlen=self.newest))

    def _read(self) -> Iterator[OomKill]:
        options = [] if self.boot is None else [f"--boot={self.boot}"]
        if self.since is not None:
            options.append(f"--since=@{self.since:.6f}")
        if self.until is not None:
            options.append(f"--until=@{self.until:.6f}")
        if self.files:
            return source.kills(
                self.files, self.failed, options, text_too=self.boot in (None, "all"), keep_text=self.keep_text
            )
        return source.system_journal(self.failed, options, keep_text=self.keep_text)

    def _within(self, kills: Iterable[OomKill]) -> Iterator[OomKill]:
        if self.since is None and self.until is None:
            yield from kills
            return
        for kill in kills:
            seconds = seconds_of(kill.time)
            if seconds is None or isinstance(kill.time, float):
                self.undated += 1
            elif (self.since is None or seconds >= self.since) and (self.until is None or seconds <= self.until):
                yield kill

    def tell_nothing_found(self) -> None:
        """Print which logs were read, since there is no kill in them."""
        if self.undated:
            return
        if self.unread + self.partly == 0 and not self.files:
            period = "of all boots" if self.boot in (None, "all") else f"of boot {self.boot}"
            if self.since is not None or self.until is not None:
                period += ", in the time that was asked for"
            said = _NO_JOURNAL.format(period=period)
        elif self.unread + self.partly == 0:
            said = f"No OOM kill found in {', '.join(self.files)}."
        elif self.partly > 0 or self.unread < len(self.files):
            said = "There is no OOM kill in what could be read."
        else:
            return
        print(f"oomwatchctl: {printable(said)}", file=sys.stderr)


def run_postmortem(arguments: argparse.Namespace) -> int:
    """Show the OOM kills in logs. Exit status: 0; 1 if there are none."""
    # Millions of rows are made and dropped, and none is in a reference cycle. The search for cycles would take a tenth
    # of the time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        return _run(arguments)
    finally:
        if was_on:
            gc.enable()


def _run(arguments: argparse.Namespace) -> int:
    reading = _Reading(arguments)
    rules = Rules(open_rulebook(arguments).config.rules) if arguments.replay else None
    if arguments.json and not arguments.html:
        found = print_json(reading.kills(), reverse=arguments.reverse)
    else:
        found = _show(reading, arguments, rules)
    if reading.undated:
        said = f"{reading.undated} kills without a date were left out: --since and --until can't tell of them."
        print(f"oomwatchctl: {said}", file=sys.stderr)
    if not found:
        reading.tell_nothing_found()
    return 0 if found else 1


def _show(reading: _Reading, arguments: argparse.Namespace, rules: Rules | None) -> bool:
    """Show the kills to people. Returns whether there was one. All logs are read before anything is shown, since a
    summary comes first."""
    history = History()
    show_file = len(reading.files) > 1 or any(kind in "".join(reading.files) for kind in ("/", "*"))
    with Pieces() as pieces:

        def shown(kills: Iterable[tuple[OomKill, Growth | None]]) -> Iterator[tuple[OomKill, tuple[Advice, ...]]]:
            for kill, growth in kills:
                history.take(kill)
                advice = advise(kill, growth)
                if arguments.json:
                    pieces.add(json.dumps(as_json(kill, advice)))
                else:
                    said = describe(kill, advice, rules, legend=not arguments.no_legend, show_file=show_file)
                    pieces.add("\n".join(said) + "\n")
                yield kill, advice

        told = shown(reading.kills())
        if arguments.html is not None:
            _write_page(arguments.html, told, rules, ", ".join(reading.files) or "the journal")
        deque(told, maxlen=0)
        if arguments.json:
            _print_json_pieces(pieces.read(reverse=arguments.reverse))
            return len(pieces) > 0
        page(_printer(history, pieces, reverse=arguments.reverse), wanted=not arguments.no_pager and len(pieces) > 0)
        return len(pieces) > 0


def _write_page(path: str, kills: Iterable[tuple[OomKill, tuple[Advice, ...]]], rules: Rules | None, log: str) -> None:
    from oomwatchd.ctl.postmortem_html import write_page

    try:
        write_page(path, kills, rules, log)
    except OSError as error:
        raise CommandError(1, f"Failed to write {path}: {error.strerror or error}.") from None


def _printer(history: History, pieces: Pieces, *, reverse: bool) -> Callable[[], int]:
    def show() -> int:
        head = summary(history)
        if head:
            print("\n".join(head) + "\n")
        for number, piece in enumerate(pieces.read(reverse=reverse)):
            print(f"\n{piece}" if number else piece, end="")
        return 0

    return show


def print_json(kills: Iterable[tuple[OomKill, Growth | None]], *, reverse: bool = False) -> bool:
    """Print one JSON object, kill by kill, so that a log of any size takes no more memory than its largest report.
    Returns whether there was a kill."""
    texts = (json.dumps(as_json(kill, advise(kill, growth))) for kill, growth in kills)
    if not reverse:
        return _print_json_pieces(texts)
    with Pieces() as pieces:
        for text in texts:
            pieces.add(text)
        return _print_json_pieces(pieces.read(reverse=True))


def _print_json_pieces(texts: Iterable[str]) -> bool:
    separator = '{"kills": ['
    for text in texts:
        print(separator, end="")
        print(text, end="")
        separator = ",\n"
    found = separator == ",\n"
    print("]}" if found else '{"kills": []}')
    return found


def as_json(kill: OomKill, advice: Iterable[Advice] = ()) -> dict[str, Any]:
    """The JSON object of one event. oomwatchctl(1) documents the keys."""
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
        "advice": [one._asdict() for one in advice],
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
        "tasks": None if kill.tasks is None else [dict(zip(Task._fields, task, strict=True)) for task in kill.tasks],
        "no_killable": kill.no_killable,
        "panic": kill.panic,
        "truncated": kill.truncated,
        "replay": None
        if again is None
        else {"predicted_pid": None if again.predicted is None else again.predicted.pid, "agrees": again.agrees},
    }


def _killed(killed: Killed) -> dict[str, Any]:
    return {name: getattr(killed, name) for name in Killed.__slots__}
