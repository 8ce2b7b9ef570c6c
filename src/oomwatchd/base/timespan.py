"""Parses and shows time spans of systemd.time(7)."""

import re

_UNITS = {
    **dict.fromkeys(("us", "usec", "µs", "μs"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400.0),
}


_TIME_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zµμ]*)\s*")


def parse_time_span(text: str) -> float | None:
    """The seconds of a time span as in systemd.time(7): "5s", "1min 30s", "2h", or a number of seconds without a unit.
    None: the text is no time span. Months and years aren't known, because nothing here lasts that long."""
    seconds, at = 0.0, 0
    while match := _TIME_PART.match(text, at):
        number, unit = match.groups()
        if unit not in _UNITS:
            return None
        seconds += float(number) * _UNITS[unit]
        at = match.end()
    return seconds if at == len(text) and text.strip() else None


def show_time_span(seconds: float) -> str:
    """A time span for people, in its two largest units: "1d 3h", "2h 5min", "12s"."""
    left = max(round(seconds), 0)
    parts: list[str] = []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number > 0 or (name == "s" and not parts):
            parts.append(f"{number}{name}")
        elif parts:
            break
    return " ".join(parts[:2])
