"""What to do about an OOM event: advice that the facts of its report bear, each with a command or a setting. Pure.

What a report doesn't show is never guessed at: a figure that is missing makes no advice.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from oomwatchd.base.badness import OOM_SCORE_ADJ_MIN
from oomwatchd.base.text import printable
from oomwatchd.oomlog.advice import named, size
from oomwatchd.oomlog.history import Growth
from oomwatchd.oomlog.owners import Owner, owner_of
from oomwatchd.oomlog.record import OomKill, Task

_AT_LIMIT = 0.95
_MUCH = 0.2
_MOST = 0.5
_UNACCOUNTED = 0.3
_NO_LIMIT_KB = 1 << 50
_ID_SHOWN = 12


class Advice(NamedTuple):
    """`id` is stable; oomwatchctl(1) lists them."""

    id: str
    message: str


def advise(kill: OomKill, growth: Growth | None = None) -> tuple[Advice, ...]:
    """What to do, the most telling first. `growth`: what the events before it have shown."""
    rules = _OF_KERNEL if kill.killer == "kernel" else _OF_OTHERS
    found = [advice for rule in rules for advice in rule(kill)]
    if growth is not None:
        found.append(_leak(kill, growth))
    return tuple(found)


def _total_kb(kill: OomKill) -> int | None:
    """What the report says that there was: the cgroup's limit, or the machine's memory."""
    memory = kill.memory
    if kill.scope == "memcg":
        return memory.limit_kb if memory.limit_kb is not None and memory.limit_kb < _NO_LIMIT_KB else None
    return None if memory.ram_kb is None else memory.ram_kb - (memory.reserved_kb or 0)


def _with_swap_kb(kill: OomKill) -> int | None:
    """What a process may hold of: swap counts, too."""
    total = _total_kb(kill)
    swap = kill.memory.swap_total_kb if kill.scope != "memcg" else kill.memory.swap_usage_kb
    return None if total is None else total + (swap or 0)


def _and_swap(kill: OomKill) -> str:
    return " with swap" if kill.memory.swap_total_kb else ""


def _page_kb(kill: OomKill) -> int:
    return (kill.page_bytes or 4096) // 1024


def _held_kb(kill: OomKill, task: Task) -> int:
    """What killing the process would give back; KiB."""
    _, _, _, _, rss, pgtables_bytes, swapents, _, _ = task
    return _page_kb(kill) * (rss + (swapents or 0)) + (pgtables_bytes or 0) // 1024


def _largest(kill: OomKill, tasks: Sequence[Task]) -> tuple[Task, int]:
    """The first process that held most, and how much; KiB."""
    held = [_held_kb(kill, task) for task in tasks]
    most = max(held)
    return tasks[held.index(most)], most


# Whom a setting is for.


def _called(owner: Owner) -> str:
    name = printable(owner.name)
    if owner.kind == "container":
        return f"container {name[:_ID_SHOWN]}"
    return {
        "pod": f"pod {name}",
        "lxc": f"LXC container {name}",
        "machine": f"machine {name}",
        "cgroup": f"memory cgroup {name}",
    }.get(owner.kind, name)


def _limit_command(owner: Owner, path: str, more: str) -> str:
    """How its memory limit is raised."""
    name = printable(owner.name)
    if "kubepods" in path:
        return "raise resources.limits.memory of that container in the pod's manifest"
    if owner.kind == "container":
        program = "podman" if "libpod" in path else "docker"
        return f"{program} update --memory {more} {name[:_ID_SHOWN]}"
    if owner.kind == "lxc":
        return f"raise its limit (Proxmox: pct set {name} --memory MIB; LXD, Incus: limits.memory)"
    if owner.kind in ("unit", "slice", "machine") and owner.unit is not None:
        return f"systemctl set-property {printable(owner.unit)} MemoryMax={more}"
    if owner.kind == "user unit":
        return f"systemctl --user set-property {name} MemoryMax={more}"
    return f"write more to memory.max in /sys/fs/cgroup{printable(path)} (version 1: memory.limit_in_bytes)"


def _bound_command(owner: Owner | None) -> str:
    """How a process that nothing bounds gets a limit."""
    if owner is None or owner.kind == "cgroup":
        return "give it a limit (MemoryMax= of its unit; systemd-run -p MemoryMax=SIZE for a command)"
    if owner.kind == "container":
        return f"give {_called(owner)} a limit (docker update --memory, or the pod's resources.limits.memory)"
    if owner.kind in ("unit", "user unit", "machine") and owner.unit is not None:
        user = " --user" if owner.kind == "user unit" else ""
        return f"systemctl{user} set-property {printable(owner.unit)} MemoryHigh=SIZE MemoryMax=SIZE"
    return f"give {_called(owner)} a limit"


def _owner_of_victim(kill: OomKill) -> Owner | None:
    if kill.task_memcg is not None:
        return owner_of(kill.task_memcg)
    return None if kill.unit is None else Owner("unit", kill.unit, kill.unit, None)


# The rules. Each says nothing, or what it found.


def _at_limit(kill: OomKill) -> Iterator[Advice]:
    memory = kill.memory
    if kill.scope != "memcg" or memory.usage_kb is None or (limit := _total_kb(kill)) is None:
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
        f"{_called(owner)} was at its limit ({figures}). More for all in it: "
        f"{_limit_command(owner, kill.memcg, more)}. Or bound {grows}.",
    )


def _alone(kill: OomKill) -> Iterator[Advice]:
    victim = kill.victim
    if kill.scope != "memcg" or victim is None or victim.oom_score_adj is None or victim.oom_score_adj >= 0:
        return
    free = [task for task in kill.tasks or () if (task.oom_score_adj or 0) > OOM_SCORE_ADJ_MIN and task.pid != 1]
    if len(free) == 1 and free[0].pid == victim.pid:
        yield Advice(
            "protected-alone",
            f"{named(victim)} was protected ({victim.oom_score_adj}), but nobody else in its cgroup could be killed: "
            "at a cgroup's limit only its own processes are chosen from. Protection needs a higher limit, or -1000.",
        )


def _protected_held_most(kill: OomKill) -> Iterator[Advice]:
    total = _with_swap_kb(kill)
    if not kill.tasks or total is None or kill.victim is None:
        return
    largest, held = _largest(kill, kill.tasks)
    if (largest.oom_score_adj or 0) >= 0 or held < _MUCH * total:
        return
    if kill.victim.pid in (largest.pid, largest.tgid):
        return
    never = largest.oom_score_adj == OOM_SCORE_ADJ_MIN
    yield Advice(
        "protected-process",
        f"{named(largest)} held most ({size(held)} of {size(total)}{_and_swap(kill)}) and was "
        f"{'never to be chosen' if never else 'protected'} (oom_score_adj {largest.oom_score_adj}), so others died. "
        f"Bound it (MemoryMax= of its unit), or protect it less: "
        f"oomwatchctl explain {largest.pid} names the rule, OOMScoreAdjust= is its unit's.",
    )


def _nobody(kill: OomKill) -> Iterator[Advice]:
    if kill.panic is not None and "panic_on_oom" in kill.panic:
        yield Advice(
            "panic-on-oom",
            "The kernel panicked because it was told to: with vm.panic_on_oom=0 it kills a process.",
        )
        return
    protected = kill.tasks and all(task.oom_score_adj == OOM_SCORE_ADJ_MIN or task.pid == 1 for task in kill.tasks)
    if kill.no_killable and protected:
        in_cgroup = kill.scope == "memcg" and kill.memcg is not None
        where = _called(owner_of(kill.memcg or "")) if in_cgroup else "the machine"
        yield Advice(
            "nobody-killable",
            f"All processes of {where} are at -1000, so none could be killed. Have at least one above -1000: "
            "OOMScoreAdjust= of the unit, or the rule that oomwatchctl explain PID names.",
        )


def _settings(kill: OomKill) -> Iterator[Advice]:
    if kill.allocating_task:
        yield Advice(
            "allocating-task",
            "vm.oom_kill_allocating_task is set, so whoever asks dies: sysctl vm.oom_kill_allocating_task=0 has the "
            "kernel take the largest.",
        )
    if kill.group is not None:
        owner = owner_of(kill.group)
        if "kubepods" in kill.group:
            how = "singleProcessOOMKill: true in the kubelet's configuration has one killed"
        elif owner.kind in ("unit", "user unit"):
            how = "OOMPolicy=continue (or stop) of the unit has one killed"
        else:
            how = "0 in its memory.oom.group has one killed"
        yield Advice("oom-group", f"memory.oom.group of {_called(owner)} had all its processes killed: {how}.")
    if kill.scope == "sysrq":
        yield Advice(
            "sysrq",
            "Somebody asked for this kill (sysrq-f, or f written to /proc/sysrq-trigger): memory need not have been "
            "short. sysctl kernel.sysrq decides who may.",
        )


def _elsewhere(kill: OomKill) -> Iterator[Advice]:
    """Memory that is in no process."""
    total, memory = _total_kb(kill), kill.memory
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
    yield from _unaccounted(kill, total)


def _unaccounted(kill: OomKill, total: int) -> Iterator[Advice]:
    memory = kill.memory
    known = (memory.free_kb, memory.file_kb, memory.shmem_kb, memory.slab_kb)
    if kill.scope != "global" or not kill.tasks or any(kb is None for kb in known):
        return
    anon = max(memory.anon_kb or 0, _page_kb(kill) * sum(task.rss for task in kill.tasks))
    tables = sum(task.pgtables_bytes or 0 for task in kill.tasks) // 1024
    rest = total - sum(kb or 0 for kb in known) - anon - tables
    rest -= (memory.hugetlb_kb or 0) + (memory.unevictable_kb or 0)
    if rest >= _UNACCOUNTED * total:
        yield Advice(
            "unaccounted",
            f"{size(rest)} of {size(total)} was in no process, file, slab or huge page: a driver's (graphics, network)"
            ", ZFS's cache, or a virtual machine's balloon. /proc/vmallocinfo, arc_summary and the hypervisor tell.",
        )


def _swap(kill: OomKill) -> Iterator[Advice]:
    memory, total = kill.memory, _total_kb(kill)
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


def _request(kill: OomKill) -> Iterator[Advice]:
    """A request that couldn't be met though memory was free."""
    memory, total, asked = kill.memory, _total_kb(kill), kill.invoker
    if kill.scope != "global" or memory.free_kb is None or total is None:
        return
    if asked.gfp_mask is not None and int(asked.gfp_mask, 16) == 0 and memory.free_kb >= _MUCH * total:
        yield Advice(
            "page-fault",
            f"{size(memory.free_kb)} of {size(total)} was free: the kill came from a page fault whose memory was "
            "refused before (gfp_mask 0x0), by a cgroup's limit or a driver. Look at the lines before it in the log.",
        )
        return
    zones = [zone for zone in memory.zones if zone.min_kb is not None]
    above = [zone for zone in zones if zone.free_kb > 1.1 * (zone.min_kb or 0) and zone.name not in ("DMA", "Movable")]
    low = [zone for zone in zones if zone.name == "Normal" and zone.free_kb <= 1.1 * (zone.min_kb or 0)]
    high = [zone for zone in zones if zone.name == "HighMem" and zone.free_kb > 2 * (zone.min_kb or 0)]
    if low and high and "HIGH" not in (asked.gfp_words or ""):
        yield Advice(
            "low-memory",
            f"The zone Normal was empty ({size(low[0].free_kb)}, its minimum is {size(low[0].min_kb or 0)}), while "
            f"{size(high[0].free_kb)} of HighMem were free: a 32-bit kernel keeps its own data in the first 896 MiB. A "
            "64-bit kernel has no such limit.",
        )
        return
    if (
        memory.free_cma_kb is not None
        and memory.free_cma_kb >= _MOST * memory.free_kb
        and memory.free_cma_kb > total // 50
    ):
        yield Advice(
            "cma",
            f"{size(memory.free_cma_kb)} of the {size(memory.free_kb)} free were set aside for devices (CMA), which "
            "the kernel can't take for itself: a smaller cma= at boot.",
        )
        return
    order = asked.order or 0
    if order > 0 and above and all(zone.blocks and not any(zone.blocks[order:]) for zone in above):
        yield Advice(
            "fragmented",
            f"{size(memory.free_kb)} were free, but no piece of {size(_page_kb(kill) << min(order, 20))} in one "
            f"(order {order}): memory is in fragments. sysctl vm.min_free_kbytes (more), vm.compaction_proactiveness.",
        )


