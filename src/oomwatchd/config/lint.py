"""Warns of rules that are valid, but may not do what was meant. Pure, except that it looks at the files that rules
name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from oomwatchd.base.uapi import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomwatchd.config import lint_paths
from oomwatchd.config.lint_texts import texts
from oomwatchd.config.load import Config
from oomwatchd.config.places import Places
from oomwatchd.config.problems import Problem
from oomwatchd.config.shadows import fits_nothing, shadowed
from oomwatchd.config.toml_positions import Path
from oomwatchd.rules import kernel_names
from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.model import INHERIT, Criterion, Pattern, Rule

_OLD_SCALE = {-17: "which is -1000 today", -16: "", 15: "which is 1000 today"}
"""Values that people know from the old oom_adj, and what to add about them in a warning."""


@dataclass(frozen=True, slots=True)
class LintWarning:
    """A warning about one rule."""

    rule: int
    """The number of the rule, from 0."""
    key: Path
    """The key that the warning is about, as a path in the rule's table; empty: the rule as a whole."""
    message: str


def warnings(config: Config) -> list[Problem]:
    """All warnings, in the order of the rules."""
    rules = config.rules
    places = Places(config.sources, rules)
    found = [finding for number, rule in enumerate(rules) if rule.enabled for finding in _rule(number, rule)]
    for number, other in shadowed(rules):
        found.append(LintWarning(number, (), _shadow(rules[number], rules[other])))
    found += _descent(rules)
    found += _unfilterable(rules)
    found.sort(key=lambda finding: finding.rule)
    return [places.problem(finding.rule, finding.key, finding.message) for finding in found]


def _unfilterable(rules: Sequence[Rule]) -> Iterator[LintWarning]:
    """Warn of rules without which the filter in the kernel could drop the programs that no rule can fit."""
    active = [number for number, rule in enumerate(rules) if rule.enabled]
    open_rules = [number for number in active if kernel_names.of_rule(rules[number]) is None]
    if not open_rules or len(open_rules) == len(active):
        return
    others = f", nor do {len(open_rules) - 1} more" if len(open_rules) > 1 else ""
    yield LintWarning(
        open_rules[0],
        (),
        f"it names nothing that the kernel can compare{others}, so the daemon wakes up for every program that starts, "
        "some 0.1 ms of CPU each; without it the kernel reports only programs that the other rules may fit. It can "
        "compare an exe whose last component is literal, a comm that begins with a literal, user, group, descendant_of",
    )


def _rule(number: int, rule: Rule) -> Iterator[LintWarning]:
    for key, message in (*_whole(rule), *_value(rule), *_children(rule), *_vague_guard(rule)):
        yield LintWarning(number, key, message)
    for criterion in rule.criteria:
        for at, message in _criterion(criterion):
            yield LintWarning(number, (criterion.key, at), message)
    for criterion in rule.excluded:
        for at, message in _criterion(criterion):
            yield LintWarning(number, ("not", criterion.key, at), f"not: {message}")


def _criterion(criterion: Criterion) -> Iterator[tuple[int, str]]:
    for at, pattern in enumerate(criterion.patterns):
        found = next(texts(criterion.key, pattern), "")
        if not found and criterion.key == "exe" and (pattern.literal or pattern.is_glob):
            found = lint_paths.path(pattern.text, is_glob=pattern.is_glob)
        if found:
            yield at, found


def _whole(rule: Rule) -> Iterator[tuple[Path, str]]:
    if not rule.criteria:
        yield (), "it asks for nothing, so that it fits every process, and no rule behind it is ever tried"
    if fits_nothing(rule):
        yield ("not",), "not excludes all that the rule asks for, so that it fits nothing"


