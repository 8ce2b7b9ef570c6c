"""Estimates the longest time that a search for a regular expression can take, in the worst text for it. Pure.

Python's `re` tries one way to match after the other (backtracking). An expression with k repeats that can match the
same characters takes up to length ** (k + 1) steps. An expression with a repeat within a repeat takes up to 2 ** length
steps."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from re import _parser  # type: ignore[attr-defined]  # the parser that re itself uses: sre_parse before 3.11

_MANY = 8
"""A repeat with more rounds than this counts as endless."""
_SECONDS_LINEAR, _SECONDS_STEP = 10e-9, 3e-9
"""Seconds for one character of a linear search, and for one step of backtracking. Measured with Python 3.11 on `.*?x`
and `\\d+x`, the slowest expressions that were found."""
_SAMPLE = "a-/"
"""A repeat that accepts all of these characters accepts most of a command line or a path."""

Item = tuple[object, object]


@dataclass(slots=True)
class Shape:
    """The parts of an expression that can make a search take long."""

    repeats: int = 0
    """The number of endless repeats."""
    options: int = 0
    """The number of repeats of few rounds, and of choices. Each of them doubles the number of ways to match."""
    nested: bool = False
    """Whether a repeat is within a repeat."""
    variable: bool = False
    """Whether the expression can match texts of different lengths."""

    def add(self, other: "Shape", times: int = 1) -> None:
        """Add the parts of another expression, `times` times."""
        self.repeats += other.repeats * times
        self.options += other.options * times
        self.nested = self.nested or other.nested
        self.variable = self.variable or other.variable


def shape(regex: str) -> Shape:
    """The shape of `regex`, which re.compile() has accepted."""
    return _shape(_parser.parse(regex))


def _shape(items: Iterable[Item]) -> Shape:
    found = Shape()
    for operation, argument in items:
        name = str(operation)
        if name in _REPEATS:
            found.add(_shape_of_repeat(*argument))  # type: ignore[misc]
        elif name == "GROUPREF":
            found.repeats += 1
            found.variable = True
        else:
            parts = _parts(name, argument)
            for part in parts:
                found.add(_shape(part))
            if len(parts) > 1:
                found.options += 1
                found.variable = True
    return found


_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


def _shape_of_repeat(least: int, most: int, body: Sequence[Item]) -> Shape:
    inner, found = _shape(body), Shape()
    if most > _MANY:
        found.add(inner)
        found.nested = inner.nested or inner.variable
        found.repeats += least != most
    else:
        found.add(inner, times=most)
        found.options += most - least
    found.variable = inner.variable or least != most
    return found


def _parts(name: str, argument: object) -> list[Sequence[Item]]:
    """The expressions within an item. A repeat is none of them."""
    if name == "BRANCH":
        return list(argument[1])  # type: ignore[index]
    if name == "GROUPREF_EXISTS":
        return [part for part in argument[1:] if part]  # type: ignore[index]
    if name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
        return [argument[-1]]  # type: ignore[index]
    return [argument] if name == "ATOMIC_GROUP" else []  # type: ignore[list-item]


def seconds(shapes: Iterable[Shape], length: int) -> float:
    """The seconds that searches for all `shapes` take at most in a text of `length` characters. This is measured, not
    proven."""
    total = 0.0
    for each in shapes:
        if each.nested:
            total += _SECONDS_LINEAR * 2.0 ** min(length, 100)
        elif each.repeats or each.options:
            total += _SECONDS_STEP * float(length) ** (1 + each.repeats) * 2.0 ** min(each.options, 100)
        total += _SECONDS_LINEAR * length
    return total


def longest_within(shapes: Sequence[Shape], limit: float) -> int:
    """The length of a text, in characters, up to which searches for all `shapes` take at most `limit` seconds. It is a
    power of two."""
    length = 1
    while length < 1 << 24 and seconds(shapes, length * 2) <= limit:
        length *= 2
    return length


# For people


def slow_part(regex: str) -> str:
    """What in the expression can make a search take long, for a warning; empty: nothing. An expression such as
    `foo.*bar` is none: only a command line of many thousands of bytes would exceed the budget."""
    items = list(_parser.parse(regex))
    if _has_nested(items):
        return "it has a repeat within a repeat"
    ambiguous = _ambiguous(_flattened(items))
    return f"it has {ambiguous} repeats that can each take what the next one needs" if ambiguous > 1 else ""


def _has_nested(items: Iterable[Item]) -> bool:
    for operation, argument in items:
        name = str(operation)
        if name in _REPEATS:
            most, body = argument[1], argument[2]  # type: ignore[index]
            if _has_nested(body) or (most > _MANY and name != "POSSESSIVE_REPEAT" and _blurred(_flattened(body))):
                return True
        elif any(_has_nested(part) for part in _parts(name, argument)):
            return True
    return False


def _blurred(body: Sequence[Item]) -> bool:
    """Whether one round of a repeat can match the same text in several ways. That is so if its body has a repeat that
    can also take all literal characters of the body, or choices that begin with the same character."""
    for operation, argument in body:
        if str(operation) == "BRANCH" and _overlap(argument[1]):  # type: ignore[index]
            return True
    repeated = [argument[2] for operation, argument in body if _is_long_repeat(operation, argument)]  # type: ignore[index]
    literals = [chr(argument) for operation, argument in body if str(operation) == "LITERAL"]  # type: ignore[arg-type]
    return any(all(_accepts(inner, literal) for literal in literals) for inner in repeated)


def _overlap(choices: Sequence[Sequence[Item]]) -> bool:
    """Whether two choices can begin with the same character, or one can match nothing."""
    firsts = [_flattened(choice)[:1] for choice in choices]
    letters = [chr(first[0][1]) for first in firsts if first and str(first[0][0]) == "LITERAL"]  # type: ignore[arg-type]
    if not all(firsts) or len(set(letters)) < len(letters):
        return True
    broad = [first for first in firsts if str(first[0][0]) != "LITERAL"]
    return len(broad) > 1 or any(_accepts(first, letter) for first in broad for letter in letters)


def _is_long_repeat(operation: object, argument: object) -> bool:
    return str(operation) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] > _MANY  # type: ignore[index]


def _flattened(items: Iterable[Item]) -> list[Item]:
    """The items, those of groups in the place of the groups."""
    flat: list[Item] = []
    for operation, argument in items:
        if str(operation) == "SUBPATTERN":
            flat += _flattened(argument[-1])  # type: ignore[index]
        else:
            flat.append((operation, argument))
    return flat


def _ambiguous(items: Sequence[Item]) -> int:
    """The number of endless repeats that can also take the text that the following items need."""
    count = 0
    for at, (operation, argument) in enumerate(items):
        if not _is_long_repeat(operation, argument):
            continue
        body = argument[2]  # type: ignore[index]
        rest = items[at + 1 :]
        literal = next((chr(a) for o, a in rest if str(o) == "LITERAL"), "")  # type: ignore[arg-type]
        if rest and all(_accepts(body, c) for c in _SAMPLE) and (not literal or _accepts(body, literal)):
            count += 1
    return count


def _accepts(body: Sequence[Item], character: str) -> bool:
    """Whether a body of one item takes the character. True also where that isn't known."""
    flat = _flattened(body)
    if len(flat) != 1:
        return True
    operation, argument = flat[0]
    name = str(operation)
    if name == "LITERAL":
        return bool(argument == ord(character))
    if name == "NOT_LITERAL":
        return bool(argument != ord(character))
    return _in_set(argument, character) if name == "IN" else True  # type: ignore[arg-type]


_CATEGORIES = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}


def _in_set(members: Sequence[Item], character: str) -> bool:
    negated = bool(members) and str(members[0][0]) == "NEGATE"
    return any(_is_member(str(operation), argument, character) for operation, argument in members) is not negated


def _is_member(name: str, argument: object, character: str) -> bool:
    if name == "LITERAL":
        return argument == ord(character)
    if name == "RANGE":
        return argument[0] <= ord(character) <= argument[1]  # type: ignore[index,no-any-return]
    if name != "CATEGORY":
        return False
    kind = str(argument).removeprefix("CATEGORY_")
    found = re.match(_CATEGORIES[kind.removeprefix("NOT_")], character) is not None
    return found is not kind.startswith("NOT_")
