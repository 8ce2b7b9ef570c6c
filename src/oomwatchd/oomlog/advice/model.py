"""A piece of advice about an OOM event."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from oomwatchd.oomlog.record import OomKill


class Advice(NamedTuple):
    """What to do about an OOM event. `id` is stable: scripts may rely on it, and oomwatchctl(1) lists all of them.
    `message` is plain English with the command or the setting in it."""

    id: str
    message: str


Adviser = Callable[[OomKill], Iterator[Advice]]
"""Looks at one event. It yields nothing where the report's figures don't bear the advice."""
