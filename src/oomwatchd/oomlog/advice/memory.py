"""Advice about what used the memory: a cgroup at its limit, one process, many, no process, swap. Pure."""

from collections import defaultdict
from collections.abc import Iterator

from oomwatchd.base.text import printable
from oomwatchd.oomlog.advice.commands import bound_command, limit_command, owner_name, owner_of_victim
from oomwatchd.oomlog.advice.figures import and_swap, largest_holder, total_kb, with_swap_kb
from oomwatchd.oomlog.advice.model import Advice
from oomwatchd.oomlog.amounts import held_kb, size
from oomwatchd.oomlog.history import Growth
from oomwatchd.oomlog.owners import owner_of
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.sentences import named

# Shares of the memory that ran out, from which on there is advice.
_AT_LIMIT = 0.95
_MUCH = 0.2
_LARGE = 0.3
_MOST = 0.5


def at_limit(kill: OomKill) -> Iterator[Advice]:
    """A memory cgroup was at its limit: which one, and how to raise the limit."""
    memory = kill.memory
    if kill.scope != "memcg" or memory.usage_kb is None or (limit := total_kb(kill)) is None:
        return
    if memory.usage_kb < _AT_LIMIT * limit:
        return
    more = f"{max(1, (limit + limit // 2) // 1024)}M"
    figures = f"{size(memory.usage_kb)} of {size(limit)}"
    if kill.memcg is None:
        yield Advice("memory-limit", f"The cgroup was at its limit ({figures}): raise it, or bound what grows in it.")
        return
    owner = owner_of(kill.memcg)
    largest = max(kill.tasks, key=lambda task: task.rss, default=None) if kill.tasks else None
    grows = "what grows in it" if largest is None else named(largest)
    yield Advice(
        "memory-limit",
        f"{owner_name(owner)} was at its limit ({figures}). More for all in it: "
        f"{limit_command(owner, kill.memcg, more)}. Or bound {grows}.",
    )


def largest_holders(kill: OomKill) -> Iterator[Advice]:
    """One process, or several of one name, held a large part of the machine's memory: how to limit them."""
    total = with_swap_kb(kill)
    if kill.scope != "global" or not kill.tasks or total is None:
        return
    largest, held = largest_holder(kill, kill.tasks)
    victim = kill.victim is not None and kill.victim.pid in (largest.pid, largest.tgid)
    if held >= _LARGE * total and (victim or (largest.oom_score_adj or 0) >= 0):
        owner = owner_of_victim(kill) if victim else None
        yield Advice(
            "bound-process",
            f"{named(largest)} held {size(held)} of {size(total)}{and_swap(kill)}: {bound_command(owner)}.",
        )
        return
    groups: dict[str, list[int]] = defaultdict(list)
    for task in kill.tasks:
        groups[task.comm or "?"].append(held_kb(kill, task))
    comm, sizes = max(groups.items(), key=lambda group: sum(group[1]))
    if len(sizes) > 2 and _LARGE * total <= sum(sizes) <= 1.2 * total:
        yield Advice(
            "many-processes",
            f"{len(sizes)} processes called {printable(comm)} held {size(sum(sizes))} of {size(total)}"
            f"{and_swap(kill)} together: have fewer (the program's own setting for workers, TasksMax=), or bound "
            "their unit (MemoryMax=).",
        )


def growing(kill: OomKill, growth: Growth) -> Advice:
    """The victim's name was killed several times, larger each time."""
    owner = owner_of_victim(kill)
    since = "" if growth.since is None or isinstance(growth.since, float) else f" since {growth.since[:19]}"
    unit = "" if owner is None or owner.unit is None else f" of {printable(owner.unit)}"
    return Advice(
        "growing",
        f"{printable(growth.comm)} was killed {growth.count} times{since}, larger each time "
        f"({size(growth.first_kb)} to {size(growth.last_kb)}): it leaks, or its work grows. MemoryHigh= and "
        f"MemoryMax={unit} keep it from the rest; RuntimeMaxSec= with Restart= renews it in time.",
    )


