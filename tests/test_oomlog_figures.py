"""What figures a report gives: the page size, the victim's user, the memory picture, the choice reckoned anew."""

import random
from dataclasses import replace
from datetime import datetime

import pytest

from oomwatchd.oomlog import sentences
from oomwatchd.oomlog.amounts import held_kb
from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.replay import rank, replay, total_pages
from tests.oom_reports import ERAS, made

REFERENCE = datetime(2026, 12, 31)


def parse(lines: list[str]) -> OomKill:
    parser = Parser(REFERENCE)
    kills = [kill for line in lines for kill in parser.feed(f"[    1.000000] {line}")]
    (kill,) = [*kills, *parser.flush()]
    return kill


def table_of(*rows: str, kernel: str = "6.6.31", header: str | None = None) -> list[str]:
    return [
        "hog invoked oom-killer: gfp_mask=0x140cca, order=0, oom_score_adj=0",
        f"CPU: 0 PID: 70 Comm: hog Not tainted {kernel} #1",
        *(("261120 pages RAM", "0 pages reserved", "Free swap  = 0kB", "Total swap = 0kB")),
        header or "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
        *rows,
    ]


KILL = "Out of memory: Killed process 70 (hog) total-vm:{}kB, anon-rss:{}kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:{}kB oom_score_adj:0"  # noqa: E501


@pytest.mark.parametrize("page_kb", [4, 16, 64])
@pytest.mark.parametrize("shows", ["buddy", "kill"])
def test_the_page_size(page_kb: int, shows: str) -> None:
    buddy = f"Node 0 DMA: 261*{page_kb}kB (UE) 120*{2 * page_kb}kB (UE) = 51536kB"
    lines = table_of(
        f"[     70]     0    70   100000    50000 {page_kb * 1024 * 30}        0             0 hog",
        f"[     71]     0    71   100000    49990 {page_kb * 1024 * 39}        0             0 other",
    )
    if shows == "buddy":
        lines.insert(2, buddy)
        kill = parse(lines)
    else:
        kill = parse([*lines, KILL.format(100000 * page_kb, 50000 * page_kb, 30 * page_kb)])
    assert kill.page_bytes == 1024 * page_kb
    assert kill.memory.ram_kb == 261120 * page_kb
    assert total_pages(kill) == 261120
    assert [one.points for one in rank(kill)] == [50030, 50029]
    assert held_kb(kill, kill.tasks[0] if kill.tasks else None) == page_kb * 50030  # type: ignore[arg-type]


def test_page_tables_of_old_kernels_fill_pages_of_the_machine() -> None:
    header = "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name"
    kill = parse(
        [
            *table_of("[   70]     0    70   100000    50000      30        0             0 hog", header=header),
            KILL.format(6400000, 3200000, 1920),
        ]
    )
    assert kill.tasks is not None
    assert (kill.page_bytes, kill.tasks[0].pgtables_bytes) == (65536, 30 * 65536)


@pytest.mark.parametrize("era", ERAS[1:])
def test_the_victims_user_and_who_says_so(era: str) -> None:
    report = made(era, random.Random(era))
    kill = parse(list(report.lines))
    source = "table" if era in ("4.4", "4.15") else "kill line"
    assert kill.victim_uid == (report.truth.victim.uid, source)
    assert kill.victim is not None
    assert kill.victim.uid == (None if source == "table" else report.truth.victim.uid)
    without_kill = [line for line in report.lines if "Killed process" not in line and "reaped" not in line]
    if ERAS.index(era) >= ERAS.index("5.4"):
        assert parse(without_kill).victim_uid == (report.truth.victim.uid, "summary")


@pytest.mark.parametrize("era", ERAS[1:])
def test_the_choice_is_what_the_kernel_took(era: str) -> None:
    for seed in range(20):
        kill = parse(list(made(era, random.Random(f"{era} {seed}"), memcg=seed % 2 == 0).lines))
        again = replay(kill)
        assert again is None or again.agrees


@pytest.mark.parametrize(("score", "first"), [(500, "user"), (515, "root")])
def test_root_in_a_container_may_lack_its_bonus(score: int, first: str) -> None:
    """515 of 1000 are all of root's memory, 500 are 3 % less; another one holds what is between."""
    header = "[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name"
    kill = parse(
        [
            *table_of(
                "[   70]     0    70   300000   134476       0       0        0             0 root",
                "[   71]  1000    71   300000   132000       0       0        0             0 user",
                header=header,
                kernel="4.9.0",
            ),
            f"Out of memory: Kill process 70 (root) score {score} or sacrifice child",
        ]
    )
    assert rank(kill)[0].task.comm == first


