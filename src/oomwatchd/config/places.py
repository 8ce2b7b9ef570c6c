"""Finds the places of the keys of rules, when a message needs one."""

from collections.abc import Mapping, Sequence

from oomwatchd.config.document import ConfigFile
from oomwatchd.config.problems import Problem
from oomwatchd.config.toml_positions import Path, Position, locate
from oomwatchd.rules.model import Rule


class Places:
    """The places of the keys of all rules of a valid configuration."""

    def __init__(self, sources: Sequence[ConfigFile], rules: Sequence[Rule]) -> None:
        self._texts = {source.path: source.text for source in sources}
        self._rules = rules
        self._numbers: list[int] = []
        """The number of each rule in its file, from 0."""
        count: dict[str, int] = {}
        for rule in rules:
            self._numbers.append(count.get(rule.file, 0))
            count[rule.file] = self._numbers[-1] + 1
        self._positions: dict[str, Mapping[Path, Position]] = {}

    def problem(self, number: int, key: Path, message: str) -> Problem:
        """A problem about rule `number`, with the place of the key `key` of its table, or of the table if the key has
        none."""
        rule = self._rules[number]
        if rule.file not in self._positions:
            self._positions[rule.file] = locate(self._texts.get(rule.file, "")).positions
        positions = self._positions[rule.file]
        path: Path = ("rule", self._numbers[number], *key)
        while path and path not in positions:
            path = path[:-1]
        line, column = positions.get(path, (rule.line or 1, 1))
        return Problem(rule.file, line, column, f"Rule '{rule.name}': {message}")
