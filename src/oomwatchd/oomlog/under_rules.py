"""Finds whom the kernel would have taken if given rules had been in force, by the table of tasks in a log. Pure.

A log knows a task's name and user. A rule's `exe` is taken for the name that a program of that file starts with (its
last component, cut to 15 bytes); rules that ask for anything else can't be decided, and are left out and named.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from oomwatchd.base.notyet import settled
from oomwatchd.base.uapi import COMM_MAX, OOM_SCORE_ADJ_MIN
from oomwatchd.oomlog import replay
from oomwatchd.oomlog.record import OomKill, Task
from oomwatchd.rules.criteria import Process
from oomwatchd.rules.model import Criterion, Pattern, Rule, literal_or_glob
from oomwatchd.rules.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class Change:
    """A task that a rule would have given another value."""

    task: Task
    rule: str
    oom_score_adj: int


@dataclass(frozen=True, slots=True)
class ChoiceUnderRules:
    """`first`: whom the kernel would have taken, None if nobody. `left_out`: rules that the log can't decide."""

    first: Task | None
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]


class Rules:
    """Rules, as far as a log can decide them."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        decidable, left_out = [], []
        for rule in rules:
            if not rule.enabled:
                continue
            known = _by_name(rule)
            if known is None:
                left_out.append(rule.name)
            else:
                decidable.append(known)
        self._rules = RuleSet(decidable)
        self.left_out = tuple(left_out)

    def outlook(self, kill: OomKill) -> ChoiceUnderRules | None:
        """The choice under the rules; None where the log doesn't hold what it takes (see `replay.replay`)."""
        if replay.replay(kill) is None:
            return None
        changes = [change for task in kill.tasks or () if (change := self._change(task)) is not None]
        if replay.total_pages(kill) is None and any(change.oom_score_adj != OOM_SCORE_ADJ_MIN for change in changes):
            return None
        values = {change.task: change.oom_score_adj for change in changes}
        ranked = replay.rank(kill, values.get)
        first = ranked[0].task if ranked and ranked[0].points is not None else None
        return ChoiceUnderRules(first, tuple(changes), self.left_out)

    def _change(self, task: Task) -> Change | None:
        process = Process(task.pid, 0, 0, task.comm or "", session_leader=False, uid=task.uid, foreign_pid_ns=False)
        rule = settled(lambda: self._rules.decide(process))
        if rule is None or rule.action.ignore or task.oom_score_adj is None or task.pid == 1:
            return None
        value = rule.target(task.oom_score_adj)
        return None if value == task.oom_score_adj else Change(task, rule.name, value)


def _by_name(rule: Rule) -> Rule | None:
    """The rule in terms of names and users; None if it asks for more."""
    criteria = [_criterion(criterion) for criterion in rule.criteria]
    excluded = [_criterion(criterion) for criterion in rule.excluded]
    known = [one for one in criteria if one is not None]
    known_excluded = [one for one in excluded if one is not None]
    if len(known) < len(criteria) or len(known_excluded) < len(excluded):
        return None
    return replace(rule, criteria=tuple(known), excluded=tuple(known_excluded))


def _criterion(criterion: Criterion) -> Criterion | None:
    if criterion.key in ("comm", "user"):
        return criterion
    if criterion.key != "exe":
        return None
    names = [_name(pattern) for pattern in criterion.patterns]
    known = [name for name in names if name is not None]
    return Criterion("comm", patterns=tuple(known)) if len(known) == len(names) else None


def _name(pattern: Pattern) -> Pattern | None:
    if pattern.regex is not None and not pattern.is_glob:
        return None
    name = os.path.basename(pattern.text)
    if not name.strip("*?"):
        return None  # any program of a directory
    return literal_or_glob(name if pattern.is_glob else os.fsdecode(os.fsencode(name)[:COMM_MAX]))
