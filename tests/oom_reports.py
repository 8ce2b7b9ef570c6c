"""OOM reports as kernels from 2.6.18 to 6.11 write them, made up, with what they say."""

import random
from dataclasses import dataclass

ERAS = ("2.6.18", "2.6.32", "3.10", "4.4", "4.15", "5.4", "6.1", "6.8", "6.11")
RELEASES = {
    "2.6.18": None,
    "2.6.32": "2.6.32-696.el6.x86_64",
    "3.10": "3.10.0-957.el7.x86_64",
    "4.4": "4.4.0-210-generic",
    "4.15": "4.15.0-112-generic",
    "5.4": "5.4.0-150-generic",
    "6.1": "6.1.0-18-amd64",
    "6.8": "6.8.0-31-generic",
    "6.11": "6.11.0-8-generic",
}
_COLUMNS = {
    "2.6.32": "[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name",
    "3.10": "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name",
    "4.4": "[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name",
    "4.15": "[ pid ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
    "5.4": "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
    "6.8": "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj "
    "name",
}
NAMES = ("java", "mysqld", "node", "php-fpm: pool a", "kworker/u8:1", "Web Content", "ZMQbg/IO/0", "(sd-pam)", "a.out")


@dataclass(frozen=True)
class Row:
    pid: int
    uid: int
    total_vm: int
    rss: int
    adj: int
    comm: str


@dataclass(frozen=True)
class Truth:
    """What a report says. None: its kernel doesn't write it."""

    invoker: str
    invoker_pid: int | None
    gfp_mask: str
    order: int
    kernel: str | None
    memcg: str | None
    rows: tuple[Row, ...] | None
    victim: Row
    anon_rss_kb: int | None


@dataclass(frozen=True)
class Made:
    lines: tuple[str, ...]
    truth: Truth


def made(era: str, rng: random.Random, *, memcg: bool = False) -> Made:
    """A report of a kernel of that era."""
    pids = rng.sample(range(300, 99_000), 6)
    names = [rng.choice(NAMES) for _ in pids]
    rows = tuple(
        Row(pid, rng.choice((0, 33, 1000, 65534)), rss * 3, rss, rng.choice((-1000, 0, 0, 300)), name)
        for pid, name in zip(pids, names, strict=True)
        for rss in (rng.randrange(100, 60_000),)
    )
    victim = Row(rows[3].pid, rows[3].uid, 1_700_000, 900_123, 0, rows[3].comm)
    rows = (*rows[:3], victim, *rows[4:])
    asker = rng.choice(rows)
    group = f"/system.slice/job-{rng.randrange(9)}.service" if memcg and era not in ("2.6.18",) else None
    return Made(
        (*_head(era, asker, memcg=group), *_memory(era, group), *_table(era, rows), *_end(era, victim, group)),
        Truth(
            asker.comm,
            None if era == "2.6.18" else asker.pid,
            "0x201d2" if era == "2.6.18" else "0x280da",
            0,
            RELEASES[era],
            group,
            None if era == "2.6.18" else rows,
            victim,
            None if era == "2.6.18" else 4 * 900_000,
        ),
    )


def _is(era: str, *, since: str) -> bool:
    return ERAS.index(era) >= ERAS.index(since)


def _head(era: str, asker: Row, *, memcg: str | None) -> list[str]:
    name = asker.comm
    if era == "2.6.18":
        return [
            f"{name} invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0",
            "",
            "Call Trace:",
            " [<ffffffff800c9a1a>] out_of_memory+0x8e/0x2f3",
        ]
    adj = "oom_adj=0, oom_score_adj=0" if era == "2.6.32" else "oom_score_adj=0"
    words = "(GFP_HIGHUSER_MOVABLE|__GFP_ZERO)" if _is(era, since="4.15") else ""
    nodes = " nodemask=(null), " if era == "4.15" else ""
    out = [f"{name} invoked oom-killer: gfp_mask=0x280da{words},{nodes} order=0, {adj}"]
    if not _is(era, since="5.4"):
        out.append(f"{name} cpuset=/ mems_allowed=0")
    release = RELEASES[era]
    if era == "2.6.32":
        out.append(f"Pid: {asker.pid}, comm: {name} Not tainted {release} #1")
    else:
        uid = f"UID: {asker.uid} " if era == "6.11" else ""
        out.append(f"CPU: 3 {uid}PID: {asker.pid} Comm: {name} Not tainted {release} #1")
    out += ["Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2-1 04/01/2014", "Call Trace:"]
    call = "mem_cgroup_out_of_memory" if memcg else "out_of_memory"
    out += [" <TASK>", f" {call}+0x8e/0x2f3", " </TASK>"]
    return out


