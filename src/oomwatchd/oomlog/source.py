"""Reads the OOM events of several logs: finds which logs belong together, in which order they come, and how each kind
is read."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain

from oomwatchd.oomlog import gather, journal, prefix, reading, times
from oomwatchd.oomlog.beside import Beside
from oomwatchd.oomlog.json_document import Cut
from oomwatchd.oomlog.logfile import Failed, LogFile, SourceError, find_logs, partly_read
from oomwatchd.oomlog.order import with_others
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.scan import BEFORE, scan
from oomwatchd.oomlog.spool import Spool
from oomwatchd.oomlog.stream import Stream

# logrotate(8): start, dateext, dateformat (%Y %m %d %H %M %S %s, and what stands between), extension.
_ROTATED = re.compile(
    r"(?P<stem>.*?[^-._])"
    r"(?P<mark>\.\d{1,4}|[-._](?:(?:19|20)\d\d[-._]?\d\d[-._]?\d\d(?:[-._T]?\d\d[-._h:]?\d\d(?:[-._:]?\d\d)?)?(?:[-._]\d{1,10})?"
    r"|\d{10}))?(?P<extension>\.(?:log|txt|err|out))?",
    re.DOTALL,
)


def family(name: str) -> str:
    """What rotation leaves of a log's name: kern.log, kern.log.1 and kern.log-20250101.gz are one log."""
    stem, _, extension = _stem(name)
    return stem + extension


def in_order(logs: Sequence[LogFile]) -> list[list[LogFile]]:
    """Rotated parts of one log together, the oldest first, whatever order they were given in (a shell sorts kern.log
    before kern.log.1). All journal files of one directory are one log, which journalctl sorts."""
    families: dict[str, list[LogFile]] = {}
    for log in logs:
        key = f"{log.name.rpartition('/')[0]}/*.journal" if log.journal else family(log.name)
        families.setdefault(key, []).append(log)
    for members in families.values():
        if len(members) < 2 or members[0].journal:
            continue
        begins = [_begin(log) for log in members]
        if all(begins):
            order = sorted(range(len(members)), key=lambda at: (begins[at] or "", _rotation(members[at])))
            members[:] = [members[index] for index in order]
        else:
            members.sort(key=_rotation)
    return list(families.values())


def _begin(log: LogFile) -> str | None:
    """The first time in the log, if it has dates."""
    try:
        with log.opened() as stream:
            head = stream.peek(BEFORE)
    except SourceError:
        return None
    for raw in head.split(b"\n"):
        time = times.time_of(prefix.split(raw.decode("utf-8", "backslashreplace")).prefix, log.changed)
        if isinstance(time, str):
            return time[:19]
    return None


def _rotation(log: LogFile) -> tuple[int, int]:
    """What parts without dates in them are sorted by."""
    mark = _stem(log.name)[1]
    if not mark:
        return (2, 0)
    # A count goes up with age, a date (logrotate's dateext) goes down.
    return (0, -int(mark)) if len(mark) < 5 else (1, int(mark.ljust(16, "0")))


def _stem(name: str) -> tuple[str, str, str]:
    """A log's name in parts: what rotation leaves, the digits that it adds, the extension behind these."""
    match = _ROTATED.fullmatch(re.sub(r"\.(?:gz|xz|zst|bz2|lzma|lz4|Z)$", "", name))
    if match is None:
        return name, "", ""
    return match["stem"], re.sub(r"\D", "", match["mark"] or ""), match["extension"] or ""


def kills(
    paths: Iterable[str],
    failed: Failed,
    journal_arguments: Sequence[str] = (),
    *,
    text_too: bool = True,
    keep_text: bool = False,
) -> Iterator[OomKill]:
    """The OOM events of the logs at `paths`: files, folders, archives, "-" for standard input. What can't be read goes
    to `failed`, and the rest is read all the same. `journal_arguments`: journalctl's options for journal files.
    `text_too`: false where one boot is asked for, which a text doesn't tell. `keep_text`: see `Parser`."""
    with closing(Spool()) as spool:
        families = in_order(list(find_logs(paths, spool, failed)))
        if not text_too:
            for members in families:
                if not members[0].journal:
                    failed(SourceError(f"Left out {members[0].name}: a text doesn't say which boot a line is of."))
            families = [members for members in families if members[0].journal]
        yield from gather.history([_of_family(members, failed, journal_arguments, keep_text) for members in families])


def system_journal(failed: Failed, arguments: Sequence[str] = (), *, keep_text: bool = False) -> Iterator[OomKill]:
    """The OOM events of the journal, of all boots. (`journalctl -k` would show the present one alone.)
    `arguments`: more of journalctl's options."""
    try:
        stream = journal.read_journal(arguments)
    except SourceError as error:
        failed(error)
        return
    yield from _of_stream(stream, "the journal", failed, keep_text)


def _of_family(
    members: Sequence[LogFile], failed: Failed, arguments: Sequence[str], keep_text: bool
) -> Iterator[OomKill]:
    if not members[0].journal:
        beside = Beside(members[0].changed)
        yield from with_others(_of_text(members, beside, failed, keep_text), beside)
        return
    name = members[0].name if len(members) == 1 else f"{members[0].name.rpartition('/')[0] or '.'}/*.journal"
    paths = []
    for log in members:
        if log.path is not None and (reason := journal.why_unreadable(log.path)) is not None:
            failed(SourceError(f"Failed to read {log.name}: the journal file is damaged ({reason})."))
        elif log.path is not None:
            paths.append(log.path)
    if not paths:
        return
    try:
        stream = journal.read_journal_files(paths, name, arguments)
    except SourceError as error:
        failed(error)
        return
    yield from _of_stream(stream, name, failed, keep_text)


def _of_text(members: Sequence[LogFile], beside: Beside, failed: Failed, keep_text: bool) -> Iterator[OomKill]:
    parser = Parser(members[0].changed, members[0].name, keep_text=keep_text)
    for log in members:
        parser.reference, parser.file = log.changed, log.name
        beside.begin(log.changed, log.name)
        try:
            with log.opened() as stream:
                yield from _events(stream, parser, beside, log.name, failed)
                _tell_damage(stream, log.name, failed)
        except SourceError as error:
            failed(error)
    yield from parser.flush()


def _events(stream: Stream, parser: Parser, beside: Beside, name: str, failed: Failed) -> Iterator[OomKill]:
    try:
        yield from reading.events(stream, parser, beside, parser.reference)
    except Cut:
        failed(partly_read(name, "the JSON is cut off"))


def _of_stream(stream: Stream, name: str, failed: Failed, keep_text: bool) -> Iterator[OomKill]:
    parser, beside = Parser(datetime.now(), name, keep_text=keep_text), Beside(datetime.now(), name)
    yield from with_others(chain(scan(stream, parser, beside), _flushed(parser)), beside)
    _tell_damage(stream, name, failed)


def _flushed(parser: Parser) -> Iterator[OomKill]:
    yield from parser.flush()


def _tell_damage(stream: Stream, name: str, failed: Failed) -> None:
    if stream.damage is not None:
        whole = SourceError(f"Failed to read {name}: {stream.damage}.")
        failed(partly_read(name, stream.damage) if stream.began else whole)
