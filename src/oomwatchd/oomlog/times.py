"""When a line was logged: dates as programs write them, to ISO 8601. Pure.

Month names come in all languages that glibc has (`month_names`). A name that means another month in a second language
is only believed where the weekday beside it, or the other dates of the log, leave one of them.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

_KMSG = re.compile(r"(?:[\s>]*|\d{1,3}\.\d{1,4}[\w.+~-]{0,80},)\d{1,4},\d{1,20},(\d{1,20}),")
_ISO = re.compile(
    r"(?<![\d.])(\d{4})[-/.](\d\d)[-/.](\d\d)[T _](\d\d:\d\d:\d\d)(?:[.,:](\d{1,6})\d*)?"
    r" ?(Z\b|UTC\b|GMT\b|[+-]\d\d(?::?\d\d)?(?![\d-]))?"
)
_UNIX = re.compile(r"(?<![\d.\[])(\d{9,10}\.\d{1,9})(?![\d.\]])")
_UNIX_MS = re.compile(r"(?<![\d.\[])(1\d{12})(?![\d.\]])")
_DOTTED = re.compile(r"(?<![\d.])(\d{1,2})\.(\d{1,2})\.(\d{4}),? (\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?")
_KOREAN = re.compile(r"(?<![\d.])(\d{4})\. ?(\d{1,2})\. ?(\d{1,2})\.? (?:\(\S{1,4}\) )?(\d\d:\d\d:\d\d)")
_COMPACT = re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.(\d{1,6})\d*)?(Z|[+-]\d\d:?\d\d)?(?=\s)")
_AMERICAN = re.compile(
    r"(?<!\d)(\d{1,2})/(\d{1,2})/(\d{4}),? (\d{1,2}):(\d\d):(\d\d)(?:[.,](\d{1,6})\d*)?(?: ([AP])M)?"
)
_MONTH_DAY = re.compile(r"(?<![\d-])(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{1,6})")  # Android's logcat
_CLOCK = re.compile(r"(?<!\d)(\d{1,2})[:時时시]\s?(\d\d)(?:[:分분]\s?(\d\d)(?:\.(\d{1,6})\d*)?)?")
_HALF = re.compile(r" ([AP])M\b")
_CLOCK_ZONE = re.compile(r"[秒초]? ?(?:(UTC|GMT|Z)\b|([+-]\d\d(?::?\d\d)?)(?![\d-]))")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?![\d-]|:[\da-fA-F:])")
_UPTIME = re.compile(r"\[ *(?:\d{1,3}-)?(\d{1,12}\.\d{1,9})\b")
_DAY = re.compile(r"(?<![\d:./])(\d{1,2})(?![\d:月월/])")
_CJK_MONTH = re.compile(r"(?<!\d)(\d{1,2})\s?[月월]")
_WORD = re.compile(r"[^\s\d,.;:()\[\]<>|\"'=/]+(?: \d{1,2}(?= +\d))?")
_ENGLISH = "jan feb mar apr may jun jul aug sep oct nov dec"


def time_of(prefix: str, reference: datetime, calendar: "Calendar | None" = None) -> str | float | None:
    """When a line with this prefix was logged: an ISO 8601 time, with its offset where the log has one; or the
    seconds since boot where it has only these; or None. A date without a year is the last one not after
    `reference` (naive, local)."""
    if match := _KMSG.match(prefix):
        return int(match[1]) / 1e6
    found = _numbers(prefix)
    if found is not None:
        return found
    named = _named_date(prefix, reference, calendar or Calendar())
    return uptime_of(prefix) if named is None else named


def uptime_of(prefix: str) -> float | None:
    """The seconds since boot that a prefix holds."""
    if match := _KMSG.match(prefix):
        return int(match[1]) / 1e6
    uptime = _UPTIME.search(prefix)
    return None if uptime is None else float(uptime[1])


def seconds_of(time: str | float | None) -> float | None:
    """A time as seconds, to compare it with another of its kind. One without an offset is taken for local."""
    if time is None or isinstance(time, float):
        return time
    try:
        moment = datetime.fromisoformat(time)
        return (moment if moment.tzinfo is not None else moment.astimezone()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def utc(microseconds: int) -> str | None:
    """Microseconds since 1970 in ISO 8601, UTC; None for a year that there isn't."""
    try:
        return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def _numbers(prefix: str) -> str | None:
    """A date that is written in figures."""
    isos = list(_ISO.finditer(prefix))
    if isos:
        # A shipper's date may stand before the host's own: the one that has an offset says more.
        return _iso(next((match for match in isos if match[6]), isos[0]))
    if match := _KOREAN.search(prefix):
        return _checked(f"{match[1]}-{int(match[2]):02}-{int(match[3]):02}T{match[4]}", None)
    if match := _DOTTED.search(prefix):
        fraction = f".{match[5].ljust(6, '0')}" if match[5] else ""
        return _checked(f"{match[3]}-{int(match[2]):02}-{int(match[1]):02}T{match[4]}{fraction}", None)
    if match := _COMPACT.search(prefix):
        year, month, day, hour, minute, second, parts, offset = match.groups()
        fraction = f".{parts.ljust(6, '0')}" if parts else ""
        return _checked(f"{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}", offset)
    if match := _UNIX.search(prefix):
        return utc(int(float(match[1]) * 1e6))
    if match := _UNIX_MS.search(prefix):
        return utc(int(match[1]) * 1000)
    if match := _AMERICAN.search(prefix):
        return _american(match)
    return None


