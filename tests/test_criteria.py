"""The table of criteria: each row is whole."""

import os
from pathlib import Path

import pytest

from oomwatchd.config import load as config
from oomwatchd.config.document import ConfigFile
from oomwatchd.kernel.facts import READERS, View, read_process
from oomwatchd.kernel.procfs import ProcessDir
from oomwatchd.rules import manual
from oomwatchd.rules.criteria import CRITERIA, Form, Process, Row, Source
from oomwatchd.rules.match import mismatch
from oomwatchd.rules.model import Action, Criterion, Pattern, Rule, literal_or_glob
from oomwatchd.rules.ruleset import Needs, needs

ROWS = [pytest.param(row, id=row.key) for row in CRITERIA.values()]
PAGE = Path(__file__).parent.parent / "man/oomwatchd.toml.5.scd"


def written(row: Row) -> str:
    """How the criterion may stand in a file."""
    return {
        Form.TEXT: f'{row.key} = "x*"',
        Form.ID: f"{row.key} = 4711",
        Form.FLAG: f"{row.key} = true",
        Form.RULE: f'{row.key} = "other"',
    }[row.form]


def read(row: Row) -> Rule:
    other = '[[rule]]\nname = "other"\nuser = 0\nignore = true\n'
    text = f'{other}[[rule]]\nname = "r"\n{written(row)}\noom_score_adj = {{ at_least = 5 }}\n'
    return config.parse([ConfigFile("f", text)]).rules[1]


@pytest.mark.parametrize("row", ROWS)
def test_can_be_written(row: Row) -> None:
    (criterion,) = read(row).criteria

    assert criterion.key == row.key
    assert criterion.wanted in ("x*", "4711", True, "other")
    assert read(row).guarded is (row.says_who is not False)


@pytest.mark.parametrize("row", ROWS)
def test_is_read(row: Row) -> None:
    """Of this very process."""
    assert row.source in READERS or row.source in (Source.STAT, Source.EXE, Source.LINEAGE)
    with ProcessDir(os.getpid()) as directory:
        stat, exe = directory.read_stat(), directory.read_exe()
        asked = needs([read(row)])
        assert row.source in asked.reads
        process = read_process(directory, stat, exe, asked, View(), frozenset())

    assert getattr(process, row.fact) is not None


@pytest.mark.parametrize("row", ROWS)
def test_holds_and_says_why_not(row: Row) -> None:
    with ProcessDir(os.getpid()) as directory:
        everything = Needs(reads=frozenset(Source))
        process = read_process(
            directory, directory.read_stat(), directory.read_exe(), everything, View(), frozenset({"other"})
        )
    fact = getattr(process, row.fact)
    if row.form is Form.TEXT and not fact:  # this process is in no unit
        setattr(process, row.fact, "x")
        fact = "x"
    fitting, failing = {
        Form.TEXT: (
            Criterion(row.key, patterns=(literal_or_glob("nothing"), Pattern(str(fact)))),
            Criterion(row.key, patterns=(literal_or_glob("nothing"),)),
        ),
        Form.ID: (
            Criterion(row.key, ids=frozenset({os.getuid()})),
            Criterion(row.key, names=("4711",), ids=frozenset({4711})),
        ),
        Form.FLAG: (Criterion(row.key, flag=bool(fact)), Criterion(row.key, flag=not fact)),
        Form.RULE: (Criterion(row.key, names=("other",)), Criterion(row.key, names=("nothing",))),
    }[row.form]

    assert mismatch(Rule("r", (fitting,), Action(low=5)), process) is None
    reason = mismatch(Rule("r", (failing,), Action(low=5)), process)
    assert reason is not None
    assert (reason.key, reason.wanted) == (row.key, failing.wanted)
    assert reason.found not in (None, reason.wanted)


@pytest.mark.parametrize("row", ROWS)
def test_a_fact_that_is_refused_does_not_hold(row: Row) -> None:
    process = Process(42, 1, 1, "x", session_leader=False, foreign_pid_ns=False)
    if row.source in (Source.STAT, Source.LINEAGE):
        return  # always there
    asked = read(row)

    assert mismatch(asked, process) is not None
    assert mismatch(Rule("r", (), Action(low=5), excluded=asked.criteria), process) is not None


@pytest.mark.parametrize(
    ("real", "saved", "both"), [(None, None, None), (None, 7, None), (5, None, (5, 5)), (5, 7, (5, 7)), (0, 0, (0, 0))]
)
def test_real_and_saved_id(real: int | None, saved: int | None, both: tuple[int, int] | None) -> None:
    process = Process(42, 1, 1, "x", session_leader=False, foreign_pid_ns=False)
    process.uid, process.saved_uid = real, saved
    assert (process.uids, process.gids) == (both, None)
    process.uid, process.gid, process.saved_gid = None, real, saved
    assert (process.uids, process.gids) == (None, both)


@pytest.mark.parametrize("row", ROWS)
def test_event(row: Row) -> None:
    assert row.event in ("exec", "fork", "comm", "uid", "gid", None)
    asked = needs([read(row)])

    assert asked.events == {row.event} - {"exec", "fork", None}
    assert asked.second_look is (row.event is None)


@pytest.mark.parametrize("row", ROWS)
def test_manual(row: Row) -> None:
    assert f"\n*{row.key}*\n\t{row.manual.partition('.')[0]}" in PAGE.read_text()
    assert row.example.startswith(f"{row.key} = ")
    assert row.says_who is True or row.caution


@pytest.mark.parametrize("row", ROWS)
def test_example_of_the_manual(row: Row) -> None:
    other = '[[rule]]\nname = "sshd"\nuser = 0\nignore = true\n'
    text = f'{other}[[rule]]\nname = "r"\n{row.example}\noom_score_adj = {{ at_least = 5 }}\n'
    (criterion,) = config.parse([ConfigFile("f", text)]).rules[1].criteria

    assert criterion.key == row.key


def test_manual_is_that_of_the_table() -> None:
    page = PAGE.read_text()

    assert manual.put_in(page) == page, "run: python -m oomwatchd.rules.manual man/oomwatchd.toml.5.scd"
