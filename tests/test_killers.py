"""Who acts first: the pure models of each killer, and their readers on made-up trees."""

import json
import os
import subprocess
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from oomwatchd.base.badness_formula import ERAS, era_of
from oomwatchd.ctl import main
from oomwatchd.oom.badness import Machine, Memcg, Task, oom_score
from oomwatchd.oom.killers import aftermath, earlyoom, kernel, nohang, systemd_oomd
from oomwatchd.oom.killers.killer_facts import Reader, Roots, find_running, roots_below
from oomwatchd.oom.killers.model import Condition, Killer, Meminfo, Suspect, Victim, absent, growth_until, in_order
from oomwatchd.oom.killers.systemd_facts import SystemdReader, parse_pressure, unit_of_directory, unit_of_process
from oomwatchd.oom.killers.systemd_oomd import Leaf, Settings, Watched
from oomwatchd.oom.killers.unit_files import UnitFiles, read_conf
from oomwatchd.oom.machine import read_machine
from oomwatchd.oom.processes import read_processes
from oomwatchd.oom.small_files import PAGE
from tests.faketree import Tree

MIB = 1 << 20
MEMORY = Meminfo(total=1000 << 10, available=400 << 10, anon=400 << 10, swap_total=200 << 10, swap_free=100 << 10)


def suspect(pid: int, score: int = 700, rss: int = 10 << 10, **others: Any) -> Suspect:
    facts = {"comm": b"p%d" % pid, "uid": 1000, "ppid": 1, "oom_score_adj": 0, **others}
    return Suspect(pid=pid, oom_score=score, rss=rss, **facts)


# --- order ------------------------------------------------------------------------------------------------


def test_growth_takes_memory_first_and_then_swap() -> None:
    assert growth_until(MEMORY, 100 << 10, 20 << 10) == (300 + 80) << 10
    assert growth_until(MEMORY, 500 << 10, 20 << 10) == 80 << 10
    assert growth_until(MEMORY, 500 << 10, 200 << 10) == 0
    assert growth_until(Meminfo(1000, None, None, 0, 0), 1, 1) is None


def test_who_needs_the_least_growth_acts_first() -> None:
    def one(name: str, distance: int | None, armed: bool = True) -> Killer:
        condition = Condition("memory", "", None, None, "percent", distance, None)
        return Killer(name, 1, True, armed, "yes", (condition,))

    killers = [absent("oomd"), one("kernel", 5), one("earlyoom", 5), one("nohang", 1, armed=False)]
    killers.append(one("systemd-oomd", None))
    assert [k.name for k in in_order(killers)] == ["earlyoom", "kernel", "systemd-oomd", "nohang", "oomd"]


# --- earlyoom ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", earlyoom.Settings()),
        ("-m 5,3 -s 100", earlyoom.Settings(mem_percent=(5, 3), swap_percent=(100, 50))),
        ("-m5", earlyoom.Settings(mem_percent=(5, 2.5))),
        ("-m 3,5", earlyoom.Settings(mem_percent=(5, 5))),
        ("-M 102400,51200", earlyoom.Settings(mem_percent=(10, 5))),
        ("-m 4 -M 102400", earlyoom.Settings(mem_percent=(4, 2))),
        ("-S 20480", earlyoom.Settings(swap_percent=(10, 5))),
        ("-r 3600 -pn -g", earlyoom.Settings(group=True)),
        ("-pr3600 --dryrun", earlyoom.Settings(dry_run=True)),
        ("--prefer ^(a|b)$ --avoid=^sshd$", earlyoom.Settings(prefer="^(a|b)$", avoid="^sshd$")),
        ("--ignore x --ignore-root-user", earlyoom.Settings(ignore="x", ignore_root=True)),
        ("--sort -N /a -P /b", earlyoom.Settings(sort_by_rss=True)),
        ("-kid --syslog --kernel-oom", earlyoom.Settings(kernel_oom=True)),
    ],
)
def test_command_lines_of_earlyoom(line: str, wanted: earlyoom.Settings) -> None:
    assert earlyoom.parse([word.encode() for word in line.split()], MEMORY) == wanted


