"""What rules are made of. Pure: touches no file."""

import fnmatch
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from oomwatchd.base.uapi import OOM_ADJUST_MAX, OOM_DISABLE, OOM_SCORE_ADJ_MAX

NO, YES, OVERDUE = 0, 1, 2
"""Results of a search. OVERDUE: the search has exceeded its budget of time."""


class Searched(str):
    """A text in which searches can take long, and the results of the searches that were done."""

    found: Mapping[str, int]
    """The result (NO, YES or OVERDUE) by the text of the regular expression."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One string of a criterion: literal, shell glob over the whole value (fnmatch(3) without escapes and without
    special treatment of slashes), or unanchored regular expression."""

    text: str
    regex: re.Pattern[str] | None = None
    """None: the pattern is literal, or a glob whose only wildcard is a star at its end."""
    is_glob: bool = False

    def matches(self, value: str) -> bool | None:
        """Whether the pattern matches `value`. None: finding out takes too long."""
        if self.regex is None:
            return value.startswith(self.text[:-1]) if self.is_glob else value == self.text
        if isinstance(value, Searched):
            found = value.found.get(self.regex.pattern, OVERDUE)
            return None if found == OVERDUE else found == YES
        return self.regex.search(value) is not None

    @property
    def literal(self) -> bool:
        """Whether the pattern matches exactly its text."""
        return self.regex is None and not self.is_glob

    def __str__(self) -> str:
        return self.text if self.literal or self.is_glob else f"regex {self.text}"


def literal_or_glob(text: str) -> Pattern:
    """A pattern out of a plain string of the configuration."""
    if not any(c in text for c in "*?["):
        return Pattern(text)
    if text.endswith("*") and not any(c in text[:-1] for c in "*?["):
        return Pattern(text, is_glob=True)
    return Pattern(text, re.compile(r"\A" + _translated(text)), is_glob=True)


def _translated(glob: str) -> str:
    """The regular expression for a glob. Behind the last "]", each "[" is a plain character: fnmatch.translate() would
    look for the end of each in all that follows."""
    head, bracket, tail = glob.rpartition("]")
    if "[" not in tail:
        return fnmatch.translate(glob)
    end = len(r"\Z")  # from Python 3.14 on, \z
    return fnmatch.translate(head + bracket)[:-end] + fnmatch.translate(tail.replace("[", "[[]"))


def regex(text: str) -> Pattern:
    """A pattern out of `{ regex = text }`. Raises re.error."""
    with warnings.catch_warnings():  # about sets within sets: lint has a warning of its own for these
        warnings.simplefilter("ignore")
        return Pattern(text, re.compile(text))


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion of a rule. Its form (`criteria.CRITERIA`) says which of `patterns`, `names`, `ids` and `flag` is in
    use."""

    key: str
    patterns: tuple[Pattern, ...] = ()
    """In use for the form TEXT."""
    names: tuple[str, ...] = ()
    """In use for the forms ID (users or groups as they are written) and RULE (names of rules)."""
    ids: frozenset[int] = frozenset()
    """In use for the form ID: the numbers that the names stand for now. A name that doesn't exist has none."""
    flag: bool = False
    """In use for the form FLAG."""

    def matches(self, value: str) -> bool | None:
        """Whether one of the patterns matches `value`. None: none is known to match, but one takes too long to find
        out."""
        overdue = False
        for pattern in self.patterns:
            found = pattern.matches(value)
            if found:
                return True
            overdue = overdue or found is None
        return None if overdue else False

    @property
    def wanted(self) -> str | list[str] | bool:
        """The value of the criterion as it stands in the file, for `explain`."""
        texts = [str(p) for p in self.patterns] or list(self.names)
        if not texts:
            return self.flag
        return texts[0] if len(texts) == 1 else texts


@dataclass(frozen=True, slots=True)
class Action:
    """What a rule wants `oom_score_adj` to be: at least `low` and at most `high` (None: no such bound). If both are the
    same, exactly this value. With `ignore`, the process is left alone."""

    low: int | None = None
    high: int | None = None
    ignore: bool = False

    @property
    def exact(self) -> bool:
        """Whether the action asks for exactly one value."""
        return self.low is not None and self.low == self.high

    @property
    def asks_to_lower(self) -> bool:
        """Whether the action is meant to lower a value. An exact value from 0 up isn't: see `Rule.target`."""
        if self.high is None:
            return False
        return self.high < 0 if self.exact else self.high < OOM_SCORE_ADJ_MAX

    def __str__(self) -> str:
        if self.ignore:
            return "ignore"
        if self.exact:
            return str(self.low)
        low = [] if self.low is None else [f"at least {self.low}"]
        high = [] if self.high is None else [f"at most {self.high}"]
        return ", ".join(low + high)


INHERIT, RESET = "inherit", "reset"


@dataclass(frozen=True, slots=True)
class Rule:
    """One [[rule]] that has been checked. `children` None is the default: "reset" for a pin that lowers, "inherit" for
    one that raises."""

    name: str
    criteria: tuple[Criterion, ...]
    action: Action
    excluded: tuple[Criterion, ...] = ()
    """`not`: a process for which all of these hold doesn't fit."""
    children: str | int | None = None
    containers: bool = False
    spoofable: bool = False
    enabled: bool = True
    description: str = ""
    file: str = ""
    line: int = 0
    guarded: bool = True
    """Whether the rule may lower a value: see rules/guard.py."""

    def target(self, original: int) -> int:
        """The value for a process that has `original` without the rule. A rule that isn't guarded never lowers: its
        exact value is only a lower bound."""
        low, high = self.action.low, self.action.high
        if low is not None and (original < low or (low == high and not self.guarded)):
            return max(original, low)
        return original if high is None or original < high else high

    def child_value(self, target: int, original: int) -> int:
        """The value for a descendant that no rule fits. `target`: the value of the pinned process above it. `original`:
        the value which that one had before the pin."""
        policy = self.children
        if policy is None:
            policy = RESET if target < original else INHERIT
        if policy == INHERIT:
            return target
        if policy == RESET:
            return original
        return int(policy) if self.guarded else max(original, int(policy))

    @property
    def asks_to_lower(self) -> bool:
        """Whether the rule is meant to lower the value of a process that it fits, or of a descendant. Such a rule is
        refused if it isn't guarded."""
        if self.action.ignore:
            return False
        return self.action.asks_to_lower or (isinstance(self.children, int) and self.children < 0)

    @property
    def can_lower(self) -> bool:
        """Whether the rule can lower a value, so that a user could gain by making it fit a process. A guarded rule can
        lower also by an exact value from 0 up, if the process had more."""
        if self.action.ignore or not self.guarded:
            return False
        values = (self.action.high, self.children)
        return any(isinstance(value, int) and value < OOM_SCORE_ADJ_MAX for value in values)

    def criterion(self, key: str) -> Criterion | None:
        """The criterion with this key; None: the rule has none."""
        return next((c for c in self.criteria if c.key == key), None)


def oom_adj_to_score(oom_adj: int) -> int:
    """The kernel's conversion of the legacy value (fs/proc/base.c, oom_adj_write): -17…15 to -1000…1000."""
    if oom_adj == OOM_ADJUST_MAX:
        return OOM_SCORE_ADJ_MAX
    return int(oom_adj * OOM_SCORE_ADJ_MAX / -OOM_DISABLE)
