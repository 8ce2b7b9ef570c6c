"""The kernel's choice as a pure function."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.base.badness_formula import ERAS, Era, era_of
from oomwatchd.oom.badness import (
    Candidate,
    Machine,
    Memcg,
    Task,
    oom_score,
    points,
    rank,
    tightest,
    why_not_killable,
)

NEW, CLAMPED, FIRST, BONUS = ERAS
MACHINE = Machine(ram=100_000, swap_total=20_000, available=50_000, swap_free=10_000)


def task(pid: int, rss: int = 100, adj: int = 0, **facts: object) -> Task:
    return Task(pid=pid, comm=b"x", uid=0, oom_score_adj=adj, rss=rss, swap=0, pgtables=0, starttime=pid, **facts)  # type: ignore[arg-type]


def order(*tasks: Task, total: int = 10_000, era: object = NEW) -> list[int]:
    return [c.task.pid for c in rank(tasks, total, lambda _: None, era)]  # type: ignore[arg-type]


def unlimited(_: Task) -> None:
    return None


@pytest.mark.parametrize(
    ("release", "era"),
    [
        ("6.18.44", NEW),
        ("5.9.0-rc1", NEW),
        ("5.10.0-28-amd64", NEW),
        ("5.4.0-150-generic", CLAMPED),
        ("4.18.0-553.el8", FIRST),
        ("4.15", BONUS),
        ("3.10.0", BONUS),
        ("surely new", NEW),
    ],
)
def test_the_era_of_a_release(release: str, era: object) -> None:
    assert era_of(release) is era


def test_all_parts_count() -> None:
    one = Task(pid=1, comm=b"x", uid=0, oom_score_adj=5, rss=100, swap=20, pgtables=3)
    assert points(one, 10_999) == 100 + 20 + 3 + 5 * 10


@pytest.mark.parametrize(
    ("one", "total", "era", "score"),
    [
        (task(2, 0), 100_000, NEW, 666),
        (task(2, 1_899), 100_000, NEW, 678),  # 18 permille
        (task(2, 100_000), 100_000, NEW, 1333),
        (task(2, 0, adj=-999), 100_000, NEW, 0),
        (task(2, 5, adj=-1000), 100_000, NEW, 0),
        (task(2, 1), 1, NEW, 1333),
        (task(2, 1), 0, NEW, 0),
        (task(2, 0), 100, CLAMPED, 10),  # points below 1 count as 1
        (task(2, 1_999), 100_000, CLAMPED, 19),
        (task(2, 100_000), 100_000, CLAMPED, 1000),
        (task(2, 10_000, sys_admin=True), 100_000, FIRST, 100),
        (task(2, 10_000, sys_admin=True), 100_000, BONUS, 97),
    ],
)
def test_the_score_that_the_kernel_shows(one: Task, total: int, era: Era, score: int) -> None:
    assert oom_score(one, total, era) == score


def test_how_much_is_left_where_the_kernel_does_not_tell_what_is_available() -> None:
    assert replace(MACHINE, available=None).room is None


def test_the_division_comes_first() -> None:
    assert points(task(2, rss=7, adj=1000), 999) == 7


def test_root_was_forgiven_three_percent_once() -> None:
    assert points(task(2, rss=1000, sys_admin=True), 10_000, BONUS) == 970
    assert points(task(2, rss=1030, sys_admin=True), 10_000, BONUS) == 1000  # whole pages
    assert points(task(2, rss=1000, sys_admin=True), 10_000) == 1000


def test_the_unkillable_and_why() -> None:
    assert why_not_killable(task(2)) is None
    assert why_not_killable(task(2, adj=-999)) is None
    assert why_not_killable(task(2, adj=-1000)) == "oom_score_adj is -1000"
    assert why_not_killable(task(2, kernel_thread=True, has_mm=False)) == "kernel thread"
    assert why_not_killable(task(2, has_mm=False)) == "no memory in any of its threads"
    assert why_not_killable(task(1, global_init=True)) == "PID 1 of the initial PID namespace"
    assert why_not_killable(task(1)) is None


def test_the_unkillable_come_last_and_never_grow_to_be_chosen() -> None:
    ranked = rank([task(1, rss=9000, global_init=True), task(2), task(3, adj=-1000), task(4, 200)], 10_000, unlimited)
    assert [(c.task.pid, c.grow) for c in ranked] == [(4, 0), (2, 101), (1, None), (3, None)]


def test_of_equals_the_last_dies_and_before_5_3_the_first() -> None:
    assert order(task(2), task(3), task(4)) == [4, 3, 2]
    assert order(task(2), task(3), era=CLAMPED) == [3, 2]
    assert order(task(2), task(3), era=FIRST) == [2, 3]


def test_negative_points_keep_their_order_since_5_9() -> None:
    assert order(task(2, adj=-500), task(3, adj=-900)) == [2, 3]
    assert order(task(2, adj=-500), task(3, adj=-900), era=CLAMPED) == [3, 2]


def test_an_equal_needs_one_page_less_where_it_is_scanned_later() -> None:
    ranked = rank([task(5, 200), task(4, 150), task(6, 150)], 10_000, unlimited)
    assert [(c.task.pid, c.grow) for c in ranked] == [(5, 0), (6, 50), (4, 51)]


def test_growth_that_memory_can_not_hold_is_never() -> None:
    def grow(room: int) -> int | None:
        return rank([task(2, 200), task(3, 100)], 10_000, lambda _: room)[1].grow

    assert grow(100) == 100
    assert grow(99) is None


def test_the_first_is_the_victim_however_little_is_left() -> None:
    assert rank([task(2)], 10_000, lambda _: 0)[0].grow == 0


def test_clamped_points_have_to_be_grown_out_of_first() -> None:
    ranked = rank([task(2, 50, adj=-100), task(3, 1)], 10_000, unlimited, CLAMPED)
    assert [(c.task.pid, c.points, c.grow) for c in ranked] == [(3, 1, 0), (2, -950, 952)]


def test_the_whole_order_goes_by_the_formula_of_the_era() -> None:
    root, user, init = task(2, 1000, sys_admin=True), task(3, 980), task(1, 1000, sys_admin=True, global_init=True)
    ranked = rank([root, user, init], 10_000, unlimited, BONUS)
    assert [(c.task.pid, c.points, c.why_not, c.grow) for c in ranked] == [
        (3, 980, None, 0),
        (2, 970, None, 10),  # which equals the first, and was scanned earlier
        (1, 970, "PID 1 of the initial PID namespace", None),
    ]
    assert order(root, user) == [2, 3]


def test_of_equals_that_started_together_the_pid_decides_and_before_it_the_start() -> None:
    early, late = (replace(task(pid), starttime=start) for pid, start in ((9, 5), (4, 6)))
    assert order(early, late) == order(late, early) == [4, 9]
    assert order(early, late, era=FIRST) == [9, 4]
    twins = [replace(task(pid), starttime=5) for pid in (4, 9)]
    assert order(*twins) == [9, 4]
    assert order(*twins, era=FIRST) == [4, 9]


def test_an_equal_is_scanned_later_if_it_started_later() -> None:
    first, later = replace(task(9, 101), starttime=5), replace(task(4, 100), starttime=6)
    assert [c.grow for c in rank([first, later], 10_000, unlimited)] == [0, 1]
    earlier = replace(later, starttime=4)
    assert [c.grow for c in rank([first, earlier], 10_000, unlimited)] == [0, 2]


def test_what_is_left_is_asked_for_each_process() -> None:
    ranked = rank([task(2, 200), task(3, 100), task(4, 199)], 10_000, lambda one: 0 if one.pid == 4 else 500)
    assert [(c.task.pid, c.grow) for c in ranked] == [(2, 0), (4, None), (3, 100)]


tasks = st.builds(
    task,
    pid=st.integers(2, 1 << 22),
    rss=st.integers(0, 5000),
    adj=st.integers(-1000, 1000),
    kernel_thread=st.booleans(),
)


@given(st.lists(tasks, unique_by=lambda t: t.pid, max_size=8), st.integers(1, 100_000), st.sampled_from(ERAS))
def test_growing_by_grow_pages_makes_a_process_first_and_one_page_less_does_not(
    everyone: list[Task], total: int, era: object
) -> None:
    ranked = rank(everyone, total, unlimited, era)  # type: ignore[arg-type]
    for candidate in ranked:
        if candidate.grow is None or candidate.grow == 0:
            continue
        assert first_after(candidate, everyone, candidate.grow, total, era) == candidate.task.pid
        assert first_after(candidate, everyone, candidate.grow - 1, total, era) != candidate.task.pid


def first_after(candidate: Candidate, everyone: list[Task], growth: int, total: int, era: object) -> int:
    from dataclasses import replace

    grown = replace(candidate.task, rss=candidate.task.rss + growth)
    return order(*(grown if t is candidate.task else t for t in everyone), total=total, era=era)[0]


# --- totals and what is left ------------------------------------------------------------------------------


def v1(limit: int | None, usage: int, **more: int) -> Memcg:
    return Memcg(b"/g", 1, limit, usage, **more)


def v2(limit: int | None, usage: int, **more: int) -> Memcg:
    return Memcg(b"/g", 2, limit, usage, **more)


def test_the_machine_has_ram_and_swap() -> None:
    assert MACHINE.total == 120_000
    assert MACHINE.room == 60_000


@pytest.mark.parametrize(
    ("group", "total"),
    [
        (v1(1000, 0), 1000 + 20_000),  # memsw without a limit: all swap
        (v1(1000, 0, swap_limit=1500), 1500),
        (v1(1000, 0, swap_limit=1000), 1000),
        (v1(1000, 0, swappiness=0), 1000),
        (v2(1000, 0), 1000 + 20_000),
        (v2(1000, 0, swap_limit=300), 1300),
        (v2(1000, 0, swap_limit=50_000), 1000 + 20_000),
        (v2(1000, 0, swap_limit=0), 1000),
        (v2(1000, 0, swap_limit=300, swappiness=0), 1000),
    ],
)
def test_what_a_group_has(group: Memcg, total: int) -> None:
    assert group.total(MACHINE) == total


def test_a_group_without_a_limit_has_no_total() -> None:
    with pytest.raises(ValueError, match="limit"):
        v2(None, 5).total(MACHINE)


@pytest.mark.parametrize(
    ("group", "room"),
    [
        (v1(None, 5), None),
        (v1(1000, 400), 600 + 10_000),
        (v1(1000, 400, swappiness=0), 600),
        (v1(1000, 400, reclaimable=50, swappiness=0), 650),
        (v1(1000, 400, swap_limit=1500, swap_usage=900), 600),
        (v1(1000, 1200, swappiness=0), 0),
        (v1(1000, 400, reclaimable=50, swap_limit=1500, swap_usage=900), 650),
        (v1(1000, 400, reclaimable=50, swap_limit=1500, swap_usage=1400), 150),
        (v1(1000, 400, swap_limit=1500, swap_usage=1600), 0),
        (v1(1000, 12_000), 0),
        (v2(1000, 1400, swap_limit=300), 0),
        (v2(1000, 400), 600 + 10_000),
        (v2(1000, 400, swap_limit=300, swap_usage=100), 600 + 200),
        (v2(1000, 400, swap_limit=0), 600),
    ],
)
def test_what_is_left_in_a_group(group: Memcg, room: int | None) -> None:
    assert group.room(MACHINE) == room


def test_without_swap_the_limit_of_memory_alone_is_left() -> None:
    bare = Machine(ram=100_000, swap_total=0, available=50_000, swap_free=0)
    assert v1(1000, 400, swap_limit=900, swap_usage=400).room(bare) == 600


def test_the_group_with_the_least_room_runs_out_first_the_nearest_of_equals() -> None:
    near, far = v2(5000, 0, swappiness=0), v2(3000, 0, swappiness=0)
    assert tightest([near, far], MACHINE) is far
    assert tightest([v2(None, 9), near], MACHINE) is near
    twin = v2(5100, 100, swappiness=0)
    assert tightest([near, twin], MACHINE) is near
    assert tightest([twin, near], MACHINE) is twin
    swapping = v2(2000, 0, swap_limit=1500)
    assert tightest([swapping, far], MACHINE) is far
    assert tightest([v2(None, 9)], MACHINE) is None