@pytest.mark.parametrize(
    "line", ["-m", "-m x", "-m 100", "-m 0,0", "-m nan", "extra", "-Z", "--what", "--ig x", "-s -1"]
)
def test_command_lines_that_earlyoom_refuses(line: str) -> None:
    with pytest.raises(earlyoom.NotUnderstood):
        earlyoom.parse([word.encode() for word in line.split()], MEMORY)


def picked(settings: earlyoom.Settings, *suspects: Suspect, newer: bool = True) -> int | None:
    victim = earlyoom.choose(99, settings, newer, suspects).victim
    return None if victim is None else victim.pid


def test_whom_earlyoom_picks() -> None:
    plain = earlyoom.Settings()
    assert picked(plain, suspect(10, 700), suspect(11, 705)) == 11
    assert picked(plain, suspect(10), suspect(11, rss=90 << 10), suspect(12)) == 11
    assert picked(plain, suspect(12), suspect(11)) == 11  # of equals the first in /proc
    assert picked(plain, suspect(10), suspect(11, 900, oom_score_adj=-1000), suspect(1, 999)) == 10
    assert picked(plain, suspect(10), suspect(11, 900, rss=0)) == 10
    assert picked(plain, suspect(10), suspect(11, 900, kernel_thread=True)) == 10
    assert picked(earlyoom.Settings(prefer="^p10$"), suspect(10, 500), suspect(11, 700)) == 10
    assert picked(earlyoom.Settings(avoid="^p11$"), suspect(10, 500), suspect(11, 700)) == 10
    assert picked(earlyoom.Settings(avoid="[[:digit:]]1$"), suspect(10, 500), suspect(11, 700)) == 10
    assert (
        picked(earlyoom.Settings(ignore="1$", ignore_root=True), suspect(10, 5), suspect(11), suspect(12, uid=0)) == 10
    )
    assert picked(earlyoom.Settings(sort_by_rss=True), suspect(10, 500, 90 << 10), suspect(11, 700)) == 10


def test_1_7_never_takes_who_is_below_zero() -> None:
    avoiding = earlyoom.Settings(avoid="p10")
    assert picked(avoiding, suspect(10, 200), newer=False) is None
    assert picked(avoiding, suspect(10, 200), newer=True) == 10


def test_earlyoom_that_would_pick_itself_is_stuck() -> None:
    hogs = [suspect(10, 66, oom_score_adj=-900), suspect(11, 70, oom_score_adj=-900)]
    found = earlyoom.assess(99, [], True, MEMORY, [suspect(99, 666), *hogs])
    assert not found.armed and found.conditions[0].victim is None
    assert "stuck" in found.notes[0] and "2 others" in found.notes[0]


def test_the_limit_of_earlyoom_is_a_share_of_other_memory_since_1_8() -> None:
    old, new = (earlyoom.assess(99, [b"-s", b"100"], newer, MEMORY, [suspect(10)]) for newer in (False, True))
    assert old.first is not None and new.first is not None
    assert (old.first.now, old.first.limit, old.distance) == (40.0, 10.0, 300 << 10)
    assert (new.first.now, new.first.limit, new.distance) == (50.0, 10.0, 320 << 10)
    unknown = earlyoom.assess(99, [], None, MEMORY, [suspect(10)])
    assert unknown.first is not None and "1.8" in unknown.first.doubts[-1]


def test_close_scores_are_called_close() -> None:
    assert earlyoom.choose(99, earlyoom.Settings(), True, [suspect(10, 700), suspect(11, 701)]).doubts
    assert earlyoom.choose(99, earlyoom.Settings(), True, [suspect(10, 700), suspect(11, 702)]).doubts
    assert not earlyoom.choose(99, earlyoom.Settings(), True, [suspect(10, 700), suspect(11, 703)]).doubts


def test_of_equal_scores_one_is_first_only_with_more_points_and_more_resident_memory() -> None:
    def doubts(first: tuple[int, int], second: tuple[int, int], **settings: Any) -> bool:
        """Of processes with RSS and points in MiB."""
        suspects = [suspect(pid, rss=rss << 10, points=p << 10) for pid, (rss, p) in ((10, first), (11, second))]
        return bool(earlyoom.choose(99, earlyoom.Settings(**settings), True, suspects).doubts)

    assert not doubts((90, 90), (10, 10))
    assert doubts((90, 90), (10, 90))  # the second has as much, swapped out or by its oom_score_adj
    assert doubts((90, 90), (88, 10))
    assert doubts((90, 400), (10, 10), prefer="p11", avoid="p10") is False  # 600 apart
    assert doubts((90, 90), (88, 10), sort_by_rss=True) and not doubts((90, 90), (80, 90), sort_by_rss=True)


