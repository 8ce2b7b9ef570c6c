"""The types of what the daemon replies, so that a client believes no reply of a program that isn't this daemon. Pure.

A shape is one of the functions below, None, a list with the shape of its members, a dictionary with the shapes of its
keys, or a tuple of several shapes of which one must hold. Keys that a shape doesn't name may hold anything: a newer
daemon has more of them. oomwatchctl(1) describes the keys."""

import math
from collections.abc import Callable, Mapping

Shape = None | Callable[[object], bool] | list["Shape"] | tuple["Shape", ...] | Mapping[str, "Shape"]

_LARGEST = (1 << 63) - 1
_LAST_SECOND = 253402300799
"""The end of the year 9999, in seconds since the epoch: what time.localtime() takes."""


def whole(value: object) -> bool:
    """A whole number of at most 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def number(value: object) -> bool:
    """A number that is finite."""
    return whole(value) or (isinstance(value, float) and math.isfinite(value))


def moment(value: object) -> bool:
    """A time in seconds since the epoch."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LAST_SECOND


def text(value: object) -> bool:
    """A text."""
    return isinstance(value, str)


def path(value: object) -> bool:
    """A path of a file."""
    return isinstance(value, str) and bool(value) and "\0" not in value


def flag(value: object) -> bool:
    """True or false."""
    return isinstance(value, bool)


_MAYBE_TEXT = (text, None)
_MAYBE_WHOLE = (whole, None)
_COUNTERS = dict.fromkeys(("events", "pins", "releases", "resets", "drifts", "failures", "lost", "scans"), whole)
_PROBLEM = {"file": text, "line": whole, "column": whole, "message": text}
_PIN = {"rule": text, "first": whole, "value": whole, "child_value": whole, "since": moment, "source": text}
_OF_A_PROCESS = {"pid": whole, "starttime": whole}

REPLIES: Mapping[str, Shape] = {
    "status": {
        "version": text,
        "pid": whole,
        "proc_events": text,
        "events_reason": text,
        "filter": text,
        "filter_reason": text,
        "rules": whole,
        "pinned": whole,
        "counters": _COUNTERS,
        "config": {"files": [text], "loaded_at": moment, "error": _MAYBE_TEXT},
        "restored": flag,
        "hidepid": _MAYBE_TEXT,
        "watch_error": _MAYBE_TEXT,
        "ledger_error": _MAYBE_TEXT,
        "dry_run": flag,
        "scan_interval": number,
        "missing_capabilities": [text],
    },
    "list": {
        "pins": [
            {
                "pid": whole,
                "starttime": _MAYBE_WHOLE,
                "comm": text,
                "exe": _MAYBE_TEXT,
                "uid": _MAYBE_WHOLE,
                "unit": _MAYBE_TEXT,
                "rule": text,
                "oom_score_adj": whole,
                "original": whole,
                "since": moment,
                "source": text,
                "until": (moment, None),
            }
        ]
    },
    "rules": {
        "rules": [
            {
                "rule": text,
                "file": _MAYBE_TEXT,
                "line": _MAYBE_WHOLE,
                "action": text,
                "enabled": flag,
                "matches": whole,
                "hits": whole,
                "description": text,
            }
        ]
    },
    "loaded": {
        "layout": {"main_file": path, "drop_in_dirs": [path], "main_file_required": flag},
        "pins": [{**_OF_A_PROCESS, "value": whole}],
        "sources": [{"path": path, "text": _MAYBE_TEXT}],
    },
    "lineage": {
        "processes": [
            {
                **_OF_A_PROCESS,
                "exe_verified": (flag, None),
                "exe_doubt": text,
                "exe_before": _MAYBE_TEXT,
                "rule": _MAYBE_TEXT,
                "ancestors": [text],
                "hold": (_PIN, None),
                "contended": flag,
                "refused": ({"rule": text, "error": text}, None),
                "origin": ({"pid": whole, "comm": text, "alive": flag, "hold": _PIN}, None),
            }
        ]
    },
    "metrics": {
        "version": text,
        "started_at": moment,
        "proc_events": flag,
        "dry_run": flag,
        "loaded_at": moment,
        "config_ok": flag,
        "pinned": whole,
        "counters": _COUNTERS,
        "oom_kill_counts": [{"killer": text, "rule": text, "held": flag, "count": whole}],
        "scan_seconds": number,
        "latency": {"bounds_us": [number], "counts": [whole], "sum_us": number},
        "rules": [{"rule": text, "matches": whole, "hits": whole}],
    },
    "monitor": {"event": text},
    "reload": {"ok": flag, "errors": [_PROBLEM], "warnings": [_PROBLEM]},
    "restore": {"released": whole, "refused": whole, "dry_run": flag},
    "pin": {"dry_run": flag},
}
"""The shape of the reply to each verb."""

MONITOR_LINE: Shape = {
    "event": text,
    "time": moment,
    "source": _MAYBE_TEXT,
    "pid": whole,
    "comm": _MAYBE_TEXT,
    "rule": _MAYBE_TEXT,
    "old": _MAYBE_WHOLE,
    "new": _MAYBE_WHOLE,
    "latency_us": (number, None),
    "error": _MAYBE_TEXT,
    "message": text,
    "count": whole,
}
"""The shape of a line that `monitor` gets after the reply."""


def misfit(value: object, shape: Shape, at: str = "") -> str | None:
    """The path of the first part of a reply that hasn't its shape, such as "pins.0.pid"; None: all of it has."""
    if isinstance(shape, tuple):
        found = [misfit(value, each, at) for each in shape]
        return None if None in found else max((each for each in found if each is not None), key=len)
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return at
        members = ((key, value[key], each) for key, each in shape.items() if key in value)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return at
        members = ((str(place), member, shape[0]) for place, member in enumerate(value))
    else:
        return None if (value is None if shape is None else shape(value)) else at
    below = (misfit(member, each, f"{at}.{key}" if at else key) for key, member, each in members)
    return next((each for each in below if each is not None), None)
