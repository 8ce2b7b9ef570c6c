"""/proc/PID of real processes: also of one whose first thread has ended, and of one that is gone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oomwatchd.kernel import procfs
from oomwatchd.kernel.proc_stat import parse_arguments_length
from oomwatchd.kernel.proc_status import (
    has_capability,
    line_of,
    missing_capabilities,
    parse_capabilities,
    parse_family,
    parse_thread_group,
)
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from tests.faketree import Tree

HEADLESS = """
import ctypes, os, sys, threading, time
threads = [threading.Thread(target=sys.stdin.readline), threading.Thread(target=time.sleep, args=(600,))]
for thread in threads: thread.start()
os.write(1, b"ready\\n")
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # exit(2), of this thread alone
"""


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def headless() -> Iterator["subprocess.Popen[bytes]"]:
    """A process whose first thread ends: two others live, of which one ends with its standard input."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HEADLESS, "argument"], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        wait_until(lambda: procfs.has_lost_leader(process.pid))
        yield process
        process.kill()


@pytest.fixture
def sleeping() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that sleeps."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def ended() -> Iterator[int]:
    """The PID of a process that has ended and isn't reaped."""
    process = subprocess.Popen(["true"])
    wait_until(lambda: procfs.read_stat(process.pid).ended)
    yield process.pid
    process.wait()


@pytest.fixture
def gone() -> int:
    """A PID that no process has."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_files_are_read_of_a_thread_that_lives(headless: "subprocess.Popen[bytes]") -> None:
    exe = os.readlink("/proc/self/exe").encode()
    with ProcessDir(headless.pid) as directory:
        assert directory.read_exe() == exe  # though read_stat() hasn't been called
        assert directory.path("status").startswith("task/")
        assert parse_thread_group(directory.read("status")) == headless.pid
        assert directory.read("cmdline").split(b"\0")[-2] == b"argument"
        assert directory.read("cmdline", 5, offset=2) == directory.read("cmdline")[2:7]
        assert not directory.leader_has_ended()  # known already
    with ProcessDir(headless.pid) as directory:
        assert directory.leader_has_ended()
        assert directory.read_exe() == exe
    with ProcessDir(headless.pid) as directory:
        stat = directory.read_stat()
        assert (stat.leader_ended, stat.ended) == (True, False)
        assert directory.path("exe").startswith("task/")


def test_another_thread_is_found_when_that_one_ends(headless: "subprocess.Popen[bytes]") -> None:
    exe = os.readlink("/proc/self/exe").encode()
    with ProcessDir(headless.pid) as by_read, ProcessDir(headless.pid) as by_exe:
        for directory in (by_read, by_exe):
            directory.read_stat()
        reader = by_read.path("")
        assert headless.stdin is not None
        headless.stdin.close()
        wait_until(lambda: not Path(f"/proc/{headless.pid}/{reader}").exists())
        assert by_read.read("cmdline").endswith(b"argument\0")
        assert by_exe.read_exe() == exe
        assert by_read.path("") == by_exe.path("") != reader
        headless.kill()
        headless.wait()
        assert by_exe.read_exe() == b""
        with pytest.raises(Vanished):
            by_read.read("cmdline")


def test_threads_are_searched_for_a_few_times_alone(headless: "subprocess.Popen[bytes]") -> None:
    """A process that keeps ending its threads makes nobody wait."""
    with ProcessDir(headless.pid) as directory:
        found = [directory._find_thread() for _ in range(20)]
    assert found == [True] * 8 + [False] * 12


def test_threads_are_listed_one_after_the_other(headless: "subprocess.Popen[bytes]") -> None:
    """Whoever needs some of many doesn't wait for the rest."""
    with ProcessDir(headless.pid) as directory:
        threads = directory.threads()

        assert next(threads) == str(headless.pid)
        assert len(list(threads)) == 2


def test_a_living_process(sleeping: "subprocess.Popen[bytes]") -> None:
    process = sleeping
    with ProcessDir(process.pid) as directory:
        wait_until(lambda: directory.read("comm") == b"sleep\n")
        assert not directory.leader_has_ended()
        assert directory.path("exe") == "exe"
        assert not procfs.has_lost_leader(process.pid)
        assert procfs.read_comm(process.pid) == b"sleep"
        assert procfs.read_exe_link(process.pid) == directory.read_exe() != b""
        stat = directory.read_stat()
        assert procfs.starttime_of(process.pid) == stat.starttime
        assert procfs.is_alive(process.pid, stat.starttime)
        assert not procfs.is_alive(process.pid, stat.starttime + 1)
        assert (process.pid, os.stat(f"/proc/{process.pid}").st_ino) in set(procfs.processes())
        raw = Path(f"/proc/{process.pid}/stat").read_bytes()
        assert parse_arguments_length(raw) == len(b"sleep\x00600\x00")
        depth, parent = parse_family(directory.read("status"))
        assert (depth, parent) == (0, os.getpid())
        assert parse_thread_group(directory.read("status")) == process.pid