def test_whom_it_prefers_leads_by_no_more_than_its_score_says() -> None:
    first, second = suspect(10, 703, rss=90 << 10, points=90 << 10), suspect(11, 403)
    assert earlyoom.choose(99, earlyoom.Settings(prefer="p11"), True, [first, second]).doubts


def test_nonsense_disarms_it_in_the_report() -> None:
    for arguments in ([b"-m", b"\xff"], [b"--prefer", b"("]):
        found = earlyoom.assess(99, arguments, True, MEMORY, [suspect(10)])
        assert found.present and not found.armed and "isn't understood" in found.notes[0]


# --- nohang -----------------------------------------------------------------------------------------------

NOHANG = """\
## comment
soft_threshold_min_mem = 8 %
soft_threshold_min_swap = 50 M
min_badness = 20
@BADNESS_ADJ_RE_CMDLINE  300  ///  -contentproc
@BADNESS_ADJ_RE_NAME   -200  ///   ^(sshd|p11)$
@SOFT_ACTION_RE_NAME  ^foo$  ///   systemctl restart foo
"""


def test_the_configuration_of_nohang() -> None:
    made = nohang.parse(NOHANG)
    assert (made.min_mem, made.min_swap, made.min_badness) == ("8 %", "50 M", 20)
    assert made.rules == (
        nohang.BadnessRule("NAME", -200, "^(sshd|p11)$"),
        nohang.BadnessRule("CMDLINE", 300, "-contentproc"),
    )
    assert "SOFT_ACTION" in made.notes[0]
    assert nohang.config_path([b"/usr/bin/python3", b"/usr/sbin/nohang", b"--monitor", b"--config", b"/a"]) == b"/a"
    assert nohang.config_path([b"nohang", b"--config"]) is None


def test_whom_nohang_picks() -> None:
    made = nohang.parse(NOHANG)

    def look(subject: str, one: Suspect) -> str | None:
        return "firefox -contentproc" if one.pid == 12 else "x"

    def who(*suspects: Suspect, looking: nohang.Look = look) -> tuple[int | None, int]:
        choice = nohang.choose(99, made, suspects, looking)
        return None if choice.victim is None else choice.victim.pid, len(choice.doubts)

    assert who(suspect(10, 500), suspect(11, 650)) == (10, 0)
    assert who(suspect(10, 700), suspect(12, 500)) == (12, 0)
    assert who(suspect(10, 700), suspect(12, 500, oom_score_adj=-1)) == (10, 0)  # raises only from 0 up
    assert who(suspect(99, 900), suspect(1, 900), suspect(13, 0), suspect(10, 30)) == (10, 0)
    assert who(suspect(10, 19)) == (None, 0)  # min_badness
    assert who(suspect(10, 500), suspect(13, 501)) == (13, 1)
    assert who(suspect(10, 500), looking=lambda *_: None) == (10, 1)


def test_nohang_minds_both_memory_and_swap() -> None:
    running = nohang.Running(99, "/etc/nohang.conf", nohang.parse(NOHANG + "psi_checking_enabled = True\n"))
    found = nohang.assess(running, MEMORY, [suspect(10)], lambda *_: "", {"full_avg10": 1.5})
    assert found.armed and found.distance == 320 << 10  # for pressure, which minds MemAvailable alone
    memory = next(t for t in found.conditions if t.kind == "memory")
    assert (memory.now, memory.limit, memory.distance) == (40.0, 8.0, (320 + 50) << 10)
    unread = nohang.assess(nohang.Running(99, "/x", None), MEMORY, [], lambda *_: "", {})
    assert unread.present and "can't be read" in unread.notes[0]


# --- systemd-oomd -----------------------------------------------------------------------------------------


