"""Requests that change something, as programs send them that aren't oomwatchctl."""

from pathlib import Path
from typing import Any

import pytest

from oomwatchd.control.protocol import LINEAGE_PIDS
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value

PIN, VALUE, SECONDS = "pin takes a PID and a value from -1000 to 1000", 5, "pin takes seconds up to 3162240000"
BEYOND = 3162240000
LINEAGE = f"lineage takes at most {LINEAGE_PIDS} PIDs"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        *(({"verb": "pin", "pid": pid, "value": VALUE}, PIN) for pid in ("1", None, True, 0, -5, 1 << 31, 7.0, [7])),
        *(({"verb": "pin", "pid": 7, "value": value}, PIN) for value in (1001, -1001, None, True, "5", 5.0)),
        ({"verb": "pin"}, PIN),
        *(
            ({"verb": "pin", "pid": 7, "value": VALUE, "seconds": seconds}, SECONDS)
            for seconds in (0, -1, BEYOND + 1, "5", True, [5])
        ),
        *(({"verb": "unpin", "pid": pid}, "unpin takes a PID") for pid in ("1", None, True, 0, 1 << 31)),
        *(({"verb": "lineage", "pids": pids}, LINEAGE) for pids in (None, 7, ["7"], [7] * (LINEAGE_PIDS + 1))),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_makes_no_sense_changes_nothing(request_: dict[str, Any], error: str, standing: Daemon) -> None:
    assert standing.ask(**request_) == {"error": error}
    assert standing.pins() == {}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One daemon for all requests that change nothing."""
    running = Daemon(tmp_path_factory.mktemp("standing"))
    running.start(rule("/nothing", scan="1h"))
    yield running
    running.end()


def test_the_limits_are_taken(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule("/nothing", scan="1h"))
    pid = processes.start(target, "600")

    assert daemon.ask("pin", pid=pid, value=1000, seconds=BEYOND)["ok"]
    assert oom_score_adj(pid) == 1000
    assert daemon.ask("pin", pid=pid, value=500, seconds=0.5)["ok"]
    wait_for_value(pid, 0)


def test_a_pin_is_refused_after_restore_until_the_next_reload(
    daemon: Daemon, processes: Processes, target: Path
) -> None:
    daemon.start(rule(target, 300, scan="1h"))
    pid = processes.start(target, "600")
    wait_for_value(pid, 300)
    assert daemon.ask("restore") == {"ok": True, "released": 1, "refused": 0, "dry_run": False}

    why = daemon.ask("pin", pid=pid, value=400)
    assert why == {"error": "Nobody is held after `oomwatchctl restore`; run `oomwatchctl reload` first"}
    assert oom_score_adj(pid) == 0
    assert daemon.reload()["ok"]
    assert daemon.ask("pin", pid=pid, value=400)["ok"]

    assert oom_score_adj(pid) == 400


def test_in_a_dry_run_the_reply_says_so(daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "600")
    daemon.start(rule(target, 300, scan="1h"), "--dry-run")

    assert daemon.ask("pin", pid=pid, value=400) == {
        "ok": True, "pid": pid, "value": 400, "until": None, "dry_run": True,
    }  # fmt: skip
    assert daemon.ask("restore")["dry_run"] is True
    assert oom_score_adj(pid) == 0


def test_unpin_says_which_rule_holds_the_process(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, 300, scan="1h"))
    pid = processes.start(target, "600")
    wait_for_value(pid, 300)

    told = daemon.ask("unpin", pid=pid)["error"]
    assert told == f"No pin of `oomwatchctl pin` holds process {pid}; rule 'target' of the configuration holds it"
    assert oom_score_adj(pid) == 300


def test_reload_says_what_is_wrong_and_keeps_what_is_in_force(
    daemon: Daemon, processes: Processes, target: Path
) -> None:
    daemon.start(rule(target, 300, scan="1h"))
    pid = processes.start(target, "600")
    wait_for_value(pid, 300)
    daemon.write(rule(target, 5000))

    verdict = daemon.reload()

    assert verdict["ok"] is False
    assert [error["line"] for error in verdict["errors"]] == [8]
    assert verdict["warnings"] == []
    assert oom_score_adj(pid) == 300