def _nodes(kill: OomKill) -> Iterator[Advice]:
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


def _holders(kill: OomKill) -> Iterator[Advice]:
    """Who held most of the machine."""
    total = _with_swap_kb(kill)
    if kill.scope != "global" or not kill.tasks or total is None:
        return
    largest, held = _largest(kill, kill.tasks)
    victim = kill.victim is not None and kill.victim.pid in (largest.pid, largest.tgid)
    if held >= _UNACCOUNTED * total and (victim or (largest.oom_score_adj or 0) >= 0):
        owner = _owner_of_victim(kill) if victim else None
        yield Advice(
            "bound-process",
            f"{named(largest)} held {size(held)} of {size(total)}{_and_swap(kill)}: {_bound_command(owner)}.",
        )
        return
    groups: dict[str, list[int]] = defaultdict(list)
    for task in kill.tasks:
        groups[task.comm].append(_held_kb(kill, task))
    comm, sizes = max(groups.items(), key=lambda group: sum(group[1]))
    if len(sizes) > 2 and _UNACCOUNTED * total <= sum(sizes) <= 1.2 * total:
        yield Advice(
            "many-processes",
            f"{len(sizes)} processes called {printable(comm)} held {size(sum(sizes))} of {size(total)}"
            f"{_and_swap(kill)} together: have fewer (the program's own setting for workers, TasksMax=), or bound "
            "their unit (MemoryMax=).",
        )