def test_its_settings() -> None:
    assert systemd_oomd.settings_of({}) == Settings()
    values = {"SwapUsedLimit": "800‰", "DefaultMemoryPressureLimit": "12.5%", "DefaultMemoryPressureDurationSec": "20s"}
    assert systemd_oomd.settings_of(values, [b"systemd-oomd", b"--dry-run"]) == Settings(80, 12.5, 20, True)
    bad = {"SwapUsedLimit": "120%", "DefaultMemoryPressureLimit": "x", "DefaultMemoryPressureDurationSec": "100ms"}
    assert systemd_oomd.settings_of(bad) == Settings()


def test_the_order_for_swap() -> None:
    watched = [Watched(b"/", swap=True)]
    leaves = [
        Leaf(b"/a", 0, 20 * MIB, 0),
        Leaf(b"/b", 0, 30 * MIB, 0),
        Leaf(b"/small", 0, 10 * MIB, 0),
        Leaf(b"/avoided", 0, 90 * MIB, 0, avoid=True),
        Leaf(b"/omitted", 0, 99 * MIB, 0, omit=True),
        Leaf(b"/user", 0, 15 * MIB, 0, omit=True, uid=1000),
    ]
    order = [leaf.path for leaf in systemd_oomd.by_swap(leaves, watched, 200 << 10)]
    assert order == [b"/b", b"/a", b"/user", b"/avoided"]  # 10 MiB are 5 %


def test_the_order_for_pressure() -> None:
    watched = Watched(b"/u", pressure=True, uid=1000)
    leaves = [
        Leaf(b"/u/most", 5, 0, 10, 900),
        Leaf(b"/u/large", 99, 0, 9000, 100),
        Leaf(b"/u/own", 1, 0, 1, 999, omit=True, uid=1000),
        Leaf(b"/u/foreign", 1, 0, 1, 5, omit=True, uid=1001),
        Leaf(b"/u/avoided", 1, 0, 1, 999, avoid=True),
        Leaf(b"/u/empty", 0, 0, 0, 0),
        Leaf(b"/else", 1, 0, 1, 9999),
    ]
    order = [leaf.path for leaf in systemd_oomd.by_pressure(leaves, watched)]
    assert order == [b"/u/most", b"/u/large", b"/u/foreign", b"/u/avoided"]


def test_its_triggers() -> None:
    watched = [Watched(b"/", swap=True), Watched(b"/u", pressure=True, limit_percent=50, seconds=5, full_avg10=60.0)]
    leaves = [Leaf(b"/u/a", 9 * MIB, 0, 5, 100), Leaf(b"/u/b", 8 * MIB, 0, 5, 10)]
    found = systemd_oomd.assess(7, Settings(), MEMORY, watched, leaves)
    first = found.first
    assert first is not None and (first.kind, first.now, first.limit, first.distance) == ("pressure", 60.0, 50.0, 0)
    assert first.victim == Victim("cgroup", None, None, b"/u/a") and first.doubts == ()
    swap = found.conditions[1]
    assert (swap.kind, swap.now, swap.limit, swap.distance) == ("swap", 50.0, 90.0, (300 + 80) << 10)
    assert swap.victim is None and "5 % of the swap" in swap.doubts[0]
    assert not systemd_oomd.assess(7, Settings(), MEMORY, [], []).armed
    assert not systemd_oomd.assess(7, Settings(dry_run=True), MEMORY, watched, leaves).armed
    no_swap = Meminfo(1000, 500, 100, 0, 0)
    assert not systemd_oomd.assess(7, Settings(), no_swap, watched[:1], leaves).armed


# --- the kernel, and after it -----------------------------------------------------------------------------


def task(pid: int, rss: int, adj: int = 0, memcg: bytes = b"/") -> Task:
    return Task(pid, b"p%d" % pid, 0, adj, rss, 0, 0, starttime=pid, memcg=memcg)


MACHINE = Machine(ram=100_000, swap_total=0, available=50_000, swap_free=0)


def test_a_cgroup_near_its_limit_comes_before_the_machine() -> None:
    near, far = Memcg(b"/g", 2, limit=10_000, usage=9_500), Memcg(b"/h", 2, limit=10_000, usage=100)
    empty = Memcg(b"/empty", 2, limit=0, usage=0)
    tasks = (task(1, 9_000, memcg=b"/g"), task(2, 40_000))
    found = kernel.assess(kernel.Scene(MACHINE, tasks, (near, far, empty), ERAS[0]))
    assert [(t.kind, t.cgroup, t.victim and t.victim.pid) for t in found.conditions] == [
        ("memory-cgroup", b"/g", 1),
        ("memory", None, 2),
    ]
    assert found.distance == 500 * PAGE // 1024


