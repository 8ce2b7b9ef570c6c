"""Facts out of /proc and the cgroup file systems, on made-up trees and on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oomwatchd.oom.badness import Machine
from oomwatchd.oom.machine import read_machine
from oomwatchd.oom.memcgs import MemcgHierarchy, ancestry, find_hierarchy, group_path, is_within, read_memcg, walk
from oomwatchd.oom.processes import parse_memory_cgroup, read_processes
from oomwatchd.oom.small_files import PAGE
from tests.faketree import Tree

PAGE_KIB = PAGE // 1024
MACHINE = Machine(ram=1 << 20, swap_total=0, available=None, swap_free=0)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path)
    made.machine()
    return made


def test_a_process(tree: Tree) -> None:
    tree.process(7, b"a) b\n(c", uid=5, adj=-3, rss_kib=400, anon_kib=300, swap_kib=80, pte_kib=40, cgroup="/a/b")
    [found], refused = read_processes(tree.proc, version=2)
    task = found.task
    assert (task.pid, task.comm, task.uid, task.oom_score_adj) == (7, b"a) b\n(c", 5, -3)
    assert (task.rss, task.swap, task.pgtables) == (400 // PAGE_KIB, 80 // PAGE_KIB, 40 // PAGE_KIB)
    assert (task.has_mm, task.kernel_thread, task.global_init, task.memcg) == (True, False, False, b"/a/b")
    assert (task.starttime, found.ppid, found.anon, refused) == (70, 1, 300 // PAGE_KIB, 0)


def test_kernel_threads_and_zombies_have_no_memory(tree: Tree) -> None:
    tree.process(2, b"kthreadd", rss_kib=None, kernel_thread=True)
    tree.process(9, b"dead", rss_kib=None)
    found = {p.task.pid: p.task for p in read_processes(tree.proc)[0]}
    assert (found[2].has_mm, found[2].kernel_thread) == (False, True)
    assert (found[9].has_mm, found[9].kernel_thread) == (False, False)


def test_a_dead_leader_has_the_memory_of_its_living_thread(tree: Tree) -> None:
    tree.process(9, rss_kib=None)
    tree.write("proc/9/task/9/status", tree.status(9, 0, None))
    tree.write("proc/9/task/10/status", tree.status(10, 0, 400))
    [found], _ = read_processes(tree.proc)
    assert (found.task.has_mm, found.task.rss) == (True, 400 // PAGE_KIB)


def test_init_is_special_in_the_initial_namespace_alone(tree: Tree) -> None:
    tree.process(1, b"init")
    assert read_processes(tree.proc)[0][0].task.global_init
    tree.me(pid_ns=4026532000)
    assert not read_processes(tree.proc)[0][0].task.global_init


def test_the_reader_is_left_out(tree: Tree) -> None:
    tree.process(9)
    tree.process(10)
    (tree.root / "proc/self/status").unlink()
    for link in (tree.root / "proc/self/ns").iterdir():
        link.unlink()
    (tree.root / "proc/self/ns").rmdir()
    (tree.root / "proc/self").rmdir()
    (tree.root / "proc/self").symlink_to("9")
    assert [p.task.pid for p in read_processes(tree.proc)[0]] == [10]


def test_half_a_process_is_no_process(tree: Tree) -> None:
    tree.process(9)
    (tree.root / "proc/9/oom_score_adj").unlink()
    assert read_processes(tree.proc) == ([], 0)


@pytest.mark.parametrize(
    ("raw", "version", "path"),
    [
        (b"0::/a\n", 2, b"/a"),
        (b"0::/a (deleted)\n", 2, b"/a"),
        (b"5:cpu:/x\n4:memory:/y:z\n0::/a\n", 1, b"/y:z"),
        (b"4:cpu,memory:/y\n", 1, b"/y"),
        (b"4:name=memory:/y\n", 1, None),
        (b"", 2, None),
    ],
)
def test_the_memory_cgroup_of_a_process(raw: bytes, version: int, path: bytes | None) -> None:
    assert parse_memory_cgroup(raw, version) == path


def test_the_machine(tree: Tree) -> None:
    tree.machine(ram_kib=8000, swap_kib=4000, available_kib=400)
    tree.write("proc/sys/vm/swappiness", 10)
    assert read_machine(tree.proc) == Machine(
        8000 // PAGE_KIB, 4000 // PAGE_KIB, 400 // PAGE_KIB, 4000 // PAGE_KIB, swappiness=10
    )


def test_no_meminfo_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="meminfo"):
        read_machine(str(tmp_path))


def test_hierarchies(tree: Tree) -> None:
    root = os.fsencode(tree.cgroup)
    assert find_hierarchy(tree.cgroup) is None
    tree.write("sys/fs/cgroup/unified/cgroup.controllers", "cpu memory")
    assert find_hierarchy(tree.cgroup) == MemcgHierarchy(2, root + b"/unified")
    tree.write("sys/fs/cgroup/cgroup.controllers", "cpu memory")
    assert find_hierarchy(tree.cgroup) == MemcgHierarchy(2, root)
    tree.memcg1("/", 0)
    assert find_hierarchy(tree.cgroup) == MemcgHierarchy(1, root + b"/memory")


def test_a_v1_group(tree: Tree) -> None:
    page = PAGE
    tree.memcg1("/", 0)
    tree.memcg1(
        "/g",
        70 * page,
        100 * page,
        stat=f"cache 5\ntotal_inactive_file {3 * page}\ntotal_active_file {4 * page}",
        swappiness=30,
        **{"memsw.limit_in_bytes": 150 * page, "memsw.usage_in_bytes": 80 * page},
    )
    group = read_memcg(hierarchy(tree), b"/g", MACHINE)
    assert group is not None
    assert (group.limit, group.usage, group.reclaimable, group.swappiness) == (100, 70, 7, 30)
    assert (group.swap_limit, group.swap_usage) == (150, 80)


def test_a_v2_group(tree: Tree) -> None:
    page = PAGE
    stat = f"inactive_file {page}\nactive_file {page}\nslab_reclaimable {page}"
    tree.memcg2("/g", 70 * page, 100 * page, stat=stat)
    tree.write("sys/fs/cgroup/g/memory.swap.max", "max")
    tree.write("sys/fs/cgroup/g/memory.swap.current", page)
    group = read_memcg(hierarchy(tree), b"/g", MACHINE)
    assert group is not None
    assert (group.limit, group.usage, group.reclaimable, group.swap_limit, group.swap_usage) == (100, 70, 3, None, 1)


def test_no_limit_and_no_controller(tree: Tree) -> None:
    tree.memcg2("/free", 4096)
    tree.write("sys/fs/cgroup/bare/cgroup.procs", "")
    free = read_memcg(hierarchy(tree), b"/free", MACHINE)
    assert free is not None and free.limit is None
    assert read_memcg(hierarchy(tree), b"/bare", MACHINE) is None


def test_a_v1_group_without_a_limit(tree: Tree) -> None:
    tree.memcg1("/", 0)
    tree.memcg1("/g", 4096)
    group = read_memcg(hierarchy(tree), b"/g", MACHINE)
    assert group is not None and group.limit is None


def hierarchy(tree: Tree) -> MemcgHierarchy:
    found = find_hierarchy(tree.cgroup)
    assert found is not None
    return found


def test_names_for_a_group(tree: Tree) -> None:
    tree.memcg2("/a/b", 0)
    where = hierarchy(tree)
    root = os.fsencode(tree.cgroup)
    for name in (b"/a/b", b"a/b", b"/a/b/", root + b"/a/b", root + b"/a/b/"):
        assert group_path(where, name) == b"/a/b"
    assert group_path(where, b"/nowhere") is None


def test_walk_and_ancestry(tree: Tree) -> None:
    tree.memcg2("/a/b", 0)
    tree.memcg2("/c", 0)
    assert sorted(walk(hierarchy(tree))) == [b"/a", b"/a/b", b"/c"]
    assert ancestry(b"/a/b") == [b"/a/b", b"/a"]
    assert ancestry(b"/") == []


def test_being_within() -> None:
    assert is_within(b"/a/b", b"/a")
    assert is_within(b"/a", b"/a")
    assert not is_within(b"/ab", b"/a")
    assert is_within(b"/x", b"/")
    assert not is_within(None, b"/")


def test_a_leader_that_has_really_exited_still_has_its_memory() -> None:
    """The kernel shows no VmRSS for the leader then, but would still kill the process."""
    program = (
        "import ctypes, sys, threading, time\n"
        "def stay():\n"
        "    while open('/proc/self/stat').read().rpartition(')')[2].split()[0] != 'Z': time.sleep(0.01)\n"
        "    print(flush=True); time.sleep(60)\n"
        "threading.Thread(target=stay).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"\n"
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "VmRSS" not in status
            found = next(p for p in read_processes()[0] if p.task.pid == process.pid)
            assert found.task.has_mm
            assert found.task.rss > 100
        finally:
            process.kill()
