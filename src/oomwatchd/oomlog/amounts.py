"""Amounts of memory in an OOM report, and how they are shown. Pure."""

from oomwatchd.oomlog.record import OomKill, Task


def size(kb: int) -> str:
    """KiB as people write it: "3.1 GiB"."""
    magnitude = abs(kb)
    if magnitude < 1 << 10:
        return f"{kb} KiB"
    if magnitude < 1 << 20:
        value, unit = kb / (1 << 10), "MiB"
    elif magnitude < 1 << 30:
        value, unit = kb / (1 << 20), "GiB"
    else:
        value, unit = kb / (1 << 30), "TiB"
    return f"{value:.1f} {unit}" if abs(value) < 100 else f"{value:.0f} {unit}"


def held_kb(kill: OomKill, task: Task) -> int:
    """The memory that killing the task's process would free, KiB: resident memory, swap and page tables."""
    return kill.page_kb * (task.rss + (task.swapents or 0)) + (task.pgtables_bytes or 0) // 1024


def labelled(*amounts: tuple[str, int | None]) -> list[str]:
    """Each amount (KiB) with its label in front: "anon 3.1 GiB". An amount that the log doesn't have, None, is left
    out."""
    return [f"{label} {size(kb)}" for label, kb in amounts if kb is not None]