@pytest.mark.parametrize(("panic", "kinds"), [(1, ["memory-cgroup"]), (2, [])])
def test_a_kernel_that_panics_kills_nobody(panic: int, kinds: list[str]) -> None:
    near = Memcg(b"/g", 2, limit=10_000, usage=9_500)
    scene = kernel.Scene(MACHINE, (task(1, 9, memcg=b"/g"),), (near,), ERAS[0], kernel.OomSysctls(panic, 0))
    assert [t.kind for t in kernel.assess(scene).conditions] == kinds


def test_who_asks_and_ties() -> None:
    scene = kernel.Scene(MACHINE, (task(2, 900), task(3, 899)), (), ERAS[0])
    first = kernel.assess(scene).first
    assert first is not None and first.victim is not None and first.victim.pid == 2 and first.doubts
    asks = kernel.Scene(MACHINE, (task(2, 900),), (), ERAS[0], kernel.OomSysctls(0, 1))
    assert (first := kernel.assess(asks).first) is not None and first.victim is None


def test_oom_score_is_the_kernel_s() -> None:
    assert oom_score(task(1, 0), 100_000) == 666
    assert oom_score(task(1, 50_000), 100_000) == 1000
    assert oom_score(task(1, 0, adj=-900), 100_000) == 66
    assert oom_score(task(1, 10, adj=-1000), 100_000) == 0


