"""When a line was logged: dates as programs write them, to ISO 8601. Pure."""

import re
from datetime import UTC, datetime

from oomwatchd.oomlog.named_dates import CLOCK, Calendar, Moment

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
_HALF = re.compile(r" ([AP])M\b")
_CLOCK_ZONE = re.compile(r"[秒초]? ?(?:(UTC|GMT|Z)\b|([+-]\d\d(?::?\d\d)?)(?![\d-]))")
_UPTIME = re.compile(r"\[ *(?:\d{1,3}-)?(\d{1,12}\.\d{1,9})\b")


def time_of(prefix: str, reference: datetime, calendar: Calendar | None = None) -> str | float | None:
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


def _named_date(prefix: str, reference: datetime, calendar: Calendar) -> str | None:
    """A date with a month's name, or with none ("03-15 04:07:35.927")."""
    if match := _MONTH_DAY.search(prefix):
        month, day, hour, minute, second = (int(part) for part in match.groups()[:5])
        fraction = int(match[6].ljust(6, "0"))
        return _latest(Moment(None, frozenset((month,)), day, hour, minute, second, fraction, None), reference)
    for clock_match in CLOCK.finditer(prefix):
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
