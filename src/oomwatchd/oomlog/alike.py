"""Which lines have the prefix of the one before but for its times, so that they needn't be taken apart again. Pure."""

import functools
import re

from oomwatchd.oomlog import line_tasks, lines
from oomwatchd.oomlog.prefix import Line

_DIGIT_OR_BLANK = re.compile(r"[\d ]")


def shape(line: Line) -> str:
    """A pattern of the prefixes that lines of the same stream have: the times differ, the host doesn't."""
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
    """Whether a prefix that differs in its digits alone means the same: not where these are a syslog priority."""
    return line.sure and not line.lead and line.prefix.endswith(("kernel: ", "] ")) and "<" not in line.prefix


@functools.lru_cache(maxsize=64)
def alike_pattern(prefix: str) -> re.Pattern[str]:
    return re.compile(prefix)


@functools.lru_cache(maxsize=64)
def noise_pattern(prefix: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:" + prefix.encode("utf-8", "replace") + lines.NOISE + rb"\n)++")


@functools.lru_cache(maxsize=64)
def rows_pattern(layout: line_tasks.Layout, prefix: str) -> line_tasks.RawRows:
    return layout.raw_pattern(prefix)