def _value(rule: Rule) -> Iterator[tuple[Path, str]]:
    action = rule.action
    if action.ignore:
        return
    key: Path = ("oom_score_adj",)
    low, high = action.low, action.high
    exact = action.exact and low is not None
    if exact and low in _OLD_SCALE:
        meaning = f", {_OLD_SCALE[low]}" if _OLD_SCALE[low] else ""
        yield (
            key,
            f"oom_score_adj = {low} is next to nothing; if the old scale is meant, write oom_adj = {low}{meaning}",
        )
    if (low in (None, OOM_SCORE_ADJ_MIN)) and high in (None, OOM_SCORE_ADJ_MAX):
        yield key, "these bounds are the whole range, so that no value is ever changed"
    if exact and not rule.guarded and low is not None and 0 <= low < OOM_SCORE_ADJ_MAX:
        yield (
            key,
            f"oom_score_adj = {low} never lowers a value, as if it were {{ at_least = {low} }}: any user can make what "
            "the rule asks for true of any program",
        )


def _children(rule: Rule) -> Iterator[tuple[Path, str]]:
    if rule.children is None:
        return
    if rule.action.ignore:
        yield ("children",), "children says nothing in a rule with ignore: no process is pinned by it"
    elif rule.action.high == OOM_SCORE_ADJ_MIN and rule.children in (INHERIT, OOM_SCORE_ADJ_MIN):
        yield (
            ("children",),
            "whatever these processes start can't be killed either, login shells and jobs included; "
            'children = "reset" gives it back what it would have',
        )


def _vague_guard(rule: Rule) -> Iterator[tuple[Path, str]]:
    """Warn if the criteria that say who controls the process hold for every process."""
    guarding = [criterion for criterion in rule.criteria if CRITERIA[criterion.key].says_who]
    if rule.can_lower and guarding and all(any(map(_is_anything, c.patterns)) for c in guarding):
        shown = " and ".join(f"{c.key} = '{next(filter(_is_anything, c.patterns))}'" for c in guarding)
        message = f"{shown} holds for the programs of every user, and the rule can lower; name whose may gain by it"
        yield (guarding[0].key,), message


def _is_anything(pattern: Pattern) -> bool:
    """Whether a pattern matches every value."""
    return not pattern.text.strip("*?") if pattern.is_glob else not pattern.literal and pattern.matches("") is True


def _shadow(rule: Rule, other: Rule) -> str:
    from oomwatchd.config.shadows import covers

    where = f"rule '{other.name}' at {other.file}:{other.line}"
    if covers(rule, other):
        return f"a duplicate: it asks for the same as {where}, which comes first, so that this one never decides"
    return f"never decides: {where} comes first and fits all that it fits"


def _descent(rules: Sequence[Rule]) -> Iterator[LintWarning]:
    """Warn of rules whose descendant_of names a rule that can't pin any process."""
    by_name = {rule.name: rule for rule in rules}
    pinning = _pinning(rules)
    for number, rule in enumerate(rules):
        if not rule.enabled:
            continue
        for criterion in _by_descent(rule):
            others = [by_name[name] for name in criterion.names if name in by_name]
            if not others or any(other.name in pinning for other in others):
                continue
            other = others[0]
            if not other.enabled:
                why = f"rule '{other.name}' is disabled"
            elif other.action.ignore:
                why = f"rule '{other.name}' holds nobody: it says ignore = true"
            else:
                why = f"it and rule '{other.name}' wait for each other in a circle"
            yield LintWarning(number, (criterion.key,), f"descendant_of fits nothing: {why}")


def _by_descent(rule: Rule) -> list[Criterion]:
    return [criterion for criterion in rule.criteria if CRITERIA[criterion.key].form is Form.RULE]


def _pinning(rules: Sequence[Rule]) -> set[str]:
    """The names of the rules that can pin a process. A rule with descendant_of can only if one of the rules that it
    names can."""
    waiting = [rule for rule in rules if rule.enabled and not rule.action.ignore]
    pinning: set[str] = set()
    while True:
        able = [r for r in waiting if all(not pinning.isdisjoint(c.names) for c in _by_descent(r))]
        if not able:
            return pinning
        pinning.update(rule.name for rule in able)
        waiting = [rule for rule in waiting if rule.name not in pinning]
