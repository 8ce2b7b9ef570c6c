"""Finds lines whose prefix differs from the prefix of the line before only in the time. Such a prefix needn't be parsed
again. Pure."""

import functools
import re

from oomwatchd.oomlog import line_tasks, lines
from oomwatchd.oomlog.prefix import Line

_DIGIT_OR_BLANK = re.compile(r"[\d ]")


def shape(line: Line) -> str:
    """A regular expression for the prefixes of lines in the same stream: the time may differ, the host may not."""
    prefix = line.prefix
    if line.lead:
        return re.escape(prefix)
    at = prefix.find(f" {line.host} ") + 1 if line.host is not None else len(prefix)
    host_end = at + len(line.host or "")
    return _any_time(prefix[:at]) + re.escape(prefix[at:host_end]) + _any_time(prefix[host_end:])


def _any_time(text: str) -> str:
    return _DIGIT_OR_BLANK.sub("\0", text).translate(_ESCAPES).replace("\0", "[0-9 ]")


_ESCAPES = {code: f"\\{chr(code)}" for code in b"\\.^$*+?{}[]|()-#&~"}


def is_alike(line: Line) -> bool:
    """Whether prefixes that differ from this one only in digits have the same meaning. If the digits are a syslog
    priority, they haven't."""
    return line.sure and not line.lead and line.prefix.endswith(("kernel: ", "] ")) and "<" not in line.prefix


def may_follow(line: Line, data: bytes, start: int) -> bool:
    """Whether the line at `start` may have a prefix of the shape() of `line`. Where a lead stands before it, each line
    may have a prefix of its own, and to compile a pattern for each takes longer than to read the line."""
    return not line.lead or data.startswith(line.prefix.encode("utf-8", "replace"), start)


@functools.lru_cache(maxsize=64)
def alike_pattern(prefix: str) -> re.Pattern[str]:
    """Matches a prefix of this shape(), compiled once."""
    return re.compile(prefix)


@functools.lru_cache(maxsize=64)
def noise_pattern(prefix: str) -> re.Pattern[bytes]:
    """Matches lines with a prefix of this shape() that have no values of a report, see `lines.NOISE`."""
    return re.compile(rb"(?:" + prefix.encode("utf-8", "replace") + lines.NOISE + rb"\n)++")


@functools.lru_cache(maxsize=64)
def rows_pattern(layout: line_tasks.TableLayout, prefix: str) -> line_tasks.RawRows:
    """Reads rows of a task table with a prefix of this shape()."""
    return layout.raw_pattern(prefix)
