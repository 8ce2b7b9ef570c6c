"""Says of a value that has the wrong type what it is, and what was probably meant. Pure.

It is imported only where a configuration has such a mistake."""

import re

from oomwatchd.config.kinds import VERY_LONG, kind
from oomwatchd.config.odd_characters import DASHES
from oomwatchd.config.problems import suggestion
from oomwatchd.config.word_hints import FALSE_WORDS, TRUE_WORDS
from oomwatchd.rules.model import INHERIT, RESET

_RANGE = re.compile(r"\s*(-?[0-9]{1,4})\s*(?:\.{2,3}|-|–|to|:|,)\s*(-?[0-9]{1,4})\s*")


def instead_of_truth(value: object) -> str:
    """The end of a message about a value that should be true or false."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in TRUE_WORDS + FALSE_WORDS:
        return f"without quotes: {'true' if word in TRUE_WORDS else 'false'}"
    return f"not {kind(value)}"


def instead_of_number(value: object, low: int, high: int, *, has_bounds: bool = False) -> str:
    """The end of a message about a value that should be a whole number from `low` to `high`. `has_bounds`: bounds may
    stand in its place."""
    number = number_meant(value)
    if number is not None and low <= number <= high:
        return f"without quotes: {number}" if isinstance(value, str) else f"not {kind(value)}; write {number}"
    percent = re.fullmatch(r"\s*([+-]?[0-9]{1,4})\s*(?:%|percent)\s*", value) if isinstance(value, str) else None
    if percent and low <= int(percent[1]) * 10 <= high:
        return f"not {kind(value)}; it counts in thousandths of the memory: write {int(percent[1]) * 10}"
    bounds = _RANGE.fullmatch(value) if isinstance(value, str) and has_bounds else None
    if bounds and low <= int(bounds[1]) <= int(bounds[2]) <= high:
        return f"not {kind(value)}; bounds are written {{ at_least = {bounds[1]}, at_most = {bounds[2]} }}"
    return f"not {kind(value)}"


def instead_of_children(value: object) -> str:
    """The message about a value of `children` that is none."""
    said = f"'{value}'" if isinstance(value, str) else kind(value)
    close, number = "", number_meant(value)
    if number is not None:
        close = f"; write the number {'without quotes' if isinstance(value, str) else 'alone'}: {number}"
    elif isinstance(value, bool):
        close = f'; write "{INHERIT if value else RESET}"'
    elif isinstance(value, str):
        close = suggestion(value.lower(), (INHERIT, RESET))
    return f'{said} is neither "inherit" nor "reset" nor a number{close}'


def number_meant(value: object) -> int | None:
    """The whole number that seems to be meant by a value of another type; None: none does."""
    if isinstance(value, float) and value.is_integer() and abs(value) < VERY_LONG:
        return int(value)
    if not isinstance(value, str):
        return None
    text = value.strip().translate(dict.fromkeys(map(ord, DASHES), "-")).replace(" ", "")
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,10}", text) else None