def _leak(kill: OomKill, growth: Growth) -> Advice:
    owner = _owner_of_victim(kill)
    since = "" if growth.since is None or isinstance(growth.since, float) else f" since {growth.since[:19]}"
    unit = "" if owner is None or owner.unit is None else f" of {printable(owner.unit)}"
    return Advice(
        "growing",
        f"{printable(growth.comm)} was killed {growth.count} times{since}, larger each time "
        f"({size(growth.first_kb)} to {size(growth.last_kb)}): it leaks, or its work grows. MemoryHigh= and "
        f"MemoryMax={unit} keep it from the rest; RuntimeMaxSec= with Restart= renews it in time.",
    )


# Of the other killers.


def _systemd_oomd(kill: OomKill) -> Iterator[Advice]:
    if kill.killer != "systemd-oomd":
        return
    path = kill.task_memcg or ""
    who = _called(owner_of(path)) if path else "the cgroup"
    spare = f"ManagedOOMPreference=avoid of {who} has it take others first"
    if kill.memcg is not None:
        watched = _called(owner_of(kill.memcg))
        yield Advice(
            "oomd-pressure",
            f"systemd-oomd ended {who} because {watched} waited for memory too long: raise "
            f"ManagedOOMMemoryPressureLimit= of {watched} (or DefaultMemoryPressureDurationSec= in oomd.conf), or "
            f"bound what grows with MemoryHigh=. {spare}. oomctl shows the limits.",
        )
    else:
        yield Advice(
            "oomd-swap",
            f"systemd-oomd ended {who} because memory and swap were both nearly full: more swap, a higher "
            f"SwapUsedLimit= in oomd.conf, or MemorySwapMax= for what fills it. {spare}.",
        )


