"""Whether a process fits a rule, and why not. Pure."""

from dataclasses import dataclass

from oomwatchd.rules.criteria import CRITERIA, Form, Process
from oomwatchd.rules.model import Criterion, Rule, Searched

_SHOWN = 200
"""The number of characters that are shown of a text in which a search took too long."""

Found = str | int | bool | list[str] | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a rule doesn't fit: the first criterion that doesn't hold, what it wants, and what was found (None: the fact
    was refused)."""

    key: str
    wanted: str | list[str] | bool
    found: Found


def holds(criterion: Criterion, process: Process) -> bool | None:
    """Whether the criterion holds for the process. None: the fact was refused, or a search in it takes too long. For
    `exe` only the path is compared, not whether it was verified."""
    row = CRITERIA[criterion.key]
    value = getattr(process, row.fact)
    if value is None:
        return None
    if row.form is Form.FLAG:
        return value is criterion.flag
    if row.form is Form.RULE:
        return not process.ancestors.isdisjoint(criterion.names)
    if row.form is Form.ID:
        return criterion.ids.issuperset(value)
    if not value and criterion.key != "cmdline":
        return False
    return criterion.matches(value)


def mismatch(rule: Rule, process: Process) -> Mismatch | None:
    """The first reason why `rule` doesn't fit `process`; None: it fits."""
    if not rule.enabled:
        return Mismatch("enabled", True, False)
    for criterion in rule.criteria:
        if holds(criterion, process) is not True:
            return Mismatch(criterion.key, criterion.wanted, _found(criterion, process))
        if criterion.key == "exe" and rule.can_lower and process.exe_verified is not True:
            return Mismatch(criterion.key, criterion.wanted, _doubtful(process))
    if rule.excluded:
        results = [holds(criterion, process) for criterion in rule.excluded]
        if False not in results:
            wanted = [f"{c.key} = {_shown(c.wanted)}" for c in rule.excluded]
            found = None if None in results else [f"{c.key} = {_shown(_found(c, process))}" for c in rule.excluded]
            return Mismatch("not", wanted, found)
    return None if rule.containers else container_mismatch(rule, process)


def container_mismatch(rule: Rule, process: Process) -> Mismatch | None:
    """The mismatch if `process` is in a container and `rule` isn't for containers; else None. For a rule that can
    lower, every process in another PID namespace counts as in a container."""
    if process.foreign_pid_ns is False:
        return None
    if rule.can_lower:
        found = None if process.foreign_pid_ns is None else "another PID namespace"
        return Mismatch("containers", "this PID namespace", found)
    if process.container is False:
        return None
    return Mismatch("containers", "no container", None if process.container is None else "a container")


def _found(criterion: Criterion, process: Process) -> Found:
    """The value of the fact, for people."""
    row = CRITERIA[criterion.key]
    value = getattr(process, row.fact)
    if value is None:
        return None
    if isinstance(value, Searched) and criterion.matches(value) is None:
        return f"{value[:_SHOWN]}… (takes too long to search)"
    if row.form is Form.RULE:
        return sorted(value)
    if row.form is Form.ID:
        real, saved = value
        return int(real) if real == saved else f"{real}, saved {saved}"
    return bool(value) if row.form is Form.FLAG else str(value)


def _doubtful(process: Process) -> str | None:
    """The path of an executable that isn't verified, and why it isn't."""
    return f"{process.exe} ({process.exe_doubt})" if process.exe_doubt else None


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " or ".join(value) if isinstance(value, list) else str(value)
