"""Whether a process fits a rule, and why not. Pure."""

from dataclasses import dataclass

from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.model import Criterion, Process, Rule, Searched

_SHOWN = 200
"""Characters of a text that takes too long."""

Found = str | int | bool | list[str] | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a rule doesn't fit: the first criterion that fails, what it wants, what was found (None: refused)."""

    key: str
    wanted: str | list[str] | bool
    found: Found


def holds(criterion: Criterion, process: Process) -> bool | None:
    """Whether the process meets the criterion; None where the fact was refused, or a search in it takes too long."""
    row = CRITERIA[criterion.key]
    value = getattr(process, row.fact)
    if value is None:
        return None
    if row.form is Form.FLAG:
        return value is criterion.flag
    if row.form is Form.RULE:
        return not process.ancestors.isdisjoint(criterion.names)
    if row.form is Form.ID:
        return value in criterion.ids
    if not value and criterion.key != "cmdline":
        return False
    found = criterion.matches(value)
    if not found:
        return found
    return process.exe_verified if criterion.key == "exe" else True


def mismatch(rule: Rule, process: Process) -> Mismatch | None:
    """The first thing that keeps `process` from fitting `rule`; None if it fits."""
    if not rule.enabled:
        return Mismatch("enabled", True, False)
    for criterion in rule.criteria:
        if holds(criterion, process) is not True:
            return Mismatch(criterion.key, criterion.wanted, _found(criterion, process))
    if rule.excluded:
        results = [holds(criterion, process) for criterion in rule.excluded]
        if False not in results:
            wanted = [f"{c.key} = {_shown(c.wanted)}" for c in rule.excluded]
            found = None if None in results else [f"{c.key} = {_shown(_found(c, process))}" for c in rule.excluded]
            return Mismatch("not", wanted, found)
    if not rule.containers and process.foreign_pid_ns is not False:
        found_ns = None if process.foreign_pid_ns is None else "another PID namespace"
        return Mismatch("containers", "this PID namespace", found_ns)
    return None


def _found(criterion: Criterion, process: Process) -> Found:
    """The value of the fact, for people."""
    if criterion.key == "exe" and process.exe and criterion.matches(process.exe) and process.exe_doubt:
        return f"{process.exe} ({process.exe_doubt})"
    value = getattr(process, CRITERIA[criterion.key].fact)
    if isinstance(value, Searched) and criterion.matches(value) is None:
        return f"{value[:_SHOWN]}… (takes too long to search)"
    if isinstance(value, frozenset):
        return sorted(value)
    return None if value is None or not isinstance(value, (str, int)) else value


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " or ".join(value) if isinstance(value, list) else str(value)
