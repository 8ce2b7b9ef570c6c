"""Joins the events of several logs to one history: in the order of time, each event once. Pure.

One event may be in several logs: kern.log and syslog, a serial console, a log that was appended to itself. A fact that
one log lacks may be in another."""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import chain

from oomwatchd.oomlog.record import Invoker, Killed, OomKill

# The number of events that are held back, so that an event that was logged late still gets its place.
_WINDOW = 32
# The most rows of tables that the events held back may have.
_WINDOW_ROWS = 50_000
# The number of returned events that are remembered, to recognize copies.
_REMEMBERED = 4096
# Seconds by which the times that two programs give one line of the kernel may differ.
_APART_S = 2.0
_UPTIME_APART_S = 1.0
# Time zones differ by quarters of an hour, at most 26 hours from each other.
_QUARTER_S, _DAY_S = 900.0, 26 * 3600.0

_Key = tuple[float, int]


def history(logs: Sequence[Iterable[OomKill]]) -> Iterator[OomKill]:
    """The events of all `logs`, in the order of time, each once. Logs without dates come last, in their own order."""
    return _distinct(kill for _, kill in heapq.merge(*(_in_time(n, log) for n, log in enumerate(logs)), key=_key))


def _key(item: tuple[_Key, OomKill]) -> _Key:
    return item[0]


def _in_time(number: int, log: Iterable[OomKill]) -> Iterator[tuple[_Key, OomKill]]:
    """The events of a log with their sort keys. An event without a date stays in its place within the log."""
    kills = iter(log)
    head = list(_first(kills))
    last = next((when for kill in head if (when := _when(kill)) is not None), float("inf"))
    held: list[tuple[float, int, OomKill]] = []
    rows = 0
    for count, kill in enumerate(chain(head, kills)):
        when = _when(kill)
        last = last if when is None else when
        heapq.heappush(held, (last, count, kill))
        rows += _rows(kill)
        while len(held) > _WINDOW or (rows > _WINDOW_ROWS and len(held) > 1):
            when_first, _, first = heapq.heappop(held)
            rows -= _rows(first)
            yield (when_first, number), first
    while held:
        when_first, _, first = heapq.heappop(held)
        yield (when_first, number), first


def _first(kills: Iterator[OomKill]) -> Iterator[OomKill]:
    """The next events of `kills`, as many as are held at a time."""
    rows = 0
    for count, kill in enumerate(kills, start=1):
        yield kill
        rows += _rows(kill)
        if count >= _WINDOW or rows > _WINDOW_ROWS:
            return


def _rows(kill: OomKill) -> int:
    return len(kill.tasks or ()) + len(kill.also_killed)


def _when(kill: OomKill) -> float | None:
    """Seconds since 1970 of an event with a date. One without an offset is taken as this machine's local time."""
    if not isinstance(kill.time, str):
        return None
    try:
        return datetime.fromisoformat(kill.time).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _distinct(kills: Iterable[OomKill]) -> Iterator[OomKill]:
    """Each event once. Two records of one event are joined if the first is still held."""
    held: OrderedDict[int, OomKill] = OrderedDict()
    told: OrderedDict[tuple[object, ...], list[tuple[int, OomKill]]] = OrderedDict()
    rows = 0
    for number, kill in enumerate(kills):
        known = told.setdefault(_who(kill), [])
        told.move_to_end(_who(kill))
        for at, (earlier, other) in enumerate(known):
            if _same(other, kill):
                if earlier in held:
                    rows -= _rows(held[earlier])
                    held[earlier] = _joined(held[earlier], kill)
                    rows += _rows(held[earlier])
                    known[at] = (earlier, _without_table(held[earlier]))
                break
        else:
            held[number] = kill
            rows += _rows(kill)
            known.append((number, _without_table(kill)))
            del known[:-8]
        if len(told) > _REMEMBERED:
            told.popitem(last=False)
        while len(held) > _WINDOW or (rows > _WINDOW_ROWS and len(held) > 1):
            first = held.popitem(last=False)[1]
            rows -= _rows(first)
            yield first
    yield from held.values()


def _without_table(kill: OomKill) -> OomKill:
    """The event without its table, to be remembered: a table may be large."""
    return replace(kill, tasks=None, also_killed=(), original=())


def _who(kill: OomKill) -> tuple[object, ...]:
    if kill.victim is None:
        return (kill.killer, None, kill.invoker.comm)
    return (kill.killer, kill.victim.pid, kill.victim.comm)


def _same(one: OomKill, other: OomKill) -> bool:
    """Whether two records are about the same event."""
    if not _agree(_short(one.host), _short(other.host)) or _contradict(one, other):
        return False
    if one.file == other.file and one.host == other.host and type(one.time) is type(other.time):
        return _same_record(one, other)
    if one.uptime is not None and other.uptime is not None:
        return abs(one.uptime - other.uptime) <= _UPTIME_APART_S and _close(one, other) is not False
    close = _close(one, other)
    if close is None or (not close and one.file != other.file and _in_other_zones(one, other)):
        return _same_figures(one.victim, other.victim)
    return close


