"""Tables: aligned, and within the terminal."""

import os
import sys

import pytest

from oomwatchd.base.text import columns_of
from oomwatchd.ctl import table
from oomwatchd.ctl.table import table_lines, wrap

ROWS = [
    (812, "a rule with a very long name indeed", -1000, "/etc/oomwatchd.d/10-some-file.toml:1234", "postgres"),
    (4194304, "b", 0, None, "日本語プロセス"),
]
COLUMNS = ("pid", "rule", "value", "where", "comm")
RIGHT = frozenset({0, 2})


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def test_what_is_not_a_terminal_gets_all() -> None:
    lines = table_lines(COLUMNS, ROWS, right=RIGHT)

    assert "/etc/oomwatchd.d/10-some-file.toml:1234" in lines[1]
    assert "a rule with a very long name indeed" in lines[1]


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_the_texts_give_way(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = table_lines(COLUMNS, ROWS, right=RIGHT)

    assert all(columns_of(line) <= columns for line in lines)
    assert all("812" in lines[1] and "-1000" in lines[1] and number in lines[2] for number in ("4194304", " 0 "))
    assert "postgres" in lines[1]
    assert ("…" in lines[1]) is (columns < 100)


@pytest.mark.usefixtures("terminal")
def test_wide_characters_take_two_columns() -> None:
    lines = table_lines(("a", "b"), [("日本", "x"), ("abcd", "y")])

    assert [columns_of(line) for line in lines[1:]] == [7, 7]
    assert [columns_of(text) for text in ("é", "e\u0301", "日", "\u200b", "…")] == [1, 1, 2, 0, 1]


@pytest.mark.usefixtures("terminal")
def test_sentences_are_broken_between_words() -> None:
    text = wrap("word " * 40 + "x" * 100, indent="    ", first="- ")
    lines = text.split("\n")

    assert lines[0].startswith("- word word")
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[-1] == "    " + "x" * 100


def test_the_height_of_the_terminal_does_not_matter() -> None:
    assert table.table_lines((), [], legend=False) == []
    assert os.linesep == "\n"
