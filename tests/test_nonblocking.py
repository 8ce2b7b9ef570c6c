"""Which file systems are remembered as silent. The paths are of files that nobody has ever looked up, so the kernel has
nothing of them in memory."""

from pathlib import Path

import pytest

from oomwatchd.base.notyet import NotYet
from oomwatchd.kernel.nonblocking import Files, FileSystemSilent

USER, OTHER_USER = 1000, 1001


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(clock: Clock) -> Files:
    return Files(clock)


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    return str(tmp_path / "never").encode()


def asked(files: Files, path: bytes, owner: int = USER) -> NotYet:
    """The question that a helper is to answer."""
    with pytest.raises(NotYet) as raised:
        files.stat(path, owner)
    return raised.value


def test_a_silent_file_system_is_asked_again_later_and_later(files: Files, path: bytes, clock: Clock) -> None:
    for seconds in (10, 20, 40, 80, 160, 300, 300):
        asked(files, path).learn(None)
        with pytest.raises(FileSystemSilent):
            files.stat(path, USER)
        clock.now += seconds - 1
        with pytest.raises(FileSystemSilent):
            files.stat(path, USER)
        clock.now += 1
    assert files.take_news() == [(path, False)]


def test_questions_that_fail_together_count_once(files: Files, path: bytes, clock: Clock) -> None:
    for question in [asked(files, path) for _ in range(20)]:
        question.learn(None)
    clock.now += 10

    asked(files, path)


def test_silence_for_one_user_says_nothing_about_others(files: Files, path: bytes) -> None:
    """The helpers of this user hang elsewhere."""
    asked(files, path).learn(None)

    asked(files, path, OTHER_USER).learn(None)

    with pytest.raises(FileSystemSilent):
        files.stat(path, OTHER_USER)
    assert files.take_news() == [(path, False)]


def test_an_answer_counts_for_all(files: Files, path: bytes, clock: Clock) -> None:
    first, second = asked(files, path), asked(files, path, OTHER_USER)
    first.learn(None)

    second.learn((0, 1, 2, 3))

    for owner in (USER, OTHER_USER):
        found = files.stat(path, owner)
        assert found is not None
        assert (found.device, found.inode, found.uid) == (1, 2, 3)
    assert files.take_news() == [(path, False), (path, True)]
    clock.now += 1
    asked(files, path).learn(None)
    clock.now += 10
    asked(files, path)  # not after 20 s: it had answered in between


def test_a_file_that_is_not_there(files: Files, path: bytes) -> None:
    asked(files, path).learn((2, 0, 0, 0))

    assert files.stat(path, USER) is None


def test_so_many_silent_directories_are_remembered(files: Files, path: bytes) -> None:
    for number in range(300):
        asked(files, path + b"%d/x" % number).learn(None)

    asked(files, path + b"0/x")
    with pytest.raises(FileSystemSilent):
        files.stat(path + b"299/x", USER)