@pytest.mark.parametrize(("kernel", "first"), [("5.2.0", 70), ("5.3.0", 71), ("5.8.1", 71), ("6.1.0", 71)])
def test_of_equals_the_first_dies_before_5_3_the_last_since(kernel: str, first: int) -> None:
    rows = [f"[     {pid}]  1000    {pid}   300000   1000   4096        0             0 hog" for pid in (70, 71)]
    assert rank(parse(table_of(*rows, kernel=kernel)))[0].task.pid == first


def test_what_another_cpu_shows_within_a_report_is_not_added() -> None:
    lines = list(made("6.8", random.Random(1)).lines)
    alone = parse(lines)
    memory = [
        line for line in lines if line.startswith(("active_anon", " active_file", " slab", " free", "Node 0 DMA free"))
    ]
    at = lines.index("Mem-Info:")
    failure = "kworker/u8:1: page allocation failure: order:0, mode:0x6280ca, nodemask=(null)"
    doubled = parse([*lines[:at], failure, "Mem-Info:", *memory, *lines[at:]])
    assert replace(doubled, original=()) == replace(alone, original=())


@pytest.mark.parametrize("stack", ["Stack : 80690000 80631cf4 00000000 00000000", "        80690000 80631cf4 00000000"])
def test_the_dots_of_a_stack_are_no_cut(stack: str) -> None:
    lines = list(made("6.8", random.Random(2)).lines)
    assert not parse([*lines[:3], stack, "        ...", *lines[3:]]).truncated
    assert parse([*lines[:3], "...", *lines[3:]]).truncated


@pytest.mark.parametrize("words", ["SysRq : Manual OOM execution", "sysrq: Manual OOM execution"])
def test_sysrq_where_the_kernel_panics_for_it(words: str) -> None:
    kill = parse([words, "Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled"])
    assert (kill.scope, kill.victim, kill.no_killable) == ("sysrq", None, False)
    assert kill.panic == "Out of memory: compulsory panic_on_oom is enabled"


def test_an_empty_cgroup() -> None:
    kill = parse(
        [
            "systemd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=100",
            "CPU: 1 UID: 1000 PID: 20957 Comm: systemd Not tainted 6.17.3 #1",
            "memory: usage 8kB, limit 0kB, failcnt 151",
            "Memory cgroup stats for /a.scope:",
            "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
            "Out of memory and no killable processes...",
        ]
    )
    assert (kill.no_killable, kill.victim, kill.tasks, kill.truncated) == (True, None, (), False)
    assert sentences.reasons(kill, [], None) == [
        "There was no process in reach: what is charged here was left behind by ones that are gone."
    ]


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        ("No available memory (MPOL_BIND)", "mempolicy"),
        ("No available memory in cpuset", "cpuset"),
        ("Out of memory (oom_kill_allocating_task)", "global"),
        ("Memory cgroup out of memory", "memcg"),
    ],
)
@pytest.mark.parametrize("line", ["{}: kill process 70 (hog) score 9 or a child", "{}: Killed process 70 (hog)."])
def test_what_kernels_until_2_6_35_say_of_the_scope(words: str, scope: str, line: str) -> None:
    kill = parse(["hog invoked oom-killer: gfp_mask=0xd0, order=0, oomkilladj=0", line.format(words)])
    assert kill.scope == scope


def test_until_2_6_17_nobody_is_named_who_asked() -> None:
    kill = parse(["oom-killer: gfp_mask=0xd1, order=2", "Mem-info:", "Out of Memory: Killed process 70 (hog)."])
    assert (kill.invoker.comm, kill.invoker.gfp_mask, kill.invoker.order) == (None, "0xd1", 2)
    assert kill.victim is not None
    assert kill.victim.pid == 70


def test_a_user_that_the_kernel_shows_as_a_negative_number() -> None:
    summary = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=hog,pid=70,uid=-2"  # noqa: E501
    kill = parse(["hog invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0", summary])
    assert (kill.constraint, kill.victim_uid) == ("CONSTRAINT_NONE", (-2, "summary"))