def _earlyoom(kill: OomKill) -> Iterator[Advice]:
    if kill.killer == "earlyoom":
        yield Advice(
            "earlyoom",
            "earlyoom acted before the kernel did. Its limits are -m and -s in EARLYOOM_ARGS (/etc/default/earlyoom), "
            "and --avoid REGEX spares a name. It goes by oom_score, so oom_score_adj counts.",
        )
    elif kill.killer == "nohang":
        yield Advice(
            "nohang",
            "nohang acted before the kernel did. Its thresholds (soft_threshold_min_mem, hard_threshold_min_mem, "
            "max_psi) and badness adjustments are in /etc/nohang/nohang.conf.",
        )
    elif kill.killer == "oomd":
        yield Advice(
            "oomd-ruleset",
            "oomd acted before the kernel did, by the ruleset that it names, in /etc/oomd.json. The extended attribute "
            "trusted.oomd_avoid on the cgroup spares it.",
        )


_Rule = Callable[[OomKill], Iterator[Advice]]
_OF_KERNEL: tuple[_Rule, ...] = (
    *(_nobody, _alone, _at_limit, _nodes, _request, _protected_held_most, _elsewhere, _holders, _swap, _settings),
)
_OF_OTHERS: tuple[_Rule, ...] = (_systemd_oomd, _earlyoom)