def outside_processes(kill: OomKill) -> Iterator[Advice]:
    """Much memory was in no process: in tmpfs, slab, huge pages, or locked."""
    total, memory = total_kb(kill), kill.memory
    if total is None or kill.scope not in ("global", "memcg"):
        return
    if memory.shmem_kb is not None and memory.shmem_kb >= _MUCH * total:
        yield Advice(
            "shared-memory",
            f"{size(memory.shmem_kb)} of {size(total)} was in tmpfs and shared memory, which killing frees only in "
            "part: df -h -t tmpfs, ipcs -m; bound it with size= of the mount.",
        )
    slab = memory.slab_unreclaimable_kb if memory.slab_unreclaimable_kb is not None else memory.slab_kb
    if slab is not None and slab >= _MUCH * total:
        yield Advice(
            "slab",
            f"{size(slab)} of {size(total)} was the kernel's own (slab), which no kill frees: slabtop -o -s c shows of "
            "what. One kind that only grows is a leak in a driver or file system.",
        )
    if memory.hugetlb_kb is not None and memory.hugetlb_kb >= _MUCH * total and kill.scope == "global":
        yield Advice(
            "hugetlb",
            f"{size(memory.hugetlb_kb)} of {size(total)} is set aside for huge pages, used or not: reserve less "
            "(sysctl vm.nr_hugepages, or hugepages= at boot).",
        )
    if memory.unevictable_kb is not None and memory.unevictable_kb >= _MUCH * total and kill.scope == "global":
        yield Advice(
            "unevictable",
            f"{size(memory.unevictable_kb)} of {size(total)} was locked (unevictable), so it can't be reclaimed or "
            "swapped: grep VmLck /proc/*/status; bound it with LimitMEMLOCK= (or it is in ramfs).",
        )


def unaccounted(kill: OomKill) -> Iterator[Advice]:
    """Much memory of the machine is in nothing that the report shows."""
    total, memory = total_kb(kill), kill.memory
    known = (memory.free_kb, memory.file_kb, memory.shmem_kb, memory.slab_kb)
    if total is None or kill.scope != "global" or not kill.tasks or any(kb is None for kb in known):
        return
    anon = max(memory.anon_kb or 0, kill.page_kb * sum(task.rss for task in kill.tasks))
    tables = sum(task.pgtables_bytes or 0 for task in kill.tasks) // 1024
    rest = total - sum(kb or 0 for kb in known) - anon - tables
    rest -= (memory.hugetlb_kb or 0) + (memory.unevictable_kb or 0)
    if rest >= _LARGE * total:
        yield Advice(
            "unaccounted",
            f"{size(rest)} of {size(total)} was in no process, file, slab or huge page: a driver's (graphics, network)"
            ", ZFS's cache, or a virtual machine's balloon. /proc/vmallocinfo, arc_summary and the hypervisor tell.",
        )


def swap(kill: OomKill) -> Iterator[Advice]:
    """The machine had no swap, or all of it was in use."""
    memory, total = kill.memory, total_kb(kill)
    if kill.scope != "global" or memory.swap_total_kb is None or total is None:
        return
    anon = memory.anon_kb
    if memory.swap_total_kb == 0:
        if anon is not None and anon >= _MOST * total:
            yield Advice(
                "no-swap",
                f"There is no swap, so none of the {size(anon)} of programs' data could move: zram (zram-generator) or "
                "a swap file gives time to act, not more memory.",
            )
    elif memory.swap_free_kb is not None and memory.swap_free_kb <= memory.swap_total_kb // 50:
        yield Advice(
            "swap-full",
            f"All swap ({size(memory.swap_total_kb)}) was in use: less must run here, or more memory is needed. "
            "oomwatchctl rank shows who holds it.",
        )
