"""The names and IDs by which the filter in the kernel drops programs that no rule can fit. Pure.

The filter may let too many programs through, but never too few: each program that a rule fits has one of these names or
IDs, but no rule needs to fit a program that has one. The daemon checks all that come through."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oomwatchd.rules.model import Criterion, Pattern, Rule

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class KernelNames:
    """Names and IDs of some rules. These rules can't fit a program that has none of the names and IDs."""

    exes: frozenset[str] = frozenset()
    """Names of executables, without their directories."""
    comms: frozenset[str] = frozenset()
    """Whole task names."""
    comm_prefixes: frozenset[str] = frozenset()
    """Beginnings of task names."""
    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()

    @classmethod
    def union(cls, several: Sequence["KernelNames"]) -> "KernelNames":
        """All names and IDs of `several`. They are joined at once: joining them one after the other would take
        quadratic time for thousands of rules."""
        return cls(
            frozenset().union(*(names.exes for names in several)),
            frozenset().union(*(names.comms for names in several)),
            frozenset().union(*(names.comm_prefixes for names in several)),
            frozenset().union(*(names.uids for names in several)),
            frozenset().union(*(names.gids for names in several)),
        )


def of_rule(rule: Rule) -> KernelNames | None:
    """The names and IDs of which a program must have one for `rule` to fit it. None: the rule has no criterion that the
    kernel could compare."""
    by_key = {criterion.key: criterion for criterion in rule.criteria}
    for key in ("exe", "comm", "descendant_of", "user", "group"):  # the most selective first
        names = _of_criterion(by_key[key]) if key in by_key else None
        if names is not None:
            return names
    return None


def of_rules(rules: Iterable[Rule]) -> KernelNames | Rule:
    """The names and IDs of which a program must have one for any enabled rule to fit it. Returns a rule instead if that
    rule has no criterion that the kernel could compare: the first such rule."""
    found: list[KernelNames] = []
    for rule in rules:
        if not rule.enabled:
            continue
        names = of_rule(rule)
        if names is None:
            return rule
        found.append(names)
    return KernelNames.union(found)


def _of_criterion(criterion: Criterion) -> KernelNames | None:
    if criterion.key == "descendant_of":
        return KernelNames()  # the filter lets all events of descendants of pinned processes through
    if criterion.key == "user":
        return KernelNames(uids=criterion.ids)
    if criterion.key == "group":
        return KernelNames(gids=criterion.ids)
    if criterion.key == "exe":
        exes = [_last_component(pattern) for pattern in criterion.patterns]
        return None if None in exes else KernelNames(exes=frozenset(name for name in exes if name))
    starts = [_literal_start(pattern) for pattern in criterion.patterns]
    if "" in starts:
        return None
    literal = [pattern.literal for pattern in criterion.patterns]
    return KernelNames(
        comms=frozenset(start for start, whole in zip(starts, literal, strict=True) if whole),
        comm_prefixes=frozenset(start for start, whole in zip(starts, literal, strict=True) if not whole),
    )


def _last_component(pattern: Pattern) -> str | None:
    """The last component of all paths that a pattern matches. None: it isn't the same for all."""
    if pattern.literal:
        return pattern.text.rpartition("/")[2]
    if not pattern.is_glob:
        return None
    directories, slash, name = pattern.text.rpartition("/")
    # A slash between brackets doesn't separate components.
    return name if slash and not set(_WILD + "]") & set(name) and directories else None


def _literal_start(pattern: Pattern) -> str:
    """The literal text with which every value begins that the pattern matches. Empty: there is none."""
    if pattern.literal:
        return pattern.text
    if not pattern.is_glob:
        return ""
    return pattern.text[: min(pattern.text.find(sign) for sign in _WILD if sign in pattern.text)]
