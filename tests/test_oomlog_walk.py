"""Real OOM reports with facts, where the folder is at hand: $OOM_LOGS, or shared/oom-logs beside the checkout."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from oomwatchd.ctl.postmortem import as_json
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.source import kills

LOGS = Path(os.environ.get("OOM_LOGS") or Path(__file__).parents[2] / "shared" / "oom-logs")
FACTS = sorted(LOGS.glob("*.json"))

pytestmark = pytest.mark.skipif(
    not FACTS, reason=f"no logs in {LOGS}; set OOM_LOGS to a folder of NNN-name.log and .json"
)

# Where a fact says less than its log. 043: "table head cut: 8 visible rows", which are read.
# 047: the header is wrapped by a mailer, and joined.
BEYOND_FACTS = {("043-rocky8-mempolicy", "table_rows"), ("047-mglru-wrapped-6.8", "table_columns")}


def events(facts: Path) -> list[OomKill]:
    failures: list[Exception] = []
    found = list(kills([str(facts.with_suffix(".log"))], failures.append))
    assert not failures
    return found


def read_as_facts(kill: OomKill) -> dict[str, Any]:
    """What the program puts out, under the names of the facts; and what only the parser knows."""
    out = as_json(kill)
    asked = out["invoker"]
    return {
        **{key: out[key] for key in ("kernel", "constraint", "task_memcg", "no_killable", "panic")},
        "invoker": asked["comm"],
        "invoker_pid": asked["pid"],
        "gfp_mask": asked["gfp_mask"],
        "order": asked["order"],
        "invoker_oom_score_adj": asked["oom_score_adj"],
        "scope": out["scope"] or "unknown",
        "sysrq": out["scope"] == "sysrq",
        "oom_memcg": out["memcg"],
        "table_rows": None if out["tasks"] is None else len(out["tasks"]),
        "table_columns": None if kill.columns is None else list(kill.columns),
        "selected": None if kill.chosen is None else {"pid": kill.chosen.pid, "comm": kill.chosen.comm},
        "score": None if kill.chosen is None else kill.chosen.score,
        "reaped": list(kill.reaped),
        "group": kill.group,
    }


@pytest.mark.parametrize("facts", FACTS, ids=lambda path: path.stem)
def test_every_fact(facts: Path) -> None:
    expected = json.loads(facts.read_text())
    found = events(facts)
    assert len(found) == expected["n_events"]
    for kill, event in zip(found, expected["events"], strict=True):
        read = read_as_facts(kill)
        for key, value in read.items():
            if (facts.stem, key) not in BEYOND_FACTS:
                assert value == event[key], key
        out = as_json(kill)
        assert (out["victim"] is None) == (event["victim"] is None)
        # Keys that a fact leaves out aren't asserted by it.
        assert (event["victim"] or {}).items() <= (out["victim"] or {}).items()
        assert [one["pid"] for one in out["also_killed"]] == [one["pid"] for one in event["also_killed"]]
        for one, fact in zip(out["also_killed"], event["also_killed"], strict=True):
            assert fact.items() <= one.items()


def test_replay_agrees_with_the_kernel() -> None:
    """In at least 95 % of the whole reports with a table. One that disagrees belongs here, with its reason; there is
    none so far. (Not replayed: panic_on_oom, and tables without a swap column where swap could decide.)"""
    verdicts = []
    for facts in FACTS:
        for index, kill in enumerate(events(facts)):
            out = as_json(kill)
            if out["replay"] is not None and not out["truncated"]:
                verdicts.append((out["replay"]["agrees"], facts.stem, index))
    wrong = [verdict for verdict in verdicts if not verdict[0]]
    assert len(wrong) <= 0.05 * len(verdicts), wrong
