"""The facts that a log has about one OOM event. None: the log doesn't say."""

from dataclasses import dataclass
from typing import NamedTuple


class Task(NamedTuple):
    """A row of the task table. Sizes in pages but for `pgtables_bytes`. None: the table has no such column, or the log
    ends within the name.
    (A named tuple, not a dataclass: a large log has millions of rows, and these are made four times as fast.)"""

    pid: int
    tgid: int
    uid: int
    total_vm: int
    rss: int
    pgtables_bytes: int | None
    swapents: int | None
    oom_score_adj: int | None
    comm: str | None


@dataclass(frozen=True, slots=True)
class Invoker:
    """The process whose allocation failed. `gfp_mask`: as logged ("0xcc0"). `gfp_words`: what the kernel writes after
    it ("GFP_KERNEL"). `order`: the allocation was of 2^order pages; −1 means sysrq-f."""

    pid: int | None = None
    comm: str | None = None
    gfp_mask: str | None = None
    order: int | None = None
    oom_score_adj: int | None = None
    gfp_words: str | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """A process that was killed; sizes in KiB. comm: None where the log is cut within it."""

    pid: int
    comm: str | None
    uid: int | None = None
    total_vm_kb: int | None = None
    anon_rss_kb: int | None = None
    file_rss_kb: int | None = None
    shmem_rss_kb: int | None = None
    pgtables_kb: int | None = None
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The process that select_bad_process() chose. Until 5.0 a child could die in its place. `pid` may be a thread's.
    `score` is in permille."""

    pid: int
    comm: str
    score: int


class Zone(NamedTuple):
    """A zone of memory (Documentation/mm/physical_memory.rst). blocks: free pieces of 2^n pages, n from 0; () where
    the report doesn't show them."""

    node: int
    name: str
    present_kb: int
    free_kb: int
    min_kb: int | None
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """The state of memory, in KiB: of the memory cgroup if the report is about one, else of the machine.

    node_kb: (NUMA node, its memory) for the nodes that the report shows. hugetlb_kb: all memory that is set aside for
    huge pages. free_cma_kb: the part of the free memory that is set aside for devices."""

    ram_kb: int | None = None
    reserved_kb: int | None = None
    swap_total_kb: int | None = None
    swap_free_kb: int | None = None
    usage_kb: int | None = None
    limit_kb: int | None = None
    memsw_limit_kb: int | None = None
    swap_usage_kb: int | None = None
    swap_limit_kb: int | None = None
    free_kb: int | None = None
    anon_kb: int | None = None
    file_kb: int | None = None
    shmem_kb: int | None = None
    slab_kb: int | None = None
    slab_unreclaimable_kb: int | None = None
    unevictable_kb: int | None = None
    hugetlb_kb: int | None = None
    free_cma_kb: int | None = None
    node_kb: tuple[tuple[int, int], ...] = ()
    zones: tuple[Zone, ...] = ()


@dataclass(frozen=True, slots=True)
class OomKill:
    """One OOM event.

    time: ISO 8601 as the log has it, or seconds since boot (a float). scope: "global", "memcg", "cpuset",
    "mempolicy", "sysrq". tasks: () for a table without rows. columns: the table's header. chosen: the old "Kill
    process" line. group: the cgroup that memory.oom.group killed. nodes: the NUMA nodes that the allocation could use.
    truncated: a part of the report is missing, or the kernel, which limits reports but not kills, never wrote it.
    killer: "kernel", or the program that killed ("systemd-oomd"). host, file: whose log, and where it was read.
    page_bytes: the machine's page size, where the report shows it. uptime: seconds since boot, where the log has them
    beside the date. victim_uid: the victim's user, and which part of the report says so ("kill line", "summary",
    "table"): `victim` itself has what its own line says. trigger: what another killer says of why. unit, container:
    whose the victim was, by its cgroup and by what a service manager says beside the event. original: the lines that
    it was read from, as far as they are kept."""

    time: str | float | None
    kernel: str | None
    scope: str | None
    constraint: str | None
    memcg: str | None
    task_memcg: str | None
    invoker: Invoker
    victim: Killed | None
    also_killed: tuple[Killed, ...]
    tasks: tuple[Task, ...] | None
    columns: tuple[str, ...] | None
    chosen: Chosen | None
    reaped: tuple[int, ...]
    group: str | None
    allocating_task: bool
    no_killable: bool
    panic: str | None
    nodes: str | None
    memory: Memory
    truncated: bool
    killer: str = "kernel"
    host: str | None = None
    file: str | None = None
    page_bytes: int | None = None
    uptime: float | None = None
    victim_uid: tuple[int, str] | None = None
    trigger: str | None = None
    unit: str | None = None
    container: str | None = None
    original: tuple[str, ...] = ()

    @property
    def page_kb(self) -> int:
        """The machine's page size in KiB; 4 where the report doesn't show it."""
        return 4 if self.page_bytes is None else self.page_bytes // 1024
