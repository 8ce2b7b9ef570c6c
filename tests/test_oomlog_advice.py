"""What to do: each piece of advice where the facts bear it, and not where they don't."""

from dataclasses import replace

import pytest

from oomwatchd.oomlog import gfp
from oomwatchd.oomlog.advice import advise
from oomwatchd.oomlog.history import History
from oomwatchd.oomlog.record import Invoker, Killed, Memory, OomKill, Task, Zone

MIB, GIB = 1 << 10, 1 << 20
ID = "0123456789abcdef" * 4


def task(pid: int, comm: str, rss_kb: int, adj: int = 0) -> Task:
    return Task(pid, pid, 0, rss_kb, rss_kb // 4, 0, 0, adj, comm)


def event(**facts: object) -> OomKill:
    kill = OomKill(
        time=None, kernel=None, scope="global", constraint=None, memcg=None, task_memcg=None, invoker=Invoker(),
        victim=Killed(9, "big"), also_killed=(), tasks=None, columns=None, chosen=None, reaped=(), group=None,
        allocating_task=False, no_killable=False, panic=None, nodes=None, memory=Memory(), truncated=False,
    )  # fmt: skip
    return replace(kill, **facts)  # type: ignore[arg-type]


def ids(kill: OomKill) -> list[str]:
    return [one.id for one in advise(kill)]


def only(kill: OomKill) -> str:
    (one,) = advise(kill)
    return one.message


def at_limit(memcg: str | None, usage: int = 512 * MIB, limit: int = 512 * MIB) -> OomKill:
    return event(scope="memcg", memcg=memcg, memory=Memory(usage_kb=usage, limit_kb=limit))


@pytest.mark.parametrize(
    ("memcg", "command"),
    [
        ("/system.slice/web.service", "systemctl set-property web.service MemoryMax=768M"),
        (
            "/user.slice/user-7.slice/user@7.service/app.slice/x.scope",
            "systemctl --user set-property x.scope MemoryMax",
        ),
        (f"/system.slice/docker-{ID}.scope", "docker update --memory 768M 0123456789ab"),
        (f"/machine.slice/libpod-{ID}.scope", "podman update --memory 768M 0123456789ab"),
        (f"/kubepods/burstable/podaa/{ID}", "resources.limits.memory"),
        ("/lxc/101", "pct set 101 --memory"),
        ("/just/a group", "memory.max in /sys/fs/cgroup/just/a group"),
        (None, "raise it"),
    ],
)
def test_a_cgroup_at_its_limit(memcg: str | None, command: str) -> None:
    message = only(at_limit(memcg))
    assert command in message
    assert "512 MiB of 512 MiB" in message


def test_a_cgroup_that_was_not_at_its_limit() -> None:
    assert not advise(at_limit("/a", usage=256 * MIB))
    assert not advise(at_limit("/a", limit=9007199254740988))
    assert not advise(event(scope="memcg", memcg="/a"))


MACHINE = Memory(ram_kb=8 * GIB, free_kb=100 * MIB, anon_kb=7 * GIB, file_kb=0, shmem_kb=0, slab_kb=0)


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("shared-memory", {"shmem_kb": 2 * GIB}),
        ("slab", {"slab_kb": 2 * GIB}),
        ("slab", {"slab_kb": 3 * GIB, "slab_unreclaimable_kb": 2 * GIB}),
        ("hugetlb", {"hugetlb_kb": 2 * GIB}),
        ("unevictable", {"unevictable_kb": 2 * GIB}),
        ("no-swap", {"swap_total_kb": 0, "swap_free_kb": 0}),
        ("swap-full", {"swap_total_kb": GIB, "swap_free_kb": 4}),
    ],
)
def test_where_the_memory_was(name: str, memory: dict[str, int]) -> None:
    assert ids(event(memory=replace(MACHINE, **memory))) == [name]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "memory",
    [
        {},
        {"shmem_kb": GIB, "slab_kb": GIB, "hugetlb_kb": GIB, "unevictable_kb": GIB},
        {"slab_kb": 3 * GIB, "slab_unreclaimable_kb": MIB},
        {"swap_total_kb": GIB, "swap_free_kb": GIB // 2},
        {"swap_total_kb": 0, "anon_kb": GIB},
    ],
)
def test_figures_that_bear_nothing(memory: dict[str, int]) -> None:
    assert ids(event(memory=replace(MACHINE, **memory))) == []  # type: ignore[arg-type]


def test_memory_that_is_nowhere() -> None:
    tasks = (task(9, "big", 2 * GIB), task(10, "other", GIB))
    memory = replace(MACHINE, anon_kb=3 * GIB)
    assert ids(event(tasks=tasks, memory=memory)) == ["unaccounted"]
    assert ids(event(tasks=(*tasks, task(11, "third", 4 * GIB)), memory=MACHINE)) == ["bound-process"]
    assert ids(event(tasks=tasks, memory=replace(memory, slab_kb=None))) == []


def test_the_rule_that_held_the_victim() -> None:
    tasks = (task(9, "big", 6 * GIB), task(10, "small", MIB))
    kill = event(tasks=tasks, memory=MACHINE, task_memcg="/system.slice/big.service")
    assert "big (9) held 6.0 GiB of 8.0 GiB: systemctl set-property big.service MemoryHigh" in only(kill)
    protected = (task(7, "db", 6 * GIB, -1000), task(9, "big", GIB))
    assert ids(replace(kill, tasks=protected)) == ["protected-process"]
    assert ids(replace(kill, tasks=protected, victim=None)) == []
    many = tuple(task(pid, "worker", GIB) for pid in range(10, 17))
    assert "7 processes called worker held 7.0 GiB" in only(replace(kill, tasks=many))


