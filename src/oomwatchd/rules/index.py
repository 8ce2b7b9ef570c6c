"""Finds the rules that may still fit when the value of one criterion is known. It looks them up in a dictionary, so
that a thousand rules over names cost as much as one. Pure."""

from collections.abc import Iterable, Sequence

from oomwatchd.rules.model import Criterion, Rule

_FEW = 64
"""For fewer numbers than this, as_bits() adds bits one by one."""


class Index:
    """All rules by one criterion. A set of rules is an integer: bit N stands for rule N."""

    def __init__(self, key: str, rules: Sequence[Rule]) -> None:
        absent: list[int] = []
        self._exact: dict[str | int, list[int]] = {}
        """Rules by the literal texts or the IDs that they name."""
        self._searched: list[tuple[int, Criterion]] = []
        """Rules with globs or regular expressions. Each of these has to be tried."""
        for number, rule in enumerate(rules):
            criterion = rule.criterion(key)
            if criterion is None:
                absent.append(number)
                continue
            literal = [pattern.text for pattern in criterion.patterns if pattern.literal]
            exact: set[str | int] = {*literal, *criterion.ids}
            for value in exact:
                self._exact.setdefault(value, []).append(number)
            if len(literal) < len(criterion.patterns):
                others = tuple(pattern for pattern in criterion.patterns if not pattern.literal)
                self._searched.append((number, Criterion(key, patterns=others)))
        self._absent = as_bits(absent)

    def possible(self, value: str | int | tuple[int, ...] | None) -> int:
        """The rules that don't have this criterion, and the rules whose criterion holds for `value`, as bits. `value`:
        None if the kernel refused the fact; then no rule with the criterion fits. Empty if the process has no such
        fact."""
        if isinstance(value, tuple):  # several IDs: the rule must name all of them
            found = ~0
            for each in value:
                found &= self.possible(each)
            return found
        if value is None or value == "":
            return self._absent
        numbers = list(self._exact.get(value, ()))
        if isinstance(value, str):
            numbers += [number for number, criterion in self._searched if criterion.matches(value)]
        return self._absent | as_bits(numbers)


def as_bits(numbers: Iterable[int]) -> int:
    """A set of small numbers as the bits of an integer."""
    chosen = list(numbers)
    if len(chosen) < _FEW:
        return sum(1 << number for number in set(chosen))
    array = bytearray(max(chosen) // 8 + 1)
    for number in chosen:
        array[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(array, "little")
