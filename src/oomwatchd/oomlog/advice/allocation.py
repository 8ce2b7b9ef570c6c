"""Advice about the allocation that failed though memory was free. Pure."""

from collections.abc import Iterator

from oomwatchd.base.text import printable
from oomwatchd.oomlog.advice.figures import total_kb
from oomwatchd.oomlog.advice.model import Advice
from oomwatchd.oomlog.amounts import size
from oomwatchd.oomlog.record import OomKill

# Shares of the memory, above which there is advice.
_MUCH = 0.2
_MOST = 0.5
_JUST_ABOVE = 1.1
"""A zone that has no more than this times its minimum counts as empty."""


def failed_though_free(kill: OomKill) -> Iterator[Advice]:
    """The kernel killed for the whole machine though memory was free: advice on the first reason that the report
    shows."""
    memory_kb = total_kb(kill)
    if kill.scope != "global" or kill.memory.free_kb is None or memory_kb is None:
        return
    for reason in (_page_fault, _low_memory, _set_aside, _fragmented):
        if (advice := reason(kill, kill.memory.free_kb, memory_kb)) is not None:
            yield advice
            return


def _page_fault(kill: OomKill, free_kb: int, total_kb: int) -> Advice | None:
    """A page fault was refused its memory, and the OOM killer called for that (pagefault_out_of_memory())."""
    mask = kill.invoker.gfp_mask
    if mask is None or int(mask, 16) != 0 or free_kb < _MUCH * total_kb:
        return None
    return Advice(
        "page-fault",
        f"{size(free_kb)} of {size(total_kb)} was free: the kill came from a page fault whose memory was "
        "refused before (gfp_mask 0x0), by a cgroup's limit or a driver. Look at the lines before it in the log.",
    )


def _low_memory(kill: OomKill, free_kb: int, total_kb: int) -> Advice | None:
    """A 32-bit kernel ran out of the memory that it can use itself."""
    zones = [zone for zone in kill.memory.zones if zone.min_kb is not None]
    low = [zone for zone in zones if zone.name == "Normal" and zone.free_kb <= _JUST_ABOVE * (zone.min_kb or 0)]
    high = [zone for zone in zones if zone.name == "HighMem" and zone.free_kb > 2 * (zone.min_kb or 0)]
    if not low or not high or "HIGH" in (kill.invoker.gfp_words or ""):
        return None
    return Advice(
        "low-memory",
        f"The zone Normal was empty ({size(low[0].free_kb)}, its minimum is {size(low[0].min_kb or 0)}), while "
        f"{size(high[0].free_kb)} of HighMem were free: a 32-bit kernel keeps its own data in the first 896 MiB. A "
        "64-bit kernel has no such limit.",
    )


def _set_aside(kill: OomKill, free_kb: int, total_kb: int) -> Advice | None:
    """What is free is set aside for devices (the contiguous memory allocator)."""
    cma_kb = kill.memory.free_cma_kb
    if cma_kb is None or cma_kb < _MOST * free_kb or cma_kb <= total_kb // 50:
        return None
    return Advice(
        "cma",
        f"{size(cma_kb)} of the {size(free_kb)} free were set aside for devices (CMA), which "
        "the kernel can't take for itself: a smaller cma= at boot.",
    )


def _fragmented(kill: OomKill, free_kb: int, total_kb: int) -> Advice | None:
    """No zone with enough free memory has a free block of the size that was asked for."""
    order = kill.invoker.order or 0
    zones = [zone for zone in kill.memory.zones if zone.min_kb is not None and zone.name not in ("DMA", "Movable")]
    above = [zone for zone in zones if zone.free_kb > _JUST_ABOVE * (zone.min_kb or 0)]
    if order <= 0 or not above or not all(zone.blocks and not any(zone.blocks[order:]) for zone in above):
        return None
    return Advice(
        "fragmented",
        f"{size(free_kb)} were free, but no piece of {size(kill.page_kb << min(order, 20))} in one "
        f"(order {order}): memory is in fragments. sysctl vm.min_free_kbytes (more), vm.compaction_proactiveness.",
    )


def nodes(kill: OomKill) -> Iterator[Advice]:
    """A cpuset or a memory policy allowed only NUMA nodes that were full."""
    if kill.scope not in ("cpuset", "mempolicy") or kill.nodes is None:
        return
    how = (
        "AllowedMemoryNodes= of the unit (cpuset.mems of the cgroup)"
        if kill.scope == "cpuset"
        else "the program's memory policy (numactl --membind; NUMAPolicy= of the unit)"
    )
    free = kill.memory.free_kb
    more = "" if free is None else f" The machine had {size(free)} free."
    yield Advice(
        "numa-nodes", f"Only NUMA node {printable(kill.nodes)} was allowed, and it was full.{more} Allow more: {how}."
    )
