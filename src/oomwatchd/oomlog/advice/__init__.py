"""Advice on what to do about an OOM event. Each piece follows from the figures of the report, and has a command or a
setting. Pure.

Nothing is guessed: where the report lacks a figure, there is no advice that needs it."""

from oomwatchd.oomlog.advice import allocation, choice, killers, memory
from oomwatchd.oomlog.advice.model import Advice, Adviser
from oomwatchd.oomlog.history import Growth
from oomwatchd.oomlog.record import OomKill

__all__ = ["Advice", "advise"]

_OF_KERNEL: tuple[Adviser, ...] = (
    choice.nobody_killed,
    choice.protected_alone,
    memory.at_limit,
    allocation.nodes,
    allocation.failed_though_free,
    choice.protected_held_most,
    memory.outside_processes,
    memory.unaccounted,
    memory.largest_holders,
    memory.swap,
    choice.settings,
)
"""For kills by the kernel; the advice that matters most comes first."""
_OF_OTHERS: tuple[Adviser, ...] = (killers.systemd_oomd, killers.others)


def advise(kill: OomKill, growth: Growth | None = None) -> tuple[Advice, ...]:
    """The advice for one event, the most important first. `growth`: how the victim's name has grown over the events
    before this one, where that is known."""
    advisers = _OF_KERNEL if kill.killer == "kernel" else _OF_OTHERS
    found = [advice for adviser in advisers for advice in adviser(kill)]
    if growth is not None:
        found.append(memory.growing(kill, growth))
    return tuple(found)
