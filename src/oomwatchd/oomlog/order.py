"""The kills of other killers among the kernel's, in the order of time. Pure, and lazy: few are held at a time."""

from collections import deque
from collections.abc import Iterable, Iterator

from oomwatchd.oomlog.beside import Beside
from oomwatchd.oomlog.record import OomKill

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
    for kill in beside.kills.finish():
        yield beside.ties.tied(kill)


def _released(kill: OomKill, beside: Beside) -> Iterator[OomKill]:
    for other in beside.kills.until(kill.time):
        yield beside.ties.tied(other)
    yield beside.ties.tied(kill)
