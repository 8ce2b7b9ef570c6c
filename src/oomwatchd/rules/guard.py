"""Which rules may lower a value: those that name a criterion that says who controls the process. Pure."""

from collections.abc import Iterable

from oomwatchd.rules.criteria import CRITERIA
from oomwatchd.rules.model import Criterion, Rule


def guarded_rules(rules: Iterable[Rule]) -> tuple[bool, ...]:
    """For each rule whether it may lower a value.

    A rule may if it says `spoofable = true`, or if one of its criteria says who controls the process. A descendant_of
    says so if each rule that it names has such a criterion itself: a rule that is only spoofable has none, and rules
    that name each other in a circle have none. The criteria in `not` don't count, since they say nothing about the
    processes that are left."""
    known = tuple(rules)
    says_who = {rule.name for rule in known if any(_says_who(criterion) for criterion in rule.criteria)}
    waiting = [rule for rule in known if rule.name not in says_who]
    grown = True
    while grown:
        grown = False
        for rule in waiting:
            if rule.name not in says_who and any(_descends_from(criterion, says_who) for criterion in rule.criteria):
                says_who.add(rule.name)
                grown = True
    # Not by `says_who` alone: two rules may have the same name by mistake, and each counts by its own criteria.
    return tuple(
        rule.spoofable or any(_says_who(c) or _descends_from(c, says_who) for c in rule.criteria) for rule in known
    )


def _says_who(criterion: Criterion) -> bool:
    return CRITERIA[criterion.key].says_who is True


def _descends_from(criterion: Criterion, says_who: set[str]) -> bool:
    """Whether the criterion is a descendant_of that names only rules in `says_who`."""
    if CRITERIA[criterion.key].says_who is not None or not criterion.names:
        return False
    return says_who.issuperset(criterion.names)


def guards() -> tuple[str, ...]:
    """The criteria that say who controls a process."""
    return tuple(row.key for row in CRITERIA.values() if row.says_who)
