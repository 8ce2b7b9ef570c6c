"""Mends the first line of a text that begins within a line: a part copied from a console, the end of a file. Pure.

The lines below show what stands before each line. If the first line begins within that, or behind it, the missing part
is put before it. But only the kernel's own words count: where the log has other programs' lines too, and nothing shows
who has written the first, it is left out.
"""

import re
from collections.abc import Sequence

from oomwatchd.oomlog import lines, prefix

_ROWS = 50
_INDENT = " " * 9
"""journalctl(1) sets the further lines of a record below its text."""
_INVOKED = " invoked oom-killer"
_MARKUP_MAX = 60
_PREFIX_MAX = 500
_MARKUP_END = "]})>\"'`“‘„«"
_FIGURE = re.compile(r"[0-9 ]")
_FIGURES = re.compile(r"[0-9 ]+")
_LEADING_DIGITS = re.compile(r"\d+")
# "[    1.000000] ", "[Sun Mar 15 04:07:35 2026] ": dmesg's own, which has no other programs' lines.
_DMESG = re.compile(
    r"(?:^|[\s:|>\])])(?:\[ *\d+\.\d+\] |\[\w{2,10}\.? [^\]]{0,30}\d:\d\d:\d\d \d{4}\] )$",
)
# What tells the facility. A part of it may be another facility.
_FACILITY = re.compile(r"\s*(?:<\d|\d+,|[a-z]+ *:\s*[a-z]+ *:)")
_TAG = re.compile(r"\b(?:kernel|vmkernel|kern)\b")
_NOISE = re.compile(lines.NOISE.decode())


def mended(rows: Sequence[str]) -> tuple[int, str] | None:
    """How to mend a text that begins with `rows`: how many characters to leave out, what to put before the rest. None:
    it needs nothing."""
    first = rows[0]
    end = next((number for number, row in enumerate(rows[1:], start=1) if not row.startswith(_INDENT)), len(rows))
    record, following = "\n".join(rows[:end]), rows[end : end + _ROWS]
    below = [prefix.split(row) for row in following]
    known = [parts for parts in below if parts.text is not None and parts.prefix.strip()]
    lead = prefix.split(first).lead
    if not record.strip() or any(_holds(first, parts.prefix) or (lead and lead == parts.lead) for parts in known):
        return None
    left_out = (len(record), "") if prefix.has_words_of_report(record) else None
    if not known:
        foreign = any(parts.text is None for parts in below)
        return left_out if foreign and not _begins_whole(first) else None
    before = known[0].prefix[:_PREFIX_MAX]
    missing = _missing(first, before)
    sure = _is_kernels(known[0], missing)
    if not (sure and _ends_with_word(before, missing)) and not _is_cut(first, known[0], missing):
        return None
    if not sure and not _is_of_report(following[0]):
        return left_out
    # A part of the invoker's name isn't its name.
    return max(0, first.find(_INVOKED)) if missing == len(before) else 0, before[:missing]


def _holds(first: str, before: str) -> bool:
    """Whether the line begins with `before`, perhaps behind markup such as "[code]" or a quotation mark."""
    start = first[: len(before) + _MARKUP_MAX]
    at = _shape(start).find(_shape(before))
    if at == 0 or (at > 0 and start[at - 1] in _MARKUP_END):
        return True
    # The stamp of the line below may have a digit more. A date that is cut may look like one with a digit less.
    return before[0] == "[" and _is_dmesgs(before) and _FIGURES.sub("0", before) in _FIGURES.sub("0", start)


def _shape(text: str) -> str:
    return _FIGURE.sub("0", text)


def _missing(first: str, before: str) -> int:
    """How many characters of `before` the line lacks; figures may differ."""
    shape = _shape(before)
    start = _shape(first[: len(before)])
    for at in range(1, len(before)):
        if before[at:].strip() and start.startswith(shape[at:]):
            return at
    return len(before)


def _begins_whole(line: str) -> bool:
    """Whether the line begins with a whole prefix of some kind, or with another program's."""
    parts = prefix.split(line)
    return not parts.lead and (bool(parts.prefix.strip()) or parts.text is None)


def _ends_with_word(before: str, missing: int) -> bool:
    """Whether the first `missing` characters end with a whole word or number."""
    return missing < len(before) and not (before[missing - 1].isalnum() and before[missing].isalnum())


def _is_cut(first: str, below: prefix.Line, missing: int) -> bool:
    """Whether the line lacks its beginning. One that begins with a date or a stamp of its own is whole, unless a digit
    more makes its day or year that of the line below it."""
    parts, before = prefix.split(first), below.prefix
    if not _begins_whole(first) or (below.dated and not parts.dated and parts.text is not None):
        return True
    if missing == len(before):
        return False
    if _FACILITY.match(before) is not None or (before[missing - 1].isalpha() and first[:1].isalpha()):
        return True
    whole, own = _LEADING_DIGITS.match(before), _LEADING_DIGITS.match(first)
    return whole is not None and own is not None and before[:missing] + own[0] == whole[0]


def _is_dmesgs(before: str) -> bool:
    return _TAG.search(before) is None and _DMESG.search(before) is not None


def _is_kernels(line: prefix.Line, missing: int) -> bool:
    """Whether a line that lacks the first `missing` characters of this line's prefix is certainly the kernel's."""
    before, tag = line.prefix, _TAG.search(line.prefix)
    if _FACILITY.match(before) is not None:
        return False
    if tag is None:
        return _is_dmesgs(before)
    host = before.find(f" {line.host} ") + 1 if line.host is not None else 0
    # The tag alone may be a part of another program's text.
    return missing <= (host or tag.start() - 2)


def _is_of_report(row: str) -> bool:
    """Whether the kernel wrote this line in a report."""
    parts = prefix.split(row)
    text = parts.text
    if text is None or not parts.prefix.strip():
        return False
    return lines.begins(text) or _INVOKED in text or _NOISE.fullmatch(text) is not None