def test_protection_that_can_not_help() -> None:
    tasks = (task(9, "db", GIB, -900), task(10, "child", MIB, -1000))
    kill = replace(at_limit("/system.slice/db.service"), tasks=tasks, victim=Killed(9, "db", oom_score_adj=-900))
    assert ids(kill) == ["protected-alone", "memory-limit"]
    assert ids(replace(kill, tasks=(*tasks, task(11, "x", MIB)))) == ["memory-limit"]
    nobody = replace(kill, tasks=(task(9, "db", GIB, -1000),), victim=None, no_killable=True)
    assert ids(nobody) == ["nobody-killable", "memory-limit"]


def zone(name: str, free: int, low: int, *blocks: int) -> Zone:
    return Zone(0, name, 4 * GIB, free, low, blocks)


def test_memory_that_was_free_but_of_no_use() -> None:
    free = replace(MACHINE, free_kb=2 * GIB, anon_kb=GIB)
    assert ids(event(memory=free, invoker=Invoker(gfp_mask="0x0", order=0))) == ["page-fault"]
    assert ids(event(memory=MACHINE, invoker=Invoker(gfp_mask="0x0", order=0))) == []
    asked = Invoker(gfp_mask="0xcc0", order=2)
    pieces = zone("Normal", GIB, MIB, 1000, 1000, 0, 0)
    assert ids(event(memory=replace(free, zones=(pieces,)), invoker=asked)) == ["fragmented"]
    whole = zone("Normal", GIB, MIB, 1000, 1000, 0, 1)
    assert ids(event(memory=replace(free, zones=(whole,)), invoker=asked)) == []
    lowmem = (zone("Normal", MIB, MIB), zone("HighMem", GIB, MIB))
    assert ids(event(memory=replace(free, zones=lowmem), invoker=Invoker(order=0))) == ["low-memory"]
    assert ids(event(memory=replace(free, free_cma_kb=GIB + GIB // 2), invoker=Invoker(order=0))) == ["cma"]


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"panic": "Out of memory: compulsory panic_on_oom is enabled", "victim": None}, "panic-on-oom"),
        ({"allocating_task": True}, "allocating-task"),
        ({"group": "/system.slice/a.service", "scope": "memcg"}, "oom-group"),
        ({"scope": "sysrq"}, "sysrq"),
        ({"scope": "cpuset", "nodes": "1"}, "numa-nodes"),
        ({"scope": "mempolicy", "nodes": "1"}, "numa-nodes"),
        ({"killer": "systemd-oomd", "memcg": "/a.slice", "task_memcg": "/a.slice/b.service"}, "oomd-pressure"),
        ({"killer": "systemd-oomd", "task_memcg": "/a.slice/b.service"}, "oomd-swap"),
        ({"killer": "earlyoom"}, "earlyoom"),
        ({"killer": "nohang"}, "nohang"),
        ({"killer": "oomd"}, "oomd-ruleset"),
    ],
)
def test_what_decided(facts: dict[str, object], name: str) -> None:
    assert ids(event(**facts)) == [name]


def test_growth_takes_three_kills_each_larger() -> None:
    def told(*sizes: int) -> list[bool]:
        history = History()
        return [history.take(event(victim=Killed(1, "java", anon_rss_kb=size))) is not None for size in sizes]

    assert told(100, 200, 300, 400) == [False, False, True, True]
    assert told(100, 200, 150, 300) == [False, False, False, False]
    assert told(100, 101, 102, 103) == [False, False, False, False]
    history = History()
    for size in (100, 200, 300):
        growth = history.take(event(victim=Killed(1, "java", anon_rss_kb=size * MIB)))
    (advice,) = advise(event(), growth)
    assert advice.id == "growing"
    assert "killed 3 times, larger each time (100 MiB to 300 MiB)" in advice.message


def test_hostile_names_are_made_safe() -> None:
    kill = replace(at_limit("/a\x1b[2J/\u202e"), tasks=(task(1, "\x1b]0;x\x07", GIB),))
    assert all(one.message.isprintable() for one in advise(kill))


@pytest.mark.parametrize(
    ("mask", "logged", "kernel", "words"),
    [
        ("0x140cca", "GFP_HIGHUSER_MOVABLE|__GFP_COMP", "6.8.0", "GFP_HIGHUSER_MOVABLE|__GFP_COMP"),
        ("0x201da", None, "2.6.32-431.el6", "GFP_HIGHUSER_MOVABLE|__GFP_COLD"),
        ("0x280da", None, "3.10.0", "GFP_HIGHUSER_MOVABLE|__GFP_ZERO"),
        ("0xd0", None, "3.2.0", "GFP_KERNEL"),
        ("0x24201ca", None, "4.4.0", "GFP_HIGHUSER_MOVABLE|__GFP_COLD"),
        ("0xd0", None, None, None),
        ("0xcc0", None, "6.1.0", None),
        ("0x0", None, "3.10.0", None),
        ("0xffffffffffff", None, "3.10.0", None),
    ],
)
def test_gfp_in_words(mask: str, logged: str | None, kernel: str | None, words: str | None) -> None:
    assert gfp.in_words(mask, logged, kernel) == words
