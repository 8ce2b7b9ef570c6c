"""Forms of dates before a line of a log. What they mean is read by `times`. Pure."""

import re

CLOCK = r"\d{1,2}:\d\d:\d\d(?:[.,:]\d{1,9})?"
_ZONE = r"(?:\ ?(?:Z|UTC|GMT|[A-Z]{1,4}T|MSK|WIB|[+-]\d\d(?::?\d\d)?)(?=[\s\]|:,;\"'{]|$))"
_WORD = r"[^\W\d][^\s\d:\[\]\"|,<>{}=]{0,20}"
_WEEKDAY = rf"(?:{_WORD},?\ {{1,2}})"
_ISO = rf"{_WEEKDAY}?\d{{4}}[-/.]\d\d[-/.]\d\d[T\ _]{CLOCK}{_ZONE}?"
_NAMED = rf"""
    (?:{_WEEKDAY}?(?:\d{{4}}\ )?(?:{_WORD}\ {{1,2}}(?:\d{{1,2}}\ {{1,2}})?\d{{1,2}} | \d{{1,2}}[月월]\ {{0,2}}\d{{1,2}}
      | \d{{1,2}}\.?[\ -]{_WORD}) ,? (?:[\ -]\d{{4}})? [\ :]{{1,2}}
      (?:@\ )? {CLOCK} (?:\ [AP]M\b)? {_ZONE}? (?:\ \d{{4}}(?=[\s\]]))?)
"""
_CJK = r"(?:\d{4}[年년]\ ?\d{1,2}[月월]\ ?\d{1,2}[日일][^\d\[]{0,12}\d{1,2}[:時时시]\ ?\d\d[:分분]\ ?\d\d[秒초]?)"
_DOTTED = (
    rf"(?:\d{{1,2}}\.\d{{1,2}}\.\d{{4}},?\ {CLOCK}"
    rf"|\d{{4}}\.\ ?\d{{1,2}}\.\ ?\d{{1,2}}\.?\ (?:\(\S{{1,4}}\)\ )?{CLOCK}{_ZONE}?)"
)
_COMPACT = r"\d{8}T\d{6}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?(?=\ )"
_AMERICAN = rf"\d{{1,2}}/\d{{1,2}}/\d{{4}},?\ {CLOCK}(?:\ [AP]M)?"
DATE = rf"(?:{_ISO}|{_NAMED}|{_CJK}|{_AMERICAN}|{_DOTTED}|{_COMPACT})"
"""A date as programs write it, an expression for re.VERBOSE."""

_WHOLE_DATE = re.compile(DATE, re.VERBOSE)


def is_date(text: str) -> bool:
    """Whether `text` is a date and nothing else."""
    return _WHOLE_DATE.fullmatch(text.strip()) is not None
