"""Points in time as journalctl(1) takes them for --since and --until (systemd.time(7), "Parsing Timestamps")."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from oomwatchd.base.timespan import parse_time_span

_DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +", re.IGNORECASE)
_STAMP = re.compile(
    r"(?:(?P<year>\d{4}|\d{2})-(?P<month>\d{1,2})-(?P<day>\d{1,2})(?P<sep>[T ]+|$))?"
    r"(?:(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"(?: ?(?P<zone>Z|[+-]\d{2}:?\d{2}|[A-Za-z][\w/+-]*))?$"
)


def parse_moment(text: str, now: datetime) -> datetime:
    """The point in time that `text` means; `now` is aware, and its zone is the local one. Raises ValueError."""
    words = text.strip()
    if words == "now":
        return now
    if words in _DAYS:
        day = now.date() + timedelta(days=_DAYS[words])
        return datetime(day.year, day.month, day.day).astimezone()
    if words.startswith("@"):
        return _unix(words[1:], text)
    if words.startswith(("+", "-")) and not re.match(r"[+-]\d{2}:?\d{2}$", words):
        sign = 1 if words[0] == "+" else -1
        return _shifted(now, sign, words[1:], text)
    if words.endswith(" ago"):
        return _shifted(now, -1, words[:-4], text)
    if words.endswith(" left"):
        return _shifted(now, 1, words[:-5], text)
    return _stamp(_WEEKDAY.sub("", words, count=1), now, text)


def _wrong(text: str) -> ValueError:
    return ValueError(f"Failed to parse timestamp: {text}")


def _unix(number: str, text: str) -> datetime:
    if re.fullmatch(r"\d{1,12}(?:\.\d{1,9})?", number) is None:
        raise _wrong(text)
    return datetime.fromtimestamp(float(number), UTC)


_LONG = re.compile(r"(\d+(?:\.\d+)?) *(months?|M|years?|y)(?![a-z])")
_MONTH_SECONDS, _YEAR_SECONDS = 2629800, 31557600


def _shifted(now: datetime, sign: int, span: str, text: str) -> datetime:
    seconds = sum(
        float(number) * (_MONTH_SECONDS if unit[0] in "mM" else _YEAR_SECONDS) for number, unit in _LONG.findall(span)
    )
    rest = _LONG.sub("", span)
    short = parse_time_span(rest) if rest.strip() else 0.0
    if short is None or not span.strip():
        raise _wrong(text)
    try:
        return now + sign * timedelta(seconds=seconds + short)
    except OverflowError:
        raise _wrong(text) from None


def _stamp(words: str, now: datetime, text: str) -> datetime:
    match = _STAMP.match(words)
    if match is None or (match["year"] is None and match["hour"] is None):
        raise _wrong(text)
    zone = _zone(match["zone"], text)
    today = now if zone is None else now.astimezone(zone)
    year, month, day = today.year, today.month, today.day
    if match["year"] is not None:
        year = int(match["year"])
        year += 0 if len(match["year"]) == 4 else 2000 if year < 69 else 1900
        month, day = int(match["month"]), int(match["day"])
    microsecond = int((match["fraction"] or "0").ljust(6, "0")[:6])
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    try:
        naive = datetime(year, month, day, hour, minute, second, microsecond)
        return naive.astimezone() if zone is None else naive.replace(tzinfo=zone)
    except (ValueError, OverflowError):
        raise _wrong(text) from None


def _zone(name: str | None, text: str) -> tzinfo | None:
    if name is None:
        return None
    if name in ("Z", "UTC"):
        return UTC
    if name[0] in "+-":
        minutes = int(name[1:3]) * 60 + int(name[-2:])
        return UTC if minutes == 0 else datetime.strptime(f"{name[:3]}{name[-2:]}", "%z").tzinfo
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _wrong(text) from None
