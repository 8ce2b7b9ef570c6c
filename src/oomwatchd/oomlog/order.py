"""Kills of several sources in the order of time. Pure, and lazy: few are held at a time."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from oomwatchd.oomlog.beside import Beside
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.times import seconds_of

_HELD = 32
"""Kills of the kernel that wait for what a service manager says behind them."""


def with_others(kernel: Iterable[OomKill], beside: Beside) -> Iterator[OomKill]:
    """The kernel's kills of a log, those of the other killers among them, tied to units and containers."""
    waiting: deque[OomKill] = deque()
    for kill in kernel:
        waiting.append(kill)
        if len(waiting) > _HELD:
            yield from _released(waiting.popleft(), beside)
    for kill in waiting:
        yield from _released(kill, beside)
    for kill in beside.killers.finish():
        yield beside.ties.tied(kill)


def _released(kill: OomKill, beside: Beside) -> Iterator[OomKill]:
    for other in beside.killers.until(kill.time):
        yield beside.ties.tied(other)
    yield beside.ties.tied(kill)


def merged(logs: Sequence[Iterable[OomKill]]) -> Iterator[OomKill]:
    """The kills of several logs, each in its own order. Those without a date can't be compared, and come first."""
    if len(logs) == 1:
        yield from logs[0]
        return
    for _, kill in heapq.merge(*(_with_keys(kills) for kills in logs), key=lambda pair: pair[0]):
        yield kill


def _with_keys(kills: Iterable[OomKill]) -> Iterator[tuple[float, OomKill]]:
    """Each kill with its date in seconds; where a log's dates fall or lack, with the one before."""
    key = float("-inf")
    for kill in kills:
        if isinstance(kill.time, str) and (seconds := seconds_of(kill.time)) is not None:
            key = max(key, seconds)
        yield key, kill