@pytest.mark.parametrize("opened_before", [True, False])
def test_a_value_is_read_and_written(sleeping: "subprocess.Popen[bytes]", opened_before: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with ProcessDir(sleeping.pid) as directory:
        first = directory.open_oom_score_adj() if opened_before else directory.read_oom_score_adj()
        assert first == int(Path(f"/proc/{sleeping.pid}/oom_score_adj").read_text())
        for value in (500, 1000):
            directory.write_oom_score_adj(value)
            assert directory.read_oom_score_adj() == value
        with pytest.raises(OSError, match="Invalid argument"):
            directory.write_oom_score_adj(1001)
        assert directory.read_oom_score_adj() == 1000
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_has_ended(ended: int) -> None:
    with ProcessDir(ended) as directory:
        assert directory.read_exe() == b""
        assert directory.read_stat().ended
        assert not directory.leader_has_ended()
        assert directory.path("exe") == "exe"
    assert procfs.starttime_of(ended) is None
    assert not procfs.has_lost_leader(ended)
    with pytest.raises(Vanished):
        procfs.read_exe_link(ended)


def test_a_process_that_is_gone(gone: int) -> None:
    for read in (ProcessDir, procfs.read_stat, procfs.read_comm, procfs.read_exe_link):
        with pytest.raises(Vanished):
            read(gone)
    assert procfs.starttime_of(gone) is None
    assert not procfs.has_lost_leader(gone)


def test_a_directory_of_a_process_that_is_gone_never_means_another(sleeping: "subprocess.Popen[bytes]") -> None:
    with ProcessDir(sleeping.pid) as directory:
        sleeping.kill()
        sleeping.wait()
        assert directory.read_exe() == b""
        for read in (directory.read_stat, directory.read_oom_score_adj, directory.open_oom_score_adj):
            with pytest.raises(Vanished):
                read()
        with pytest.raises(Vanished):
            directory.write_oom_score_adj(0)
        with pytest.raises(Vanished):
            directory.read("status")


def test_files_below_another_root(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.process(42, b"odd\xff)", ppid=7)
    proc = tree.proc

    assert procfs.read_stat(42, proc).comm == b"odd\xff)"
    assert procfs.starttime_of(42, proc) == procfs.read_stat(42, proc).starttime
    assert procfs.is_alive(42, procfs.read_stat(42, proc).starttime, proc)
    assert not procfs.has_lost_leader(42, proc)
    assert not procfs.has_lost_leader(43, proc)
    assert [pid for pid, _ in procfs.processes(proc)] == [42]
    assert procfs.read_boot_id(proc) == ""
    tree.write("proc/sys/kernel/random/boot_id", "0c2ab1b0-1a1a-4d5c-9d3f-000000000000")
    assert procfs.read_boot_id(proc) == "0c2ab1b0-1a1a-4d5c-9d3f-000000000000"


def test_the_boot_of_this_machine() -> None:
    assert procfs.read_boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip() != ""


def test_text_keeps_bytes_that_are_no_utf_8() -> None:
    assert procfs.text(b"a\xc3\xa4\xff") == "a\xe4\udcff"


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        ("000001ffffffffff", ()),
        ("0000000000000000", ("CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE")),
        ("0000000001000000", ("CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SYS_PTRACE")),
        ("0000000000081002", ("CAP_SYS_RESOURCE",)),
    ],
)
def test_capabilities(held: str, missing: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"Name:\tx\nCapPrm:\t{'0' * 16}\nCapEff:\t{held}\nCapBnd:\t{'f' * 16}\n")

    assert missing_capabilities(str(tmp_path)) == missing


def test_capabilities_that_can_not_be_read() -> None:
    assert parse_capabilities(b"Name:\tx\nUid:\t0\n") == 0
    assert has_capability(0b100, 2)
    assert not has_capability(0b011, 2)


def test_label_begins_a_line_and_counts_once() -> None:
    raw = b"Name:\tx Tgid:\t1\nTgid:\t2\nx\nTgid:\t3\n"

    assert line_of(raw, b"\nTgid:") == [b"2"]
    with pytest.raises(ValueError, match="not found"):
        line_of(raw, b"\nPPid:")


def test_a_file_of_one_record_is_read_whole(tmp_path: Path) -> None:
    """The kernel returns at most as much as is asked for."""
    content = b"Groups:\t" + b"100000 " * 60_000 + b"\nNSpid:\t7 1\n"
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_bytes(content)

    with ProcessDir(7, str(tmp_path)) as directory:
        assert directory.read("status") == content
        assert directory.read("status", 7) == b"Groups:"
