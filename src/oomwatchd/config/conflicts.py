"""Finds names that a text sets twice: by a header, by a key with dots, by a table in braces, or by a value.

Each statement alone is valid TOML, and only tomli, which reads the whole text, refuses the second one. This module is
imported only when a file is invalid.
"""

import re

import tomli

from oomwatchd.config.problems import Fault

_TWICE = re.compile(r"Cannot (?:declare|redefine namespace|mutate immutable namespace) \((.*?),?\)")
_IN_BRACES = re.compile(r"Duplicate inline table key '(.*)'")
_PLACE = re.compile(r" \(at line (\d+), column \d+\)$")
_HEADER = re.compile(r"[ \t]*\[")
_MOST = 20
"""The most faults that are found."""


def part_conflicts(text: str) -> tuple[list[Fault], str]:
    """The statements that set a name a second time, as faults; and the text without them, with the same number of
    lines. Other mistakes that tomli refuses stay in the text."""
    faults = list[Fault]()
    lines = text.split("\n")
    while len(faults) < _MOST:
        try:
            tomli.loads("\n".join(lines))
        except ValueError as refusal:
            place, message = _PLACE.search(str(refusal)), _in_plain_words(str(refusal))
            if place is None or not message:
                break
            at = min(int(place[1]), len(lines)) - 1
            line = lines[at]
            offset = sum(len(each) + 1 for each in text.split("\n")[:at])
            faults.append(Fault(offset + len(line) - len(line.lstrip(" \t")), message))
            lines[at] = ""
            while _HEADER.match(line) and at + 1 < len(lines) and not _HEADER.match(lines[at + 1]):
                at += 1
                lines[at] = ""
        else:
            break
    return faults, "\n".join(lines)


def _in_plain_words(refusal: str) -> str:
    if match := _TWICE.match(refusal):
        name = ".".join(re.findall("'([^']*)'", match[1]))
        return f"'{name}' is set twice, as a table, by a key with dots, or in brackets; write it in one place"
    if match := _IN_BRACES.match(refusal):
        return f"The key '{match[1]}' stands twice in these braces; keep one of them"
    if refusal.startswith("Cannot overwrite a value"):
        return "This gives a value or a table to a name that has one already; keep one of them"
    return ""