def _iso(match: re.Match[str]) -> str | None:
    year, month, day, clock, fraction, offset = match.groups()
    return _checked(f"{year}-{month}-{day}T{clock}" + (f".{fraction.ljust(6, '0')}" if fraction else ""), offset)


def _checked(text: str, offset: str | None) -> str | None:
    if offset in ("Z", "UTC", "GMT"):
        offset = "+00:00"
    elif offset is not None:
        digits = offset[1:].replace(":", "").ljust(4, "0")
        offset = f"{offset[0]}{digits[:2]}:{digits[2:]}"
    try:
        return datetime.fromisoformat(text + (offset or "")).isoformat()
    except ValueError:
        return None


def _american(match: re.Match[str]) -> str | None:
    """ "3/25/2026, 4:07:35.927 AM". Where both may be the month, nothing tells which is."""
    first, second = int(match[1]), int(match[2])
    if first <= 12 and second <= 12 and first != second and match[8] is None:
        return None
    month, day = (first, second) if first <= 12 else (second, first)
    hour = int(match[4]) if match[8] is None else int(match[4]) % 12 + (12 if match[8] == "P" else 0)
    fraction = int((match[7] or "").ljust(6, "0"))
    try:
        return datetime(int(match[3]), month, day, hour, int(match[5]), int(match[6]), fraction).isoformat()
    except ValueError:
        return None


def _named_date(prefix: str, reference: datetime, calendar: "Calendar") -> str | None:
    """A date with a month's name, or with none ("03-15 04:07:35.927")."""
    if match := _MONTH_DAY.search(prefix):
        month, day, hour, minute, second = (int(part) for part in match.groups()[:5])
        fraction = int(match[6].ljust(6, "0"))
        return _latest(Moment(None, frozenset((month,)), day, hour, minute, second, fraction, None), reference)
    for clock_match in _CLOCK.finditer(prefix):
        moment = calendar.read(prefix, clock_match)
        if moment is None:
            continue
        if (half := _HALF.match(prefix, clock_match.end())) is not None and moment.hour <= 12:
            moment = moment._replace(hour=moment.hour % 12 + (12 if half[1] == "P" else 0))
        found = _latest(moment, reference)
        if found is None:
            return None
        zone = _CLOCK_ZONE.match(prefix, clock_match.end())
        return found if zone is None else _checked(found, zone[1] or zone[2])
    return None


class Moment(NamedTuple):
    """A date as read. `months`: those that its month's name may mean. `weekday`: 0 is Sunday."""

    year: int | None
    months: frozenset[int]
    day: int
    hour: int
    minute: int
    second: int
    microsecond: int
    weekday: int | None


def _latest(moment: Moment, reference: datetime) -> str | None:
    """The date that is meant: of the year that it names, else the last one not after `reference`."""
    if len(moment.months) != 1:
        return None
    (month,) = moment.months
    years = [moment.year] if moment.year is not None else range(reference.year, reference.year - 5, -1)
    clock = (moment.hour, moment.minute, moment.second, moment.microsecond)
    for year in years:
        try:
            found = datetime(year, month, moment.day, *clock)
        except ValueError:  # 29 February: an earlier year may have it
            continue
        if moment.year is not None or found <= reference:
            return found.isoformat()
    return None


