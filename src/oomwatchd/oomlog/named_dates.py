"""Dates with a month's name. Pure.

Month names come in all languages that glibc has (`month_names`). A name that means another month in a second language
is only believed where the weekday beside it, or the other dates of the log, leave one of them."""

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

CLOCK = re.compile(r"(?<!\d)(\d{1,2})[:時时시]\s?(\d\d)(?:[:分분]\s?(\d\d)(?:\.(\d{1,6})\d*)?)?")
"""A time of day."""
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?![\d-]|:[\da-fA-F:])")
_DAY = re.compile(r"(?<![\d:./])(\d{1,2})(?![\d:月월/])")
_CJK_MONTH = re.compile(r"(?<!\d)(\d{1,2})\s?[月월]")
_WORD = re.compile(r"[^\s\d,.;:()\[\]<>|\"'=/]+(?: \d{1,2}(?= +\d))?")
_ENGLISH = "jan feb mar apr may jun jul aug sep oct nov dec"


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


class Calendar:
    """Reads dates with names, and remembers in which languages a log's names can be."""

    def __init__(self) -> None:
        self._languages: frozenset[int] | None = None

    def observe(self, prefixes: Iterable[str]) -> None:
        """Learn the log's language from some of its lines."""
        for prefix in prefixes:
            for clock in CLOCK.finditer(prefix):
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
