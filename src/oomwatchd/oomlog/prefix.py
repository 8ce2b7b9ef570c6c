"""One line of a log, as programs write them down: what stands before the kernel's own words, and when.

dmesg (with and without times, -T in any language, --time-format, -x), /dev/kmsg, serial consoles, syslog and
rsyslog, journalctl's outputs, container runtimes, mail quotes. Pure.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

# The kernel cuts a record at about 1 KiB (kernel/printk/printk.c, LOG_LINE_MAX); JSON may write one number per byte.
LONGEST = 64 * 1024

_DATE = r"\d{4}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:\ ?(?:Z|UTC|[A-Z]{3,5}|[+-]\d\d:?\d\d)(?=\s))?"
_SYSLOG_DATE = r"[^\W\d]\w{1,8}\.?\ {1,2}\d{1,2}\ (?:\d{4}\ )?\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:\ \d{4})?"
_PREFIX = re.compile(
    rf"""
    [\s\0\x1e]*+ (?:>[> ]*+)?+    # blanks, mail quotes
    (?P<kmsg> \d{{1,4}},\d{{1,20}},\d{{1,20}},[^;\n]{{0,200}}; )?
    (?: <\d{{1,3}}> (?:1\ )? )?                           # a syslog priority
    (?: [a-z0-9]{{3,8}}\ *:[a-z]{{3,6}}\ *:\ ? )?         # dmesg -x
    (?: (?:[A-Z][a-z][a-z]\ )? {_DATE} \s? | {_SYSLOG_DATE} \s? | \d{{9,11}}\.\d{{6}}\ (?=\S+\ kernel:) )?
    (?: std(?:out|err)\ [FP]\ )?                          # container runtime
    (?P<syslog>                                             # host, the program's tag
        [^\s:\[][^\s\[]*+\ (?:[a-z0-9]+\.[a-z]+\ )? (?P<tag>[^\s:\[\]]++) (?:\[\d+\])? (?: :\ |\ -\ -\ (?:-\ )?)
    )?
    (?:
        \[ (?: \ *+\d{{1,12}}\.\d{{1,9}}\ ?+(?:<[^>\n]{{0,20}}>)?+ | \ *+\+\d{{1,12}}\.\d{{1,9}}
             | [^\[\]\n]{{0,30}}\d:\d\d(?::\d\d)?[^\[\]\n]{{0,20}} ) \]
        (?:\[\ *[TC]\d+\])? \ ?
        (?: \S+\ kernel:\ )?
    ){{0,2}}
    """,
    re.VERBOSE,
)
_PLAIN = re.compile(
    r"\[ *+\d{1,12}\.\d{1,9}\] (?![\w.-]+ kernel: |\[ *[TC]\d|\[[^\[\]]*:|\[ *\d+\.)"
    r"|\d{1,4},\d{1,20},\d{1,20},[^;\n]{0,200};"
)
_MAY_BE_PREFIX = re.compile(r"M|d|\w{2,9}\.? {1,2}\d|[a-z0-9]{3,8} *:[a-z]{3,6} *:|std")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MORE = re.compile(r"\[ *\d+\.|\[[^\]]*:|<|\{")
_EXPORT = re.compile(r"\s*MESSAGE=")


class Line(NamedTuple):
    """`prefix`: what a logging program put in front; `text`: the kernel's words, or None if another program
    spoke."""

    prefix: str
    text: str | None


def plain_prefix(line: str) -> int:
    """The length of what the kernel itself puts in front, for dmesg or /dev/kmsg; 0 if it isn't that alone."""
    match = _PLAIN.match(line)
    return 0 if match is None else match.end()


def split(line: str) -> Line:
    """Take the prefix off `line` (without its line feed)."""
    if len(line) > LONGEST:
        line = line[:LONGEST]
    if line.startswith("\x1b["):
        # `dmesg --color`: it colours parts of the text too, and shows an ESC in a name as \x1b.
        line = _COLOUR.sub("", line)
    bare = line.lstrip("\x1e \t")
    start = bare[:1]
    if start.isalpha() and _MAY_BE_PREFIX.match(bare) is None:
        return Line(line[: len(line) - len(bare)], bare)
    if start == "M":
        export = _EXPORT.match(line)
        if export is not None:
            return Line(line[: export.end()], line[export.end() :])
    return _split_text(line)


def goes_on(line: str, at: int) -> bool:
    """Whether a prefix known from another line may go on at `at`."""
    return line[at : at + 1] in ("[", "<", "{") and _MORE.match(line, at) is not None


def _split_text(line: str) -> Line:
    match = _PREFIX.match(line)
    if match is None:
        return Line("", line)
    end = match.end()
    # A user can have any program's name logged; only the kernel's own lines count. A tag is only known for one
    # where a date stands before it.
    if match["syslog"] is not None:
        if match.start("syslog") == 0 or not line[: match.start("syslog")].strip("> \t\0"):
            return Line("", line.strip("\0"))
        if match["tag"] not in ("kernel", "vmkernel", "kern"):
            return Line(line[:end], None)
    return Line(line[:end], line[end:])


_KMSG = re.compile(r"[\s>]*\d{1,4},\d{1,20},(\d{1,20}),")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)? ?(Z|UTC|GMT|[+-]\d\d:?\d\d)?")
_UNIX = re.compile(r"[\s>]*(\d{9,11}\.\d{6}) ")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
_UPTIME = re.compile(r"\[ *(\d{1,12}\.\d{1,9})\b")
_WORD = re.compile(r"[^\W\d]+")
_DAY = re.compile(r"(?<![\d:])(\d{1,2})(?![\d:月])")
_CJK_MONTH = re.compile(r"(\d{1,2})\s?[月월]")
# What dmesg -T and syslog write in the languages where a month's first three letters aren't the English ones.
_MONTHS = {
    name: month
    for month, names in enumerate(
        (
            "jan ene gen sty янв",
            "feb fev fév lut únor úno фев",
            "mar mär mrz mrt maa bře мар",
            "apr avr abr kwi dub апр",
            "may mai mei mag maj kvě май мая",
            "jun juin giu cze čer июн",
            "jul juil lug lip čvc июл",
            "aug aoû ago sie srp авг",
            "sep set wrz zář сен",
            "oct okt ott out paź říj окт",
            "nov lis noy ноя",
            "dec dez déc dic gru pro дек",
        ),
        start=1,
    )
    for name in names.split()
}


def time_of(prefix: str, reference: datetime) -> str | float | None:
    """When a line was logged: an ISO 8601 time, with its offset where the log has one (journald: UTC); or the
    seconds since boot where it has only these; or None. A date without a year is the last one not after
    `reference` (naive, local)."""
    if match := _KMSG.match(prefix):
        return int(match[1]) / 1e6
    if match := _UNIX.match(prefix):
        return _utc(int(float(match[1]) * 1e6))
    if match := _ISO.search(prefix):
        return _iso(match)
    clock = _CLOCK.search(prefix)
    if clock is not None and (named := _named_date(prefix, clock, reference)) is not None:
        return named
    uptime = _UPTIME.search(prefix)
    return None if uptime is None else float(uptime[1])


def _utc(microseconds: int) -> str | None:
    try:
        return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def _iso(match: re.Match[str]) -> str | None:
    day, clock, fraction, offset = match.groups()
    text = f"{day}T{clock}" + (f".{fraction.ljust(6, '0')}" if fraction else "")
    if offset in ("Z", "UTC", "GMT"):
        offset = "+00:00"
    elif offset is not None and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    try:
        return datetime.fromisoformat(text + (offset or "")).isoformat()
    except ValueError:
        return None


def _named_date(prefix: str, clock: re.Match[str], reference: datetime) -> str | None:
    before = prefix[: clock.start()]
    # The last word that is a month: a weekday stands before it, and "mar." is a Tuesday in French.
    months = [_MONTHS[key] for word in _WORD.findall(before) if (key := _month_key(word)) is not None]
    cjk = _CJK_MONTH.search(before)
    month = int(cjk[1]) if cjk is not None else months[-1] if months else None
    days = _DAY.findall(before[cjk.end() :] if cjk is not None else before)
    if month is None or not days:
        return None
    year = _YEAR.search(prefix)
    hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3] or 0)
    fraction = int((clock[4] or "").ljust(6, "0"))
    years = [int(year[1])] if year is not None else range(reference.year, reference.year - 5, -1)
    for candidate in years:
        try:
            found = datetime(candidate, month, int(days[-1]), hour, minute, second, fraction)
        except ValueError:  # 29 February: an earlier year may have it
            continue
        if year is not None or found <= reference:
            return found.isoformat()
    return None


def _month_key(word: str) -> str | None:
    low = word.lower()
    return next((low[:n] for n in (4, 3) if low[:n] in _MONTHS), None)