class Calendar:
    """Reads dates with names, and remembers in which languages a log's names can be."""

    def __init__(self) -> None:
        self._languages: frozenset[int] | None = None

    def observe(self, prefixes: Iterable[str]) -> None:
        """Learn the log's language from some of its lines."""
        for prefix in prefixes:
            for clock in _CLOCK.finditer(prefix):
                self.read(prefix, clock)

    def read(self, prefix: str, clock: re.Match[str]) -> Moment | None:
        """The date around a clock time; None if there is none."""
        date = _date_in(prefix[max(0, clock.start() - 80) : clock.start()])
        if date is None:
            return None
        year = date.year
        if year is None and (behind := _YEAR.search(prefix, clock.end())) is not None:
            year = int(behind[1])
        months, weekday = self._names(date, year)
        if not months or int(clock[1]) > 23 or int(clock[2]) > 59 or int(clock[3] or 0) > 59:
            return None
        fraction = int((clock[4] or "").ljust(6, "0"))
        figures = (int(clock[1]), int(clock[2]), int(clock[3] or 0), fraction)
        return Moment(year, months, date.day, *figures, weekday)

    def _names(self, date: "_Date", year: int | None) -> tuple[frozenset[int], int | None]:
        """The months that the names of a date may mean, and the weekday."""
        months = frozenset(date.months)
        if not date.name:
            return months, None
        self._learn(date.months, date.weekdays)
        if len(months) > 1:
            months = self._narrowed(date.name, date.months)
        weekdays = frozenset(date.weekdays)
        if len(months) > 1 and year is not None and len(weekdays) == 1:
            months = frozenset(month for month in months if _weekday(year, month, date.day) in weekdays) or months
        return months, next(iter(weekdays)) if len(weekdays) == 1 else None

    def _learn(self, *names: Mapping[int, frozenset[int]]) -> None:
        for senses in names:
            if not senses:
                continue
            languages = frozenset[int]().union(*senses.values())
            both = languages if self._languages is None else self._languages & languages
            # A log in two languages: the later one counts.
            self._languages = both or languages

    def _narrowed(self, word: str, senses: Mapping[int, frozenset[int]]) -> frozenset[int]:
        """What a month's name means in the languages that the log can be in."""
        known = self._languages or frozenset()
        months = frozenset(month for month, languages in senses.items() if languages & known)
        if len(months) != 1 and word in _ENGLISH.split():
            return frozenset((_ENGLISH.split().index(word) + 1,))
        return months


class _Date(NamedTuple):
    """What stands before a clock time. `months`: those that its month may mean, each with the languages in which it
    does; none in figures. `name`: the month's; empty in figures, or without a month. `weekdays`: as `months`."""

    year: int | None
    day: int
    months: Mapping[int, frozenset[int]]
    name: str
    weekdays: Mapping[int, frozenset[int]]


@functools.lru_cache(maxsize=256)
def _date_in(before: str) -> _Date | None:
    """The date at the end of the text before a clock time. It is the same for all lines of a day."""
    cjk = _last(_CJK_MONTH, before)
    days = _DAY.findall(before[cjk.end() :] if cjk is not None else before)
    day = int(days[-1]) if days else 0
    if not 1 <= day <= 31:
        return None
    found = _last(_YEAR, before)
    year = None if found is None else int(found[1])
    if cjk is not None:
        return _Date(year, day, {int(cjk[1]): frozenset()}, "", {})
    words = _words(before)
    at = next((at for at in range(len(words) - 1, -1, -1) if _months(words[at])), None)
    if at is None:
        return _Date(year, day, {}, "", {})
    return _Date(year, day, _months(words[at]), words[at], _weekdays(words[at - 1]) if at > 0 else {})


def _words(text: str) -> list[str]:
    """The words before a clock time, in lower case. A name may have a number of its own (Vietnamese "Thg 3"), and
    dmesg -H writes the day right behind one ("Mar15")."""
    words = []
    for word in _WORD.findall(text):
        name = word.lower().rstrip(".")
        words.append(name if " " not in name or _months(name) else name.partition(" ")[0])
    return words


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007 (the last one is wanted)
        pass
    return found


def _weekday(year: int, month: int, day: int) -> int | None:
    try:
        return datetime(year, month, day).isoweekday() % 7
    except ValueError:
        return None


def _months(word: str) -> Mapping[int, frozenset[int]]:
    """Month to the languages in which the word means it."""
    return _names_table()[1].get(word, {})


def _weekdays(word: str) -> Mapping[int, frozenset[int]]:
    """Day of the week (0 is Sunday) to the languages in which the word means it."""
    return _names_table()[0].get(word, {})


_Senses = dict[str, dict[int, frozenset[int]]]


@functools.cache
def _names_table() -> tuple[_Senses, _Senses]:
    from oomwatchd.oomlog.month_names import NAMES  # 70 KB that most logs don't need

    tables: tuple[dict[str, dict[int, set[int]]], ...] = ({}, {})
    for language, line in enumerate(NAMES.strip().split("\n")):
        for table, half, first in zip(tables, line.split("|"), (0, 1), strict=True):
            for index, forms in enumerate(half.split(";"), start=first):
                for form in filter(None, forms.split("/")):
                    table.setdefault(form, {}).setdefault(index, set()).add(language)
    days, months = ({k: {n: frozenset(v) for n, v in s.items()} for k, s in table.items()} for table in tables)
    return days, months
