"""/proc/PID of processes whose first thread has ended, or that end while they are read; over a made-up /proc."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

from oomwatchd.base.uapi import PF_EXITING
from oomwatchd.kernel import procfs
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from tests.faketree import Tree

PID, SECOND, THIRD = 20, 21, 22


def stat_of(pid: int, state: str = "S", *, flags: int = 0, threads: int = 1, starttime: int = 200) -> str:
    return f"{pid} (x) {state} 1 {pid} {pid} 0 -1 {flags} " + "0 " * 10 + f"{threads} 0 {starttime} 0"


class Process:
    """A process with some threads."""

    def __init__(self, tree: Tree, state: str, *threads: tuple[int, str], flags: int = 0) -> None:
        self.tree = tree
        self._stat = state, flags, 1 + len(threads)
        self.write("stat", stat_of(PID, state, flags=flags, threads=1 + len(threads)))
        self.write(f"task/{PID}/stat", stat_of(PID, state, flags=flags))
        self.write("status", b"" if state == "Z" else b"first")
        self.write("oom_score_adj", 300)
        if state != "Z":
            (tree.root / f"proc/{PID}/exe").symlink_to("/srv/program")
        for thread, its_state in threads:
            self.thread(thread, its_state)

    def write(self, name: str, text: str | bytes | int) -> None:
        self.tree.write(f"proc/{PID}/{name}", text)

    def thread(self, thread: int, state: str = "S") -> None:
        self.write(f"task/{thread}/stat", stat_of(thread, state))
        self.write(f"task/{thread}/status", f"of {thread}".encode())
        (self.tree.root / f"proc/{PID}/task/{thread}/exe").symlink_to("/srv/program")

    def ended(self, thread: int) -> None:
        shutil.rmtree(self.tree.root / f"proc/{PID}/task/{thread}")

    def open(self) -> ProcessDir:
        return ProcessDir(PID, self.tree.proc)


@pytest.fixture(autouse=True)
def all_is_closed(tree: Tree) -> Iterator[None]:
    """After each test, no descriptor of the made-up machine is open any more."""
    yield
    links = list[str]()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    assert [link for link in links if link.startswith(str(tree.root))] == []


# The thread that is read


def test_all_files_but_two_are_read_of_a_thread_that_lives(tree: Tree) -> None:
    with Process(tree, "Z", (SECOND, "Z"), (THIRD, "S")).open() as directory:
        assert directory.read("status") == b""
        assert directory.leader_has_ended()
        assert directory.path("status") == f"task/{THIRD}/status"
        assert directory.read("status") == b"of 22"
        assert directory.read("status", 2, offset=1) == b"f "
        assert directory.read_exe() == b"/srv/program"
        assert directory.read_oom_score_adj() == 300
        assert not directory.leader_has_ended()  # it is known


def test_the_first_thread_is_read_while_it_lives(tree: Tree) -> None:
    with Process(tree, "S", (SECOND, "S")).open() as directory:
        assert directory.read_stat().threads == 2
        assert not directory.leader_has_ended()
        assert (directory.path("status"), directory.read("status")) == ("status", b"first")


def test_one_whose_threads_have_all_ended(tree: Tree) -> None:
    with Process(tree, "Z", (SECOND, "Z")).open() as directory:
        assert not directory.leader_has_ended()
        assert directory.read_exe() == b""
        assert directory.path("status") == "status"


def test_a_thread_that_ends_is_replaced(tree: Tree) -> None:
    process = Process(tree, "Z", (SECOND, "S"))
    with process.open() as directory:
        directory.read_stat()
        process.thread(THIRD)
        process.ended(SECOND)
        assert directory.read("status") == b"of 22"
        process.thread(SECOND)
        process.ended(THIRD)
        assert directory.read_exe() == b"/srv/program"
        assert directory.path("") == f"task/{SECOND}/"
        process.ended(SECOND)
        assert directory.read_exe() == b""


def test_when_the_last_thread_ends_the_process_has_vanished(tree: Tree) -> None:
    process = Process(tree, "Z", (SECOND, "S"))
    with process.open() as directory:
        directory.read_stat()
        process.ended(SECOND)
        with pytest.raises(Vanished):
            directory.read("status")


def test_an_executable_of_a_process_that_vanishes(tree: Tree) -> None:
    process = Process(tree, "Z", (SECOND, "S"))
    with process.open() as directory:
        shutil.rmtree(tree.root / f"proc/{PID}")
        assert directory.read_exe() == b""
        assert not directory._find_thread()


def test_no_thread_is_searched_for_while_the_first_one_lives(tree: Tree) -> None:
    """A kernel thread has no executable, either. The number of searches is limited."""
    process = Process(tree, "S")
    (tree.root / f"proc/{PID}/exe").unlink()
    with process.open() as directory:
        assert directory.read_exe() == b""
        process.thread(SECOND)
        process.write("stat", stat_of(PID, "Z", threads=2))
        assert directory.leader_has_ended()
        assert directory.read_exe() == b"/srv/program"


def test_a_path_that_the_kernel_does_not_tell(tree: Tree) -> None:
    process = Process(tree, "Z")
    process.write("exe", b"")  # EINVAL stands for what else may go wrong
    with process.open() as directory:
        assert directory.read_exe() is None
    with pytest.raises(OSError, match="Invalid argument"):
        procfs.read_exe_link(PID, tree.proc.encode())


# Exit


@pytest.mark.parametrize(
    ("state", "flags", "threads", "in_exit"),
    [
        ("S", 0, (), False),
        ("S", PF_EXITING, (), True),
        ("Z", 0, (), True),
        ("Z", 0, ((SECOND, "Z"),), True),
        ("Z", 0, ((SECOND, "S"),), False),
        ("S", PF_EXITING, ((SECOND, "Z"), (THIRD, "S")), False),
    ],
)
def test_a_process_is_in_exit_when_no_thread_lives(
    tree: Tree, state: str, flags: int, threads: tuple[tuple[int, str], ...], in_exit: bool
) -> None:
    with Process(tree, state, *threads, flags=flags).open() as directory:
        assert directory.is_in_exit() is in_exit


@pytest.mark.parametrize("is_reaped", [False, True])
@pytest.mark.parametrize(("next_state", "in_exit"), [("S", False), ("Z", True)])
def test_the_thread_that_is_read_ends_before_it_is_asked(
    tree: Tree, next_state: str, in_exit: bool, is_reaped: bool
) -> None:
    process = Process(tree, "Z", (SECOND, "S"))
    with process.open() as directory:
        directory.read_stat()
        process.write(f"task/{SECOND}/stat", stat_of(SECOND, "Z"))
        if is_reaped:
            process.ended(SECOND)
        process.thread(THIRD, next_state)
        assert directory.is_in_exit() is in_exit


def test_a_thread_that_can_not_be_read_is_none_that_lives(tree: Tree) -> None:
    process = Process(tree, "Z", (SECOND, "S"))
    with process.open() as directory:
        directory.read_stat()
        process.ended(SECOND)
        (tree.root / f"proc/{PID}/task/{SECOND}/stat").mkdir(parents=True)  # EISDIR stands for what may go wrong
        with pytest.raises(Vanished):
            directory.read("status")


def test_who_is_gone_and_of_whom_that_is_not_known(tree: Tree) -> None:
    process = Process(tree, "S")
    with process.open() as directory:
        assert directory.is_gone() is False
        stat = tree.root / f"proc/{PID}/stat"
        stat.unlink()
        assert directory.is_gone() is True
        stat.mkdir()  # EISDIR stands for what else may go wrong
        assert directory.is_gone() is False


# Without opening the process


@pytest.mark.parametrize("raw", [b"", b"20 (x) S 1 20"])
def test_a_stat_that_is_none(tree: Tree, raw: bytes) -> None:
    process = Process(tree, "S")
    process.write("stat", raw)
    assert procfs.starttime_of(PID, tree.proc) is None
    assert procfs.has_lost_leader(PID, tree.proc) is False
    assert procfs.shows(PID, None, 300, tree.proc) is False


@pytest.mark.parametrize(("state", "threads", "lost"), [("Z", 2, True), ("Z", 1, False), ("S", 2, False)])
def test_who_has_lost_the_first_thread(tree: Tree, state: str, threads: int, lost: bool) -> None:
    Process(tree, "S").write("stat", stat_of(PID, state, threads=threads))
    assert procfs.has_lost_leader(PID, tree.proc) is lost


@pytest.mark.parametrize(
    ("state", "starttime", "value", "shows"),
    [
        ("S", 200, 300, True),
        ("S", None, 300, True),
        ("S", 201, 300, False),
        ("S", 200, 301, False),
        ("Z", None, 300, False),
    ],
)
def test_whether_a_process_shows_a_value(
    tree: Tree, state: str, starttime: int | None, value: int, shows: bool
) -> None:
    Process(tree, state)
    assert procfs.shows(PID, starttime, value, tree.proc) is shows
    assert procfs.shows(PID + 1, starttime, value, tree.proc) is False


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072, 131073])
def test_a_record_is_read_in_pieces(tree: Tree, size: int) -> None:
    process = Process(tree, "S")
    process.write("status", b"abcdefg" * (size // 7) + b"x" * (size % 7))
    with process.open() as directory:
        assert len(directory.read("status")) == size
        assert len(directory.read_records("status")) == size


def test_a_name_and_what_is_no_process(tree: Tree) -> None:
    process = Process(tree, "S")
    process.write("comm", b"x" * 15 + b"\n")
    tree.write("proc/version", "")
    assert procfs.read_comm(PID, tree.proc.encode()) == b"x" * 15
    assert list(procfs.processes(tree.proc)) == [(PID, (tree.root / f"proc/{PID}").stat().st_ino)]
    assert procfs.read_boot_id(tree.proc) == ""