def _in_other_zones(one: OomKill, other: OomKill) -> bool:
    """Whether two times without offsets may be the same moment, each in a zone of its own: dmesg -T, read elsewhere."""
    if not isinstance(one.time, str) or not isinstance(other.time, str):
        return False
    first, second = datetime.fromisoformat(one.time), datetime.fromisoformat(other.time)
    if first.tzinfo is not None or second.tzinfo is not None:
        return False
    apart = abs((first - second).total_seconds())
    return apart <= _DAY_S and min(apart % _QUARTER_S, _QUARTER_S - apart % _QUARTER_S) <= _APART_S


def _same_record(one: OomKill, other: OomKill) -> bool:
    """Whether two records of one log are one event: written twice, or cut in two by a line of another program."""
    if one.time is None or one.time != other.time:
        return False
    precise = one.uptime is not None or (isinstance(one.time, str) and "." in one.time)
    return (precise or one.victim == other.victim) and one.uptime == other.uptime


def _close(one: OomKill, other: OomKill) -> bool | None:
    """Whether two dates may be those of one event; None: one of them has no date."""
    if not isinstance(one.time, str) or not isinstance(other.time, str):
        return None
    try:
        first, second = datetime.fromisoformat(one.time), datetime.fromisoformat(other.time)
    except ValueError:
        return None
    if (first.tzinfo is None) == (second.tzinfo is None):
        return abs((first - second).total_seconds()) <= _APART_S
    # One of them is local time somewhere.
    apart = abs((first.replace(tzinfo=UTC) - second.replace(tzinfo=UTC)).total_seconds())
    if first.tzinfo is not None or second.tzinfo is not None:
        offset = next(moment.utcoffset() for moment in (first, second) if moment.tzinfo is not None)
        if offset:
            apart = abs((_utc(first) - _utc(second)).total_seconds())
    return apart <= _DAY_S and min(apart % _QUARTER_S, _QUARTER_S - apart % _QUARTER_S) <= _APART_S


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _same_figures(one: Killed | None, other: Killed | None) -> bool:
    """Whether two kill lines without comparable times are one: pages in use are never the same twice."""
    if one is None or other is None:
        return False
    return one.anon_rss_kb is not None and (one.total_vm_kb, one.anon_rss_kb) == (other.total_vm_kb, other.anon_rss_kb)


def _short(host: str | None) -> str | None:
    return None if host is None else host.partition(".")[0].lower() or host


def _agree(one: object, other: object) -> bool:
    return one is None or other is None or one == other


def _contradict(one: OomKill, other: OomKill) -> bool:
    pairs = [
        (getattr(one.invoker, name), getattr(other.invoker, name)) for name in ("pid", "comm", "gfp_mask", "order")
    ]
    pairs += [(one.kernel, other.kernel), (one.panic, other.panic), (one.memcg, other.memcg)]
    if one.victim is not None and other.victim is not None:
        names = ("total_vm_kb", "anon_rss_kb", "file_rss_kb", "uid")
        pairs += [(getattr(one.victim, name), getattr(other.victim, name)) for name in names]
    return not all(_agree(first, second) for first, second in pairs)


def _joined(first: OomKill, second: OomKill) -> OomKill:
    """One event made of two records of it: the fuller one, with the facts that only the other has."""
    base, other = (first, second) if _fullness(first) >= _fullness(second) else (second, first)
    filled = {
        field.name: getattr(other, field.name)
        for field in fields(OomKill)
        if getattr(base, field.name) is None and getattr(other, field.name) is not None
    }
    victim = base.victim
    if other.victim is not None and (victim is None or _known(other.victim) > _known(victim)):
        victim = other.victim
    asked = {
        name: value if (value := getattr(base.invoker, name)) is not None else getattr(other.invoker, name)
        for name in Invoker.__slots__
    }
    filled |= {
        "victim": victim,
        "invoker": Invoker(**asked),
        "time": _better_time(first.time, second.time),
        "also_killed": max(first.also_killed, second.also_killed, key=len),
        "file": first.file,
        "no_killable": first.no_killable or second.no_killable,
    }
    return replace(base, **filled)


def _better_time(one: str | float | None, other: str | float | None) -> str | float | None:
    """The time that says more: a date with an offset before one without, and that before seconds since boot."""
    return max(one, other, key=lambda time: (time is not None, isinstance(time, str), _is_aware(time)))


def _is_aware(time: str | float | None) -> bool:
    try:
        return isinstance(time, str) and datetime.fromisoformat(time).tzinfo is not None
    except ValueError:
        return False


def _fullness(kill: OomKill) -> tuple[bool, int, int]:
    known = sum(getattr(kill, field.name) is not None for field in fields(OomKill))
    return (not kill.truncated, len(kill.tasks or ()), known)


def _known(killed: Killed) -> int:
    return sum(getattr(killed, name) is not None for name in Killed.__slots__)
