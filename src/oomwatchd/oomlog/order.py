"""Merges the kills of other killers with those of the kernel, in the order of time. Few kills are kept in memory.
Pure."""

from collections import deque
from collections.abc import Iterable, Iterator

from oomwatchd.oomlog.beside import Beside
from oomwatchd.oomlog.record import OomKill

_HELD = 32
"""So many kills of the kernel wait for what a service manager says after them."""


def with_others(kernel: Iterable[OomKill], beside: Beside) -> Iterator[OomKill]:
    """The kills of a log: the kernel's and the other killers', with the units and containers that service managers
    name."""
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
