"""Command lines of other users' processes are asked for, and never waited for."""

import os
import time
from pathlib import Path

import pytest

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel.command_lines import CommandLines
from oomwatchd.kernel.procfs import ProcessDir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to make files that belong to another user takes root")


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def directory(tmp_path: Path) -> ProcessDir:
    path = tmp_path / "42"
    path.mkdir()
    (path / "cmdline").write_bytes(b"a\0b\0")
    os.chown(path, 65534, 65534)
    return ProcessDir(42, str(tmp_path))


def asked(lines: CommandLines, directory: ProcessDir) -> NotYet:
    with pytest.raises(NotYet) as caught:
        lines.read(directory, 1)
    return caught.value


def test_ones_own_are_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42/cmdline").write_bytes(b"a\0b\0")

    found = CommandLines(str(tmp_path)).read(ProcessDir(42, str(tmp_path)), 1)

    assert found is not None
    assert (found.raw, found.cut) == (b"a\0b\0", False)


def test_those_of_others_are_asked_for_each_time(tmp_path: Path, directory: ProcessDir) -> None:
    clock = Clock()
    lines = CommandLines(str(tmp_path), clock)
    asked(lines, directory).learn((b"a\0", False))
    found = lines.read(directory, 1)
    assert found is not None
    assert found.raw == b"a\0"

    clock.now += 1
    asked(lines, directory)


def test_another_program_is_asked_for_anew(tmp_path: Path, directory: ProcessDir) -> None:
    lines = CommandLines(str(tmp_path), Clock())
    before = time.monotonic_ns()
    asked(lines, directory).learn((b"a\0", False))

    lines.executed(42, before)
    assert lines.read(directory, 1) is not None
    lines.executed(42, time.monotonic_ns())
    asked(lines, directory)


def test_a_missing_answer_is_logged_once(tmp_path: Path, directory: ProcessDir) -> None:
    clock = Clock()
    lines = CommandLines(str(tmp_path), clock)
    asked(lines, directory).learn(None)
    assert lines.read(directory, 1) is None
    assert lines.take_news() == [42]

    clock.now += 60
    asked(lines, directory).learn(None)
    assert lines.take_news() == []


def test_what_is_refused(tmp_path: Path, directory: ProcessDir) -> None:
    lines = CommandLines(str(tmp_path), Clock())
    asked(lines, directory).learn(())
    assert lines.read(directory, 1) is None
    assert lines.take_news() == []
