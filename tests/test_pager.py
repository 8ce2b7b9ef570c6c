"""The pager: when there is one, which, and what it gets. The terminal is a pseudo-terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from oomwatchd.ctl.pager import commands, pager_environment

SHOW = """
import sys
from oomwatchd.ctl.pager import page
def show():
    for number in range(int(sys.argv[1])):
        print("line", number, sys.stdout.isatty())
    return 7
sys.exit(page(show, wanted=sys.argv[2] == "yes"))
"""


def run(
    environment: Mapping[str, str], *, lines: int = 2, wanted: str = "yes", terminal: bool = True
) -> tuple[int, str]:
    """Exit status and what the terminal shows."""
    command = [sys.executable, "-c", SHOW, str(lines), wanted]
    given = {"PATH": os.environ["PATH"], "TERM": "xterm", **environment}
    if not terminal:
        done = subprocess.run(command, capture_output=True, text=True, env=given)
        return done.returncode, done.stdout
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stdin=theirs, env=given)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.wait(), shown.decode().replace("\r", "")


@pytest.fixture
def marking(tmp_path: Path) -> str:
    """A pager that sets a mark before each line."""
    pager = tmp_path / "marking"
    pager.write_text("#!/bin/sh\nexec sed s/^/PAGED/\n")
    pager.chmod(0o755)
    return str(pager)


def test_a_terminal_gets_the_pager_that_is_named_and_the_status_of_what_is_shown(marking: str) -> None:
    assert run({"PAGER": marking}) == (7, "PAGEDline 0 True\nPAGEDline 1 True\n")
    assert run({"PAGER": "cat", "SYSTEMD_PAGER": marking})[1].startswith("PAGED")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"SYSTEMD_PAGER": ""}, {"PAGER": "cat"}])
def test_no_pager(environment: dict[str, str], marking: str) -> None:
    assert run({"PAGER": marking, **environment}) == (7, "line 0 True\nline 1 True\n")


def test_no_pager_where_none_is_wanted_or_no_terminal_reads(marking: str) -> None:
    assert run({"PAGER": marking}, wanted="no")[1] == "line 0 True\nline 1 True\n"
    assert run({"PAGER": marking}, terminal=False) == (7, "line 0 False\nline 1 False\n")


def test_a_reader_who_quits_early_is_no_failure() -> None:
    assert run({"PAGER": "head -n 1"}, lines=100_000) == (0, "line 0 True\n")


def test_under_sudo_nothing_but_less_runs() -> None:
    assert commands({"PAGER": "/usr/bin/most", "SUDO_UID": "1000"}) == [["less"]]
    assert pager_environment({"SUDO_UID": "1000"})["LESSSECURE"] == "1"
    assert commands({"PAGER": "most -s", "SUDO_UID": "1000", "SYSTEMD_PAGERSECURE": "0"})[0] == ["most", "-s"]
    assert "LESSSECURE" not in pager_environment({})
