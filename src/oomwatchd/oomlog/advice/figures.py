"""Figures that several kinds of advice need, in KiB. Pure."""

from collections.abc import Sequence

from oomwatchd.oomlog.amounts import held_kb
from oomwatchd.oomlog.record import OomKill, Task

_NO_LIMIT_KB = 1 << 50
"""A cgroup of version 1 without a limit shows about 2^53 KiB."""


def total_kb(kill: OomKill) -> int | None:
    """The memory that ran out, as the report has it: the cgroup's limit, or the machine's memory without swap. None:
    the report doesn't show it, or the cgroup has no limit."""
    memory = kill.memory
    if kill.scope == "memcg":
        return memory.limit_kb if memory.limit_kb is not None and memory.limit_kb < _NO_LIMIT_KB else None
    return None if memory.ram_kb is None else memory.ram_kb - (memory.reserved_kb or 0)


def with_swap_kb(kill: OomKill) -> int | None:
    """`total_kb` and the swap: what processes could hold in all. None where `total_kb` is."""
    total = total_kb(kill)
    swap = kill.memory.swap_total_kb if kill.scope != "memcg" else kill.memory.swap_usage_kb
    return None if total is None else total + (swap or 0)


def and_swap(kill: OomKill) -> str:
    """ " with swap" where a figure of `with_swap_kb` holds swap, else ""."""
    return " with swap" if kill.memory.swap_total_kb else ""


def largest_holder(kill: OomKill, tasks: Sequence[Task]) -> tuple[Task, int]:
    """The task that held the most memory (of equals the first), and how much it held, KiB."""
    held = [held_kb(kill, task) for task in tasks]
    most = max(held)
    return tasks[held.index(most)], most
