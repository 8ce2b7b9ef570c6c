"""A real oomwatchd on the real kernel, with rules that fit only what the test itself starts."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.running import Commanded, Daemon, Processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="reading other users' processes and writing their oom_score_adj needs root")
    for item in items:
        if "kernel" in item.path.parts:
            item.add_marker(skip)


MNT_DETACH = 2
"""umount(2)"""

FILTER_MATTERS = {"test_children", "test_container_making", "test_starts", "test_held", "test_servers", "test_lineage"}
"""Tests that are run with the eBPF filter and without: the outcome is the same."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in FILTER_MATTERS and "daemon" in metafunc.fixturenames:
        metafunc.parametrize("filtered", [True, False], ids=["names", "kinds"], indirect=True)


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lets a test that is marked `serial` run while no other worker process (pytest-xdist) runs one."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    serial = request.node.get_closest_marker("serial") is not None
    run = tmp_path_factory.getbasetemp().parent
    with (run / "door.lock").open("w") as door, (run / "room.lock").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)  # held by who waits to be alone, so that nobody enters before him
        fcntl.flock(room, fcntl.LOCK_EX if serial else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.fixture
def filtered(request: pytest.FixtureRequest) -> bool:
    """Whether the daemon may have the eBPF filter."""
    return bool(getattr(request, "param", True))


@pytest.fixture
def daemon(tmp_path: Path, filtered: bool) -> Iterator[Daemon]:
    """An oomwatchd that isn't running yet."""
    running = Daemon(tmp_path, filtered=filtered)
    yield running
    running.end()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts processes, and ends them after the test."""
    started = Processes()
    yield started
    started.end()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A program that does nothing for long, at a path that no other process has."""
    path = tmp_path / "target"
    shutil.copy("/bin/sleep", path)
    return path


@pytest.fixture
def chameleon(compiled: "Compiler", tmp_path: Path) -> Iterator[Commanded]:
    """A program that changes its name, IDs and session at a command, and isn't running yet."""
    program = tmp_path / "chameleon"
    shutil.copy(compiled("chameleon"), program)
    running = Commanded(program)
    yield running
    running.end()


@dataclass(frozen=True)
class Mount:
    """A FUSE file system with one program."""

    server: subprocess.Popen[str]
    program: Path

    def stop_answering(self) -> None:
        self.server.send_signal(signal.SIGUSR1)

    def wait_until_asked(self) -> None:
        """Wait until the server has read a request that it doesn't answer."""
        assert self.server.stdout is not None
        assert self.server.stdout.readline() == "asked\n"

    def answer(self) -> None:
        self.server.send_signal(signal.SIGUSR2)


@contextlib.contextmanager
def mounted(directory: Path) -> Iterator[Mount]:
    """A FUSE file system at a new directory. The test is skipped where there may be none."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/fuse to be opened here")
    directory.mkdir()
    command = [sys.executable, "-m", "tests.kernel.fuse_server", str(directory), "/bin/sleep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        if server.stdout.readline() != "mounted\n":
            pytest.skip("mounting a FUSE file system is refused here")
        try:
            yield Mount(server, directory / "program")
        finally:
            server.kill()
            ctypes.CDLL(None).umount2(str(directory).encode(), MNT_DETACH)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    with mounted(tmp_path / "mount") as made:
        yield made


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> "Compiler":
    return Compiler(tmp_path_factory.mktemp("compiled"))


class Compiler:
    """Builds the small C programs beside these tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, name: str, flags: Sequence[str] = ()) -> Path:
        program = self.directory / name
        if not program.exists():
            source = Path(__file__).with_name(f"{name}.c")
            subprocess.run(["cc", "-O1", "-Wall", *flags, "-o", program, source], check=True, stdout=sys.stderr)
        return program
