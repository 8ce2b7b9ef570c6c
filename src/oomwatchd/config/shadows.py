"""Finds rules that never decide, because an earlier rule fits every process that they fit. Pure."""

from collections.abc import Iterator, Sequence

from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.model import Criterion, Pattern, Rule

_GRAM = 4
"""The length of the piece by which a glob is looked up."""
_BUDGET = 1_000_000
"""The most pairs of rules that are compared, which takes some seconds. Only thousands of very similar rules need as
many."""

Key = tuple[object, ...]


def shadowed(rules: Sequence[Rule]) -> Iterator[tuple[int, int]]:
    """Pairs of numbers: an enabled rule that an earlier rule covers, and the first rule that does. A rule that only
    several others together cover isn't found."""
    index = _Index()
    budget = _BUDGET
    for number, rule in enumerate(rules):
        if not rule.enabled:
            continue
        for other in index.candidates(rule):
            budget -= 1
            if covers(rules[other], rule):
                yield number, other
                break
            if budget < 0:
                return
        index.add(number, rule)


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether `wide` certainly fits every process that `narrow` fits."""
    if narrow.containers and not wide.containers:
        return False
    if not all(any(_implies(given, asked) for given in narrow.criteria) for asked in wide.criteria):
        return False
    if not wide.excluded:
        return True
    # `narrow` must exclude all that `wide` excludes.
    return bool(narrow.excluded) and all(
        any(_implies(given, asked) for given in wide.excluded) for asked in narrow.excluded
    )


def fits_nothing(rule: Rule) -> bool:
    """Whether the rule fits no process, because its `not` excludes all that its criteria ask for."""
    return bool(rule.excluded) and all(any(_implies(g, asked) for g in rule.criteria) for asked in rule.excluded)


def _implies(given: Criterion, asked: Criterion) -> bool:
    """Whether `asked` certainly holds for every process for which `given` holds."""
    if given.key != asked.key:
        return False
    if CRITERIA[given.key].form is Form.FLAG:
        return given.flag is asked.flag
    if given.patterns:
        literal = {pattern.text for pattern in asked.patterns if pattern.literal}
        others = [pattern for pattern in asked.patterns if not pattern.literal]
        return all(
            (narrow.literal and narrow.text in literal) or any(_contains(wide, narrow) for wide in others)
            for narrow in given.patterns
        )
    return set(given.names) <= set(asked.names) or bool(given.ids and given.ids <= asked.ids)


def _contains(wide: Pattern, narrow: Pattern) -> bool:
    """Whether `wide` matches all that `narrow` matches."""
    if (wide.text, wide.is_glob, wide.literal) == (narrow.text, narrow.is_glob, narrow.literal):
        return True
    if narrow.literal:
        return wide.matches(narrow.text) is True
    # A glob whose only wildcards are stars matches all values of another glob if it matches the text of that glob.
    if not (wide.is_glob and narrow.is_glob) or set("?[") & set(wide.text):
        return False
    return wide.matches(narrow.text) is True


class _Index:
    """Finds rules by one of their criteria, so that a rule is compared only with rules that could cover it. A rule that
    covers another one has the same value in this criterion, or a piece of that value."""

    def __init__(self) -> None:
        self._by_key: dict[Key, list[int]] = {}
        self._always: list[int] = []

    def add(self, number: int, rule: Rule) -> None:
        keys = min((self._keys(criterion) for criterion in rule.criteria), key=self._crowd, default=[])
        if not keys:
            self._always.append(number)
        for key in keys:
            self._by_key.setdefault(key, []).append(number)

    def _crowd(self, keys: Sequence[Key]) -> int:
        return sum(len(self._by_key.get(key, ())) for key in keys)

    def candidates(self, rule: Rule) -> list[int]:
        """The numbers of the rules, among those that were added, that may cover `rule`; in ascending order."""
        found = set(self._always)
        for criterion in rule.criteria:
            for key in _looked_up(criterion):
                found.update(self._by_key.get(key, ()))
        return sorted(found)

    def _keys(self, criterion: Criterion) -> list[Key]:
        """The keys by which a covering rule with this criterion is found: one for each member of the criterion's
        list."""
        key, form = criterion.key, CRITERIA[criterion.key].form
        if form is Form.FLAG:
            return [(key, criterion.flag)]
        if form is Form.TEXT:
            return [self._pattern_key(key, pattern) for pattern in criterion.patterns]
        return [(key, "name", name) for name in criterion.names] + [(key, "id", number) for number in criterion.ids]

    def _pattern_key(self, key: str, pattern: Pattern) -> Key:
        if pattern.literal:
            return (key, "text", pattern.text)
        if not pattern.is_glob:
            return (key, "regex")
        if set("?[") & set(pattern.text):
            return (key, "wild")
        piece = max(pattern.text.split("*"), key=len)
        grams = [piece[i : i + _GRAM] for i in range(max(len(piece) - _GRAM + 1, 1))]
        return min(((key, "piece", gram) for gram in grams), key=lambda k: len(self._by_key.get(k, ())))


def _looked_up(criterion: Criterion) -> Iterator[Key]:
    """The keys by which to look for the rules that cover a rule with this criterion. The first member of its list is
    enough."""
    key, form = criterion.key, CRITERIA[criterion.key].form
    if form is Form.FLAG:
        yield (key, criterion.flag)
        return
    if form is not Form.TEXT:
        yield from ((key, "name", name) for name in criterion.names[:1])
        yield from ((key, "id", number) for number in list(criterion.ids)[:1])
        return
    for pattern in criterion.patterns[:1]:
        text = pattern.text
        yield (key, "regex")
        yield (key, "wild")
        if pattern.literal:
            yield (key, "text", text)
        if pattern.literal or pattern.is_glob:
            for length in range(_GRAM + 1):
                yield from ((key, "piece", text[i : i + length]) for i in range(max(len(text) - length + 1, 0)))