def test_oom_score_is_what_this_kernel_shows() -> None:
    """Over idle processes of its own; within a unit or two, for the memory around them changes."""
    total, era = read_machine().total, era_of(os.uname().release)
    sleepers = {}
    for value in (0, 500, 1000):
        child = subprocess.Popen(
            ["sh", "-c", f"echo {value} >/proc/self/oom_score_adj; echo; exec sleep 100"], stdout=PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        sleepers[child.pid] = child
    try:
        found = {process.task.pid: process.task for process in read_processes()[0] if process.task.pid in sleepers}
        shown = {pid: int(Path(f"/proc/{pid}/oom_score").read_text()) for pid in sleepers}
    finally:
        for child in sleepers.values():
            child.kill()
            child.communicate()
    assert found.keys() == sleepers.keys()
    differing = {pid: (shown[pid], oom_score(found[pid], total, era)) for pid in sleepers}
    assert all(abs(kernels - ours) <= 3 for kernels, ours in differing.values()), differing


def test_memory_oom_group_takes_the_topmost_below_what_is_out_of_memory() -> None:
    together = {b"/a", b"/a/b", b"/x"}
    assert aftermath.killed_with(b"/a/b/c", b"/", together) == b"/a"
    assert aftermath.killed_with(b"/a/b/c", b"/a/b", together) == b"/a/b"
    assert aftermath.killed_with(b"/a", b"/x", together) is None
    assert aftermath.killed_with(b"/q", b"/", together) is None
    assert aftermath.killed_with(None, b"/", together) is None


@pytest.mark.parametrize(
    ("name", "settings", "default", "wanted"),
    [
        ("a.service", {}, "stop", "stop"),
        ("a.service", {}, "kill", "kill"),
        ("a.service", {"OOMPolicy": "continue"}, "kill", "continue"),
        ("a.service", {"Delegate": "cpu memory"}, "stop", "continue"),
        ("a.service", {"Delegate": "no"}, "stop", "stop"),
        ("session-3.scope", {}, "stop", "continue"),
        ("run-u1.scope", {}, "stop", "stop"),
        ("a.service", {"OOMPolicy": "nonsense"}, "nonsense", "stop"),
    ],
)
def test_what_systemd_does_after_a_kill(name: str, settings: dict[str, str], default: str, wanted: str) -> None:
    assert aftermath.policy_of(name, settings, default) == wanted


def test_what_follows_is_said() -> None:
    units = [aftermath.Unit("a.service", None, b"/s/a.service", "stop")]
    assert "stops all of a.service" in aftermath.follows(b"/s/a.service/x", b"/", (), units)[0]
    assert aftermath.follows(b"/s/b.service", b"/", (), units) == ()
    alone = [aftermath.Unit("a.service", None, b"/s/a.service", "stop", alone=True)]
    assert aftermath.follows(b"/s/a.service", b"/", (), alone) == (), "there is nobody else to stop"


# --- files ------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path)
    made.machine(ram_kib=1000 << 10, swap_kib=200 << 10, available_kib=400 << 10)
    made.process(1, b"systemd", ppid=0, uid=0, rss_kib=9 << 10, cgroup="/init.scope")
    return made


def test_conf_files_and_drop_ins_apply_as_systemd_has_it(tree: Tree) -> None:
    root = str(tree.root)
    assert read_conf("oomd.conf", "OOM", root) == {}
    tree.write("usr/lib/systemd/oomd.conf", "[OOM]\nSwapUsedLimit=1%")
    tree.write("etc/systemd/oomd.conf", "[OOM]\n#SwapUsedLimit=2%\nDefaultMemoryPressureLimit=70%\n[Other]\nx=1")
    tree.write("usr/lib/systemd/oomd.conf.d/10-a.conf", "[OOM]\nSwapUsedLimit=3%")
    tree.write("etc/systemd/oomd.conf.d/10-a.conf", "[OOM]\nSwapUsedLimit=4%")
    tree.write("run/systemd/oomd.conf.d/20-b.conf", "[OOM]\nDefaultMemoryPressure\\\nLimit=80%")
    tree.write("run/systemd/oomd.conf.d/30-c.txt", "[OOM]\nSwapUsedLimit=5%")
    assert read_conf("oomd.conf", "OOM", root)["SwapUsedLimit"] == "4%"
    (tree.root / "etc/systemd/oomd.conf.d/10-a.conf").unlink()
    (tree.root / "etc/systemd/oomd.conf.d/10-a.conf").symlink_to("/dev/null")
    assert "SwapUsedLimit" not in read_conf("oomd.conf", "OOM", root)


def test_unit_files_and_drop_ins(tree: Tree) -> None:
    units = UnitFiles(str(tree.root), lambda uid: f"/home/u{uid}")
    tree.write("usr/lib/systemd/system/user@.service", "[Service]\nDelegate=pids memory")
    tree.write("usr/lib/systemd/system/user@.service.d/10-oomd.conf", "[Service]\nManagedOOMMemoryPressure=kill")
    tree.write("etc/systemd/system/user@1000.service.d/20.conf", "[Service]\nManagedOOMMemoryPressure=auto")
    tree.write("usr/lib/systemd/system/service.d/10-all.conf", "[Service]\nOOMPolicy=kill")
    tree.write("run/systemd/transient/run-u1.scope", "[Scope]\nOOMPolicy=continue")
    tree.write("etc/systemd/system/db-.service.d/10.conf", "[Service]\nOOMPolicy=continue")
    tree.write("etc/systemd/system.control/db-main.service.d/50-x.conf", "[Service]\nManagedOOMSwap=kill")
    tree.write("home/u7/.config/systemd/user/app.service", "[Service]\nOOMPolicy=stop")
    one = UnitFiles(str(tree.root), lambda uid: f"/home/u{uid}").settings("user@1001.service")
    assert one == {"Delegate": "pids memory", "ManagedOOMMemoryPressure": "kill", "OOMPolicy": "kill"}
    assert units.settings("user@1000.service")["ManagedOOMMemoryPressure"] == "auto"
    assert units.settings("run-u1.scope") == {"OOMPolicy": "continue"}
    assert units.settings("db-main.service") == {"OOMPolicy": "continue", "ManagedOOMSwap": "kill"}
    assert units.settings("app.service", 7) == {"OOMPolicy": "stop"}
    assert units.settings("nothing.slice") == {}


def test_units_of_cgroups() -> None:
    assert unit_of_directory(b"/") == ("-.slice", None)
    assert unit_of_directory(b"/user.slice/user-7.slice/user@7.service/app.slice") == ("app.slice", 7)
    assert unit_of_directory(b"/user.slice/user-7.slice/user@7.service") == ("user@7.service", None)
    assert unit_of_directory(b"/system.slice/x") == (None, None)
    assert unit_of_process(b"/system.slice/a.service/sub/x") == ("a.service", None, b"/system.slice/a.service")
    assert unit_of_process(b"/user.slice/user-7.slice/user@7.service/app.slice/b.service") == (
        *("b.service", 7),
        b"/user.slice/user-7.slice/user@7.service/app.slice/b.service",
    )
    assert unit_of_process(b"/user.slice/user-7.slice/session-2.scope") == (
        *("session-2.scope", None),
        b"/user.slice/user-7.slice/session-2.scope",
    )
    assert unit_of_process(b"/") is None


def test_pressure_files() -> None:
    raw = b"some avg10=0.10 avg60=0.00 avg300=0.00 total=7\nfull avg10=12.34 avg60=0.00 avg300=0.00 total=3\n"
    assert parse_pressure(raw)["full_avg10"] == 12.34
    assert parse_pressure(b"") == parse_pressure(b"full avg10=x\n\xff") == {}


def group(tree: Tree, path: str, **files: int | str) -> None:
    tree.memcg2(path, 5 * MIB, **{"oom_group": 0, "stat": "pgscan 5", "pressure": "full avg10=0.00", **files})
    if "oom_group" in files:
        tree.write(f"sys/fs/cgroup{path}/memory.oom.group", files["oom_group"])
    else:
        tree.write(f"sys/fs/cgroup{path}/memory.oom.group", 0)
    if "swap" in files:
        tree.write(f"sys/fs/cgroup{path}/memory.swap.current", files["swap"])


def mark(tree: Tree, path: str, name: str) -> None:
    try:
        os.setxattr(f"{tree.cgroup}{path}", name, b"1")
    except OSError:
        pytest.skip("the file system of the temporary directory has no user.* extended attributes")


def oomd(tree: Tree) -> Killer:
    processes = read_processes(tree.proc, 2)[0]
    reader = Reader(Roots(str(tree.root), tree.proc, tree.cgroup), processes, ERAS[0])
    return next(k for k in reader.killers(read_machine(tree.proc)) if k.name == "systemd-oomd")


def test_systemd_oomd_from_its_files(tree: Tree) -> None:
    assert not oomd(tree).present
    tree.process(50, b"systemd-oomd", uid=998, cgroup="/system.slice/systemd-oomd.service")
    assert oomd(tree).notes  # watches nothing
    tree.write("usr/lib/systemd/system/-.slice.d/10-oomd.conf", "[Slice]\nManagedOOMSwap=kill")
    group(tree, "/system.slice")
    for name, amount in (("a", 20), ("b", 30), ("c", 40)):
        group(tree, f"/system.slice/{name}.service", swap=amount * MIB)
    group(tree, "/system.slice/d.service", oom_group=1, swap=35 * MIB)
    group(tree, "/system.slice/d.service/inner", swap=34 * MIB)
    first = oomd(tree).first
    assert first is not None and first.victim is not None and first.victim.cgroup == b"/system.slice/c.service"
    mark(tree, "/system.slice/c.service", "user.oomd_omit")
    first = oomd(tree).first
    assert first is not None and first.victim is not None and first.victim.cgroup == b"/system.slice/d.service"
    mark(tree, "/system.slice/d.service", "user.oomd_avoid")
    first = oomd(tree).first
    assert first is not None and first.victim is not None and first.victim.cgroup == b"/system.slice/b.service"


def test_units_with_their_policies(tree: Tree) -> None:
    group(tree, "/system.slice")
    group(tree, "/system.slice/a.service")
    tree.process(60, uid=0, cgroup="/system.slice/a.service")
    processes = read_processes(tree.proc, 2)[0]
    reader = SystemdReader(str(tree.root), tree.cgroup)
    assert [(u.name, u.policy) for u in reader.units(processes)] == [("a.service", "stop")]
    tree.write("etc/systemd/system.conf", "[Manager]\nDefaultOOMPolicy=continue")
    assert [(u.name, u.policy) for u in reader.units(processes)] == [("a.service", "continue")]


def test_a_user_s_own_process_of_that_name_is_no_killer(tree: Tree) -> None:
    tree.process(70, b"earlyoom", uid=1000, cgroup="/user.slice/user-1000.slice/session-1.scope")
    tree.process(71, b"nohang", uid=0, nspid="71 1", cgroup="/system.slice/docker-x.scope")
    tree.process(72, b"python3.11", uid=0, cgroup="/system.slice/nohang.service")
    tree.process(73, b"oomd", uid=0, cgroup="/system.slice/oomd.service")
    lines = {72: [b"/usr/bin/python3", b"/usr/sbin/nohang", b"--monitor"]}
    found = dict(find_running(read_processes(tree.proc, 2)[0], lambda pid: lines.get(pid, [])))
    assert found == {"nohang": 72, "oomd": 73}


def test_how_much_of_a_system_a_tree_is(tmp_path: Path) -> None:
    assert roots_below("/") == Roots("/", "/proc", "/sys/fs/cgroup")
    assert roots_below(str(tmp_path)) == Roots()
    (tmp_path / "etc/systemd").mkdir(parents=True)
    assert roots_below(str(tmp_path)) == Roots(str(tmp_path))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").touch()
    assert roots_below(str(tmp_path)) == Roots(str(tmp_path), f"{tmp_path}/proc", f"{tmp_path}/sys/fs/cgroup")


def rank(tree: Tree, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["rank", "--json", "--root", str(tree.root), *arguments]) == 0
    killers: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["killers"]
    return killers


def test_rank_json_has_the_keys_of_the_contract(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.process(10, b"hog", rss_kib=90 << 10)
    tree.process(50, b"earlyoom", uid=0, rss_kib=1 << 10, cgroup="/system.slice/earlyoom.service")
    tree.write("proc/50/cmdline", b"/usr/bin/earlyoom\0-m\x005,3\0-s\x00100\0--prefer\0^(a|b)$\0")
    tree.write("usr/bin/earlyoom", b"\x7fELF sending SIGTERM when mem <= \0")
    killers = rank(tree, capsys)
    keys = ["name", "present", "armed", "trigger", "now", "limit", "unit", "victim", "acts_first"]
    assert all(list(killer)[: len(keys)] == keys for killer in killers)
    assert [killer["name"] for killer in killers] == ["earlyoom", "kernel", "systemd-oomd", "nohang", "oomd"]
    assert [killer["acts_first"] for killer in killers] == [True, False, False, False, False]
    first = killers[0]
    assert (first["trigger"], first["now"], first["limit"], first["unit"]) == ("memory", 40.0, 5.0, "percent")
    assert first["victim"] == {"kind": "process", "pid": 10, "comm": "hog", "cgroup": "/"} or first["clear"]
    assert killers[2] == killers[2] | {"present": False, "armed": False, "trigger": None, "victim": None}


def test_rank_with_other_rules(tree: Tree, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tree.process(10, b"hog", uid=0, rss_kib=90 << 10)
    tree.process(11, b"less", uid=0, rss_kib=40 << 10)
    tree.process(50, b"earlyoom", uid=0, rss_kib=1 << 10, cgroup="/system.slice/earlyoom.service")
    tree.process(51, b"systemd-oomd", uid=998, rss_kib=1 << 10, cgroup="/system.slice/systemd-oomd.service")
    tree.write("proc/50/cmdline", b"earlyoom\0")
    for pid in (10, 11, 50, 51):
        tree.write(f"proc/{pid}/oom_score", 0 if pid > 11 else 700 - pid)
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "hog"\ncomm = "hog"\nspoofable = true\noom_score_adj = -1000\n')
    rules.chmod(0o644)
    killers = rank(tree, capsys, "--with", str(rules))
    early = next(k for k in killers if k["name"] == "earlyoom")
    assert early["victim"]["comm"] == "hog" and early["with"]["victim"]["comm"] in ("hog", "less")
    assert main(["rank", "--root", str(tree.root), "--with", str(rules)]) == 0
    assert "systemd-oomd doesn't look at oom_score_adj: no rule changes" in capsys.readouterr().out


def test_rank_for_people_begins_with_the_killers(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.process(10, b"hog\x1b", rss_kib=90 << 10)
    assert main(["rank", "--root", str(tree.root)]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[0].startswith("ORDER  KILLER") and "hog\\x1b (10)" in lines[1]
    assert lines[2] == "Not running: systemd-oomd, earlyoom, nohang, oomd."
    assert lines[4].startswith("If the machine runs out of memory")
