"""Checks whether rules protect so much that too little memory on this machine can be freed by killing."""

from collections import Counter
from collections.abc import Iterable, Sequence

from oomwatchd.base.uapi import OOM_SCORE_ADJ_MIN
from oomwatchd.config.problems import Problem
from oomwatchd.oom.processes import OomProcess, read_processes
from oomwatchd.oom.small_files import PAGE
from oomwatchd.pinning.what_if import preview_rules
from oomwatchd.rules.model import Rule

_SHARE = 0.5
"""Rules protect too much if more than this share of the memory of all processes is out of the OOM killer's reach."""


def too_wide(rules: Sequence[Rule], proc: str = "/proc") -> list[Problem]:
    """A warning at the rule that protects the most memory, if rules would put most of the memory out of the OOM
    killer's reach."""
    if not any(rule.enabled and rule.action.low == OOM_SCORE_ADJ_MIN for rule in rules):
        return []
    processes, _ = read_processes(proc)
    previews = preview_rules(rules, processes, proc=proc)
    protected: Counter[str] = Counter()
    for process in processes:
        preview = previews[process.task.pid]
        if preview.value == OOM_SCORE_ADJ_MIN:
            protected[preview.rule] += process.task.memory
    everything, rest = sum(process.task.memory for process in processes), _others(processes, protected)
    held = [name for name, _ in protected.most_common() if name]
    if not held or everything - rest <= everything * _SHARE:
        return []
    worst = next(rule for rule in rules if rule.name == held[0])
    percent = 100 * (everything - rest) // everything
    message = (
        f"Rule '{worst.name}': {percent} % of the memory that processes have on this machine now would be unkillable, "
        f"{_mib(protected[worst.name])} MiB of it by this rule; when the rest doesn't suffice, the kernel panics"
    )
    return [Problem(worst.file, worst.line, 1, message)]


def _others(processes: Iterable[OomProcess], protected: Counter[str]) -> int:
    return sum(process.task.memory for process in processes) - sum(protected.values())


def _mib(pages: int) -> int:
    return pages * PAGE >> 20
