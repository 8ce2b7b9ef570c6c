"""The file of the ledger: when it is written anew, and what is appended meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomwatchd.pinning import ledger_file
from oomwatchd.pinning.ledger_file import LedgerFile


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedgerFile]:
    """One with ten lines of ten bytes, which was written in pieces of two lines."""
    monkeypatch.setattr(ledger_file, "_SLACK_BYTES", 10)
    monkeypatch.setattr(ledger_file, "_PIECE_LINES", 2)
    made = LedgerFile(str(tmp_path / "run/ledger"))
    assert not made.was_changed  # it isn't open yet
    assert len(list(made.writing_anew(["x" * 9] * 10))) == 5
    yield made
    made.close()


def test_it_is_wasteful_when_more_than_half_of_it_is_superseded(file: LedgerFile) -> None:
    assert not file.wasteful
    file.append(b"y" * 110)
    assert not file.wasteful
    file.append(b"y")
    assert file.wasteful
    assert Path(file.path).stat().st_size == 211


def test_what_is_appended_while_it_is_written_anew_counts_as_needed(file: LedgerFile) -> None:
    for _ in file.writing_anew(["z" * 9] * 4):
        file.append(b"y" * 10)
    assert Path(file.path).read_bytes() == (b"z" * 9 + b"\n") * 4 + b"y" * 20
    file.append(b"y" * 70)
    assert not file.wasteful
    file.append(b"y")
    assert file.wasteful
    assert not file.was_changed


def test_what_is_written_anew_and_given_up_leaves_nothing(file: LedgerFile) -> None:
    writing = file.writing_anew(["z" * 9] * 4)
    next(writing)
    writing.close()  # type: ignore[attr-defined]

    assert os.listdir(Path(file.path).parent) == ["ledger"]
    file.append(b"y")
    assert Path(file.path).read_bytes().endswith(b"x\ny")


def test_another_file_in_its_place_is_noticed(file: LedgerFile) -> None:
    """Also a link to the file: who owns the directory could lead it elsewhere later."""
    path = Path(file.path)
    path.rename(path.with_name("moved"))
    assert file.was_changed
    path.symlink_to("moved")
    assert file.was_changed


def test_nobody_else_may_write_to_its_directory_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = LedgerFile(str(tmp_path / "run/ledger"))
        list(made.writing_anew([]))
        made.close()
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "run/ledger").stat().st_mode & 0o777 == 0o600
