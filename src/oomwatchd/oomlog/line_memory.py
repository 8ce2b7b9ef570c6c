"""Lines of a report that show memory, of a cgroup or of the machine: kernel text to values. Pure.

For where a report comes from, and how it is read, see `lines`.
"""

import re
from typing import NamedTuple

from oomwatchd.oomlog.record import Zone

_LIMIT = " killed as a result of limit of /"


def limit_of(text: str) -> tuple[str, str] | None:
    """The victim's memory cgroup and the one with the limit (until 4.20)."""
    before, words, limit = text.rpartition(_LIMIT)
    _, task, victim = before.partition("Task in /")
    return (f"/{victim}", f"/{limit.rstrip()}") if words and task else None


_USAGE = re.compile(r"(memory\+swap|memory|swap): usage (\d{1,18})kB, limit (\d{1,20})kB")
_STATS = re.compile(r"Memory cgroup stats for (?P<memcg>/.*?)(?:: ?(?P<inline>cache:.*))?:?$")
_INLINE = re.compile(r"\b(cache|rss|shmem|swap):(\d{1,18})KB")
_INLINE_KEYS = {"cache": "file_kb", "rss": "anon_kb", "shmem": "shmem_kb", "swap": "swap_usage_kb"}
_STAT = re.compile(r"\s*(total_rss|total_cache|total_shmem|anon|file|shmem|slab) (\d{1,20})\s*$")
_STAT_KEYS = {
    "total_rss": "anon_kb",
    "total_cache": "file_kb",
    "total_shmem": "shmem_kb",
    "anon": "anon_kb",
    "file": "file_kb",
    "shmem": "shmem_kb",
    "slab": "slab_kb",
}
_COUNTER = re.compile(
    r"\b(active_anon|inactive_anon|active_file|inactive_file|slab_reclaimable|slab_unreclaimable|shmem|free|free_cma|unevictable):"
    r"(\d{1,18})(?!\d|kB)"
)
_NODE = re.compile(
    r"(?:Node (\d{1,5}) )?(\w{1,20}) free:(\d{1,18})kB (?:boost:\d{1,18}kB )?(?:min:(\d{1,18})kB )?"
    r".* present:(\d{1,18})kB"
)
_BUDDY = re.compile(r"(?:Node (\d{1,5}) )?(\w{1,20}): \d{1,12}\*(\d{1,4})kB ")
_BLOCKS = re.compile(r"\b(\d{1,12})\*\d{1,8}kB")
_HUGE = re.compile(r"hugepages_total=(\d{1,12}) .*hugepages_size=(\d{1,10})kB")
_SWAP = re.compile(r"(Free|Total) swap {1,3}[=:] {0,3}(\d{1,18})kB")
_PAGES = re.compile(r"(\d{1,17}) pages (RAM|reserved)\s*$")


def usage(text: str) -> dict[str, int] | None:
    """ "memory: usage 4kB, limit 4kB, failcnt 9" of a memory cgroup."""
    match = _USAGE.search(text)
    if match is None:
        return None
    name, used, limit = match[1], int(match[2]), int(match[3])
    if name == "memory+swap":
        return {"memsw_limit_kb": limit}
    if name == "swap":
        return {"swap_usage_kb": used, "swap_limit_kb": limit}
    return {"usage_kb": used, "limit_kb": limit}


def stats_of(text: str) -> tuple[str, dict[str, int] | None] | None:
    """ "Memory cgroup stats for /a:" names the group with the limit. Its old form, with the figures behind it (KiB),
    comes for each group below the limit, and doesn't say which has it."""
    match = _STATS.search(text.rstrip())
    if match is None:
        return None
    if match["inline"] is None:
        return match["memcg"], None
    return match["memcg"], {_INLINE_KEYS[key]: int(kb) for key, kb in _INLINE.findall(match["inline"])}


def stat(text: str) -> tuple[str, int] | None:
    """A line of a memory cgroup's memory.stat."""
    match = _STAT.match(text)
    return None if match is None else (_STAT_KEYS[match[1]], int(match[2]) // 1024)


def counters(text: str) -> list[tuple[str, int]]:
    """Counters of the whole machine (show_free_areas()), in pages."""
    if text.startswith("Node "):
        return []
    return [(key, int(pages)) for key, pages in _COUNTER.findall(text)]


def zone(text: str) -> Zone | None:
    """ "Node 0 DMA free:4kB min:4kB … present:9kB …". Machines with one node may leave its number out."""
    match = _NODE.search(text)
    if match is None:
        return None
    node, name, free, lowest, present = match.groups()
    return Zone(int(node or 0), name, int(present), int(free), None if lowest is None else int(lowest))


class FreeBlocks(NamedTuple):
    """A zone's free pieces of 2^n pages, n from 0. page_kb: the size of a page."""

    node: int
    zone: str
    page_kb: int
    blocks: tuple[int, ...]


def free_blocks(text: str) -> FreeBlocks | None:
    """ "Node 0 DMA: 261*16kB (UE) 12*32kB …" (show_free_areas() lists them by size)."""
    match = _BUDDY.match(text)
    if match is None:
        return None
    counts = tuple(int(count) for count in _BLOCKS.findall(text)[:32])
    return FreeBlocks(int(match[1] or 0), match[2], int(match[3]), counts)


def huge_pages(text: str) -> int | None:
    """ "Node 0 hugepages_total=4 hugepages_free=4 hugepages_surp=0 hugepages_size=2048kB": all of them, in KiB."""
    match = _HUGE.search(text)
    return None if match is None else int(match[1]) * int(match[2])


def swap(text: str) -> tuple[str, int] | None:
    """ "Total swap = 4kB" and "Free swap = 4kB", in KiB."""
    match = _SWAP.search(text)
    return None if match is None else ("swap_free_kb" if match[1] == "Free" else "swap_total_kb", int(match[2]))


def machine_pages(text: str) -> tuple[str, int] | None:
    """ "9 pages RAM" and "1 pages reserved"."""
    match = _PAGES.search(text)
    return None if match is None else ("ram" if match[2] == "RAM" else "reserved", int(match[1]))
