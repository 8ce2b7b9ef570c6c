"""The output of `oomwatchctl explain` for programs, as oomwatchctl(1) describes it."""

from collections.abc import Mapping

from oomwatchd.base.text import decode
from oomwatchd.ctl.examine import Explanation, RuleVerdict
from oomwatchd.ctl.explain_text import next_step
from oomwatchd.ctl.origin import Origin, find_origin


def as_json(explanation: Explanation) -> dict[str, object]:
    """One member of `processes`: the explanation of one process. oomwatchctl(1) describes the keys."""
    process, decided = explanation.process, explanation.decided
    comes_from = find_origin(explanation)
    return {
        "pid": explanation.pid,
        "comm": None if process is None else decode(process.comm),
        "exe": decode(process.exe) if process is not None and process.exe else None,
        "exe_verified": None if process is None else process.exe_verified,
        "uid": None if process is None else process.uid,
        "unit": decode(process.unit) if process is not None and process.unit else None,
        "oom_score_adj": explanation.value,
        "decision": {
            "rule": None if decided is None else decided.name,
            "action": explanation.action,
            "target": explanation.target,
        },
        "rules": [_verdict_json(verdict) for verdict in explanation.verdicts],
        "note": explanation.note or None,
        "value_from": None if comes_from is None else _origin_json(comes_from),
        "next": next_step(explanation),
        "cmdline_cut": process is not None and process.cmdline_cut,
    }


def _origin_json(comes_from: Origin) -> Mapping[str, object]:
    comm, unit = comes_from.comm, comes_from.unit
    return {
        "kind": comes_from.kind,
        "rule": comes_from.rule,
        "pid": comes_from.pid,
        "comm": None if comm is None else decode(comm),
        "unit": None if unit is None else decode(unit),
    }


def _verdict_json(verdict: RuleVerdict) -> Mapping[str, object]:
    rule, failed = verdict.rule, verdict.failed
    return {
        "rule": rule.name,
        "file": rule.file or None,
        "line": rule.line or None,
        "fits": failed is None,
        "failed": None
        if failed is None
        else {"key": failed.key, "wanted": _plain(failed.wanted), "found": _plain(failed.found)},
    }


def _plain(value: object) -> object:
    if isinstance(value, str):
        return decode(value)
    return [_plain(member) for member in value] if isinstance(value, list) else value