def _memory(era: str, memcg: str | None) -> list[str]:
    if memcg is not None and not _is(era, since="5.4"):
        return [
            f"Task in {memcg} killed as a result of limit of {memcg}",
            "memory: usage 4096000kB, limit 4096000kB, failcnt 77",
            "memory+swap: usage 4096000kB, limit 9007199254740988kB, failcnt 0",
        ]
    if memcg is not None:
        return [
            "memory: usage 4096000kB, limit 4096000kB, failcnt 77",
            "swap: usage 0kB, limit 0kB, failcnt 0",
            f"Memory cgroup stats for {memcg}:",
            "anon 4093640704",
            "file 4096",
        ]
    return [
        "Mem-info:" if era == "2.6.18" else "Mem-Info:",
        "active_anon:401 inactive_anon:936010 isolated_anon:0",
        " active_file:120 inactive_file:88 isolated_file:0",
        " slab_reclaimable:10121 slab_unreclaimable:20211",
        " mapped:3121 shmem:1021 pagetables:4021",
        " free:25301 free_pcp:63 free_cma:0",
        "Node 0 DMA free:15900kB min:68kB low:84kB high:100kB active_anon:0kB present:15992kB managed:15908kB",
        "Node 0 DMA: 1*4kB (U) 1*8kB (U) 0*16kB 1*32kB (U) 2*64kB (U) = 15900kB",
        "8127 total pagecache pages",
        "Free swap  = 0kB",
        "Total swap = 0kB",
        "1048446 pages RAM",
        "21034 pages reserved",
    ]


def _table(era: str, rows: tuple[Row, ...]) -> list[str]:
    if era == "2.6.18":
        return []
    columns = {"6.1": "5.4", "6.11": "6.8"}.get(era, era)
    out = ["Tasks state (memory values in pages):"] if _is(era, since="5.4") else []
    out.append(_COLUMNS[columns])
    for row in rows:
        width = 7 if _is(era, since="5.4") else 5
        start = f"[{row.pid:{width}}] {row.uid:5} {row.pid:5} {row.total_vm:8} {row.rss:8}"
        middle = {
            "2.6.32": f" {3:3} {0:7} {row.adj:13}",
            "3.10": f" {20:7} {0:8} {row.adj:13}",
            "4.4": f" {20:7} {3:7} {0:8} {row.adj:13}",
            "4.15": f" {94208:8} {0:8} {row.adj:13}",
            "5.4": f" {94208:8} {0:8} {row.adj:13}",
            "6.8": f" {row.rss - 20:8} {20:8} {0:9} {94208:8} {0:8} {row.adj:13}",
        }[columns]
        out.append(f"{start}{middle} {row.comm}")
    return out


def _end(era: str, victim: Row, memcg: str | None) -> list[str]:
    words = "Memory cgroup out of memory" if memcg else "Out of memory"
    figures = f"total-vm:{4 * victim.total_vm}kB, anon-rss:{4 * 900_000}kB, file-rss:{4 * 123}kB"
    if era == "2.6.18":
        return [f"Out of memory: Killed process {victim.pid}, UID {victim.uid}, ({victim.comm})."]
    if not _is(era, since="5.4"):
        out = [f"{words}: Kill process {victim.pid} ({victim.comm}) score 863 or sacrifice child"]
        who = {
            "2.6.32": f"{victim.pid}, UID {victim.uid}, ({victim.comm})",
            "3.10": f"{victim.pid} ({victim.comm}), UID {victim.uid},",
        }.get(era, f"{victim.pid} ({victim.comm})")
        shmem = "" if era in ("2.6.32", "4.4") else ", shmem-rss:0kB"
        return [*out, f"Killed process {who} {figures}{shmem}"]
    where = f"CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={memcg},task_memcg={memcg}"
    if memcg is None:
        where = "CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/user.slice"
    return [
        f"oom-kill:constraint={where},task={victim.comm},pid={victim.pid},uid={victim.uid}",
        f"{words}: Killed process {victim.pid} ({victim.comm}) {figures}, shmem-rss:0kB, UID:{victim.uid} "
        "pgtables:92kB oom_score_adj:0",
        f"oom_reaper: reaped process {victim.pid} ({victim.comm}), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
    ]
