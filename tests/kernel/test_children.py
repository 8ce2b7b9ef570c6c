"""What becomes of descendants that no rule fits, however they came to be, whenever the daemon came."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.families import OTHERS, Families, expect
from tests.kernel.running import Daemon, Processes, oom_score_adj, wait_for_value

RAISED, LOWERED = (0, 500), (800, 300)
POLICIES: list[tuple[str | int, tuple[int, int], int]] = [
    ("inherit", RAISED, 500),
    ("reset", RAISED, 0),
    (250, RAISED, 250),
    ("inherit", LOWERED, 300),
    ("reset", LOWERED, 800),
    (650, LOWERED, 650),
]
FEW: list[tuple[str | int, tuple[int, int], int]] = [
    ("inherit", RAISED, 500),
    ("reset", LOWERED, 800),
    (250, RAISED, 250),
]
few = pytest.mark.parametrize(("children", "values", "wanted"), FEW)


@pytest.fixture
def families(compiled: Compiler, tmp_path: Path) -> Iterator[Families]:
    started = Families(compiled("family"), tmp_path)
    yield started
    started.end()


@pytest.fixture
def storm(compiled: Compiler) -> Iterator[None]:
    """Short-lived programs on both cores, as fast as they start."""
    program = compiled("storm")
    storms = [subprocess.Popen([program, "1000000"]) for _ in range(2)]
    yield
    for each in storms:
        each.kill()
        each.wait()


def patience(children: str | int) -> str:
    """The kernel by itself lets children inherit; then forks are looked at with the next exec event, or by a scan."""
    return "500ms" if children == "inherit" else "1h"


# A storm fills the socket of each daemon that hears of every program.
@pytest.mark.serial
@pytest.mark.parametrize(("children", "values", "wanted"), POLICIES)
def test_daemon_before_the_families(
    daemon: Daemon, families: Families, storm: None, children: str | int, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    daemon.start(families.rule(value, children, patience(children)))

    families.start(100, first)

    families.wait()
    expect(families.members, wanted, parent=value)


@few
def test_daemon_in_the_midst(
    daemon: Daemon, families: Families, children: str | int, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    families.start(60, first, pause_us=5000)

    daemon.start(families.rule(value, children, patience(children)))

    families.wait()
    families.leave_out("daemon")  # some have left family and session before the daemon came
    expect(families.members, wanted, parent=value)


@few
def test_daemon_after_the_families(
    daemon: Daemon, families: Families, children: str | int, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    families.start(50, first)
    families.wait()

    daemon.start(families.rule(value, children))

    # Whose children have left family and session, nobody knows any more: they have what they had.
    expect(families.members, wanted, parent=value, daemon=first)


@few
def test_rule_edited_away(
    daemon: Daemon, families: Families, children: str | int, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    daemon.start(families.rule(value, children, patience(children)))
    families.start(20, first)
    families.wait()
    expect(families.members, wanted, parent=value)

    daemon.write("")
    assert daemon.reload()["ok"]

    expect(families.members, first)
    assert daemon.pins() == {}


def test_rule_changed(daemon: Daemon, families: Families) -> None:
    daemon.start(families.rule(500, "inherit", "500ms"))
    families.start(20, 0)
    families.wait()
    expect(families.members, 500)

    daemon.write(families.rule(600, "inherit"))
    daemon.reload()
    expect(families.members, 600)
    daemon.write(families.rule(600, 250))
    daemon.reload()
    expect(families.members, 250, parent=600)
    daemon.write(families.rule(600, "reset"))
    daemon.reload()
    expect(families.members, 0, parent=600)


@pytest.mark.serial  # as above
@few
def test_parent_executes_another(
    daemon: Daemon, families: Families, storm: None, children: str | int, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    daemon.start(families.rule(value, children, patience(children)))
    families.start(30, first)
    families.wait()
    expect(families.members, wanted, parent=value)

    before = families.become_others()

    # The new program has children at once, which inherit what it has before we can take it back.
    expect(families.members, first)
    expect(before, first)
    for kind, pids in before.items():
        if kind != "parent":
            families.members[kind] += pids


def test_parent_died_before_the_rule_went(daemon: Daemon, families: Families) -> None:
    daemon.start(families.rule(500, 250))
    families.start(20, 0)
    families.wait()
    expect(families.members, 250, parent=500)

    families.kill_parents()
    daemon.write(families.rule(500, 350))
    daemon.reload()
    expect(families.members, 350)
    daemon.write("")
    daemon.reload()

    expect(families.members, 0)


@few
def test_crash_and_deaths_meanwhile(
    daemon: Daemon, families: Families, children: str | int, values: tuple[int, int], wanted: int
) -> None:
    first, value = values
    daemon.start(families.rule(value, children, patience(children)))
    families.start(20, first)
    families.wait()
    expect(families.members, wanted, parent=value)
    daemon.wait_for_scan() if children == "inherit" else None
    for _ in range(2):  # after a crash, children whose fork event was not read yet are unknown
        daemon.status()

    daemon.kill()
    families.kill_parents()
    daemon.start(families.rule(value, children))
    expect(families.members, wanted)
    daemon.kill()
    daemon.start('[daemon]\nscan_interval = "1h"\n')

    expect(families.members, first)


def test_restore_on_exit(daemon: Daemon, families: Families) -> None:
    config = families.rule(500, 250).replace("[daemon]", '[daemon]\non_exit = "restore"')
    daemon.start(config)
    families.start(20, 0)
    families.wait()
    expect(families.members, 250, parent=500)

    assert daemon.stop() == 0

    expect(families.members, 0)


def test_descendant_of(daemon: Daemon, families: Families, processes: Processes) -> None:
    config = (
        families.rule(500, "reset")
        + f"""
[[rule]]
name = "below"
exe = "{families.other}"
descendant_of = "parents"
oom_score_adj = 400
"""
    )
    daemon.start(config)
    unrelated = processes.start(families.other, "100")
    families.start(20, 0)
    families.wait()
    below = dict.fromkeys((kind.replace("-", "_") for kind in OTHERS), 400)
    members = {kind.replace("-", "_"): pids for kind, pids in families.members.items()}
    expect(members, 0, parent=500, **below)

    daemon.kill()
    families.kill_parents()
    del members["parent"]
    daemon.start(config)
    expect(members, 0, **below)
    assert oom_score_adj(unrelated) == 0
    daemon.write(families.rule(500, "reset"))
    daemon.reload()

    expect(members, 0)


def test_children_of_a_program_that_is_fitted_later(daemon: Daemon, families: Families, processes: Processes) -> None:
    """A rule that is written for what runs already reaches those whose parent has died since the daemon came."""
    daemon.start(families.rule(300, 100).replace("parents", "others").replace(str(families.parent), "/nonexistent"))
    families.start(20, 0)
    families.wait()

    daemon.write(families.rule(500, 250))
    daemon.reload()

    families.leave_out("daemon")
    wait_for_value(families.pids("parent"), 500)
    expect(families.members, 250, parent=500)
