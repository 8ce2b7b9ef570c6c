"""Draws the timeline of OOM kills as SVG, with one mark for each kill."""

import html
from typing import NamedTuple

from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.times import seconds_of

_WIDTH, _HEIGHT, _MARGIN = 1000, 120, 30
_STACK = 6

# The colours differ in lightness, too, and can be seen on white and on black.
KINDS = {
    "global": ("#d62839", "machine out of memory"),
    "memcg": ("#2f86c1", "memory cgroup at its limit"),
    "cpuset": ("#8e5bb5", "cpuset out of memory"),
    "mempolicy": ("#b06a00", "memory policy out of memory"),
    "sysrq": ("#3a923d", "sysrq-f"),
    "other": ("#12939a", "other killers"),
    "unknown": ("#808080", "unknown"),
}


class Mark(NamedTuple):
    """A kill on the timeline. `time`: ISO 8601, or seconds since boot (a float), or None: not known."""

    time: str | float | None
    kind: str
    label: str


def kind_of(kill: OomKill) -> str:
    """The kind of a kill, one of KINDS."""
    if kill.killer != "kernel":
        return "other"
    return kill.scope if kill.scope in KINDS else "unknown"


def timeline(marks: list[Mark]) -> str:
    """The timeline as SVG. The marks stand at their times. If some have dates and others seconds since boot, the marks
    stand one after the other at equal distances."""
    seconds = [seconds_of(mark.time) for mark in marks]
    timed = len({type(mark.time) for mark in marks}) == 1 and None not in seconds
    places = [second or 0.0 for second in seconds] if timed else [float(n) for n in range(len(marks))]
    first, last = min(places), max(places)
    dots = _dots(marks, places, first, last)
    ends = [_label(marks[places.index(place)].time) if timed else "" for place in (first, last)]
    how = "" if timed else '<p class="note">In the order of the log: not all have a time that compares.</p>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Timeline of OOM kills">'
        f"{_axis(ends, several=last > first)}{dots}</svg>{how}\n"
    )


def _dots(marks: list[Mark], places: list[float], first: float, last: float) -> str:
    span = (last - first) or 1.0
    stacked: dict[int, int] = {}
    dots = []
    for number, (mark, place) in enumerate(zip(marks, places, strict=True), 1):
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * (place - first) / span if last > first else _WIDTH / 2
        level = stacked.get(round(x / 8), 0)
        stacked[round(x / 8)] = level + 1
        y = _HEIGHT - 38 - min(level, _STACK) * 11
        dots.append(
            f'<a href="#k{number}" class="k-{mark.kind}"><circle cx="{x:.1f}" cy="{y}" r="6" '
            f'fill="{KINDS[mark.kind][0]}"><title>{html.escape(mark.label)}</title></circle></a>'
        )
    return "".join(dots)


def _axis(ends: list[str], *, several: bool) -> str:
    y = _HEIGHT - 28
    line = f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y}" y2="{y}" stroke="currentColor" stroke-opacity=".4"/>'
    below = _HEIGHT - 6
    if not several:
        return f'{line}<text x="{_WIDTH // 2}" y="{below}" text-anchor="middle">{html.escape(ends[0])}</text>'
    right = f'<text x="{_WIDTH - _MARGIN}" y="{below}" text-anchor="end">{html.escape(ends[1])}</text>'
    return f'{line}<text x="{_MARGIN}" y="{below}">{html.escape(ends[0])}</text>{right}'


def _label(time: str | float | None) -> str:
    return f"{time:.0f} s after boot" if isinstance(time, float) else (time or "")[:19].replace("T", " ")
