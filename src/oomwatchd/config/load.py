"""Reads configuration files into rules, or raises one error that lists every problem with file, line and column.

oomwatchd.toml(5) describes the language."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from oomwatchd.config.accounts import Accounts, AskedAccounts
from oomwatchd.config.document import ConfigFile, DaemonSettings, Document
from oomwatchd.config.files import Layout as Layout
from oomwatchd.config.files import layout as layout
from oomwatchd.config.files import read_files
from oomwatchd.config.problems import Problem, Problems, suggestion
from oomwatchd.config.rule_reader import Placed, read_rules
from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.guard import guarded_rules, guards
from oomwatchd.rules.model import Criterion, Rule


class ConfigError(Exception):
    """The configuration is refused. `problems` has all its errors, `warnings` the warnings that were found besides."""

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


@dataclass(frozen=True, slots=True)
class Config:
    """The content of all files of the configuration together."""

    settings: DaemonSettings
    rules: tuple[Rule, ...]
    sources: tuple[ConfigFile, ...]
    warnings: tuple[Problem, ...]
    unresolved: tuple[Problem, ...]
    """The warnings about users and groups that don't exist (yet). They are among `warnings`."""


def load(where: Layout, accounts: Accounts | None = None) -> Config:
    """Read and check the configuration, and look its users and groups up. Without `accounts`, this waits for name
    services, for at most 5 s a name. Raises ConfigError."""
    found = Problems([])
    sources = read_files(where, found)
    return _parsed(sources, found, accounts or AskedAccounts())


def parse(sources: Iterable[ConfigFile], problems: Iterable[Problem] = ()) -> Config:
    """Check texts that were read before. `problems`: errors that were found when they were read. Raises ConfigError."""
    return _parsed(sources, Problems(list(problems)), AskedAccounts())


def _parsed(sources: Iterable[ConfigFile], found: Problems, accounts: Accounts) -> Config:
    settings = DaemonSettings()
    placed: list[Placed] = []
    kept = tuple(sources)
    all_named = not found.errors
    for source in kept:
        document = Document.read(source, found)
        if document is None:
            all_named = False
            continue
        settings = document.settings(settings)
        placed += read_rules(document)
    _check_names(placed, all_named=all_named and all(each.rule.name for each in placed))
    checked = _guarded(placed)
    if found.errors:
        raise ConfigError(sorted(found.errors, key=_in_order(kept)), found.warnings)
    if kept and not any(rule.enabled for rule in checked):
        found.warnings.append(Problem(kept[0].path, 1, 1, "No rule is in force: nothing is protected"))
    resolved, missing = resolve(checked, accounts)
    by_place = {(each.rule.file, each.rule.line): each for each in placed} if missing else {}
    missing = tuple(_at_its_key(problem, by_place) for problem in missing)
    return Config(settings, resolved, kept, (*found.warnings, *missing), missing)


def _at_its_key(problem: Problem, placed: Mapping[tuple[str, int], Placed]) -> Problem:
    """A problem of resolve() with the place of the key that it is about. resolve() knows only the line of the rule."""
    each = placed.get((problem.file, problem.line))
    if each is None:
        return problem
    key, _, rest = problem.message.removeprefix(f"Rule '{each.rule.name}': ").partition(" '")
    for criteria, path in ((each.rule.criteria, (*each.at, key)), (each.rule.excluded, (*each.at, "not", key))):
        if any(c.key == key and rest.startswith(f"{name}'") for c in criteria for name in c.names):
            return Problem(problem.file, *each.document.place(path), problem.message)
    return problem


def resolve(rules: Iterable[Rule], accounts: Accounts) -> tuple[tuple[Rule, ...], tuple[Problem, ...]]:
    """The rules with the numbers of their users and groups, and a warning for each name that doesn't exist (yet)."""
    missing: list[Problem] = []

    def with_ids(rule: Rule, criterion: Criterion) -> Criterion:
        if CRITERIA[criterion.key].form is not Form.ID:
            return criterion
        ids: dict[str, int | None] = {}
        for name in criterion.names:
            why = "doesn't exist (yet)"
            if not accounts.is_known(criterion.key, name):
                why = "isn't known (yet): no name service has answered"
            ids[name] = accounts.number(criterion.key, name)
            if ids[name] is None:
                from oomwatchd.config.account_hints import about_name  # most configurations have no such name

                hint = about_name(criterion.key, name, accounts.local_names(criterion.key))
                message = f"Rule '{rule.name}': {criterion.key} '{name}' {why}{hint}"
                missing.append(Problem(rule.file, rule.line, 1, message))
        return replace(criterion, ids=frozenset(number for number in ids.values() if number is not None))

    def with_numbers(rule: Rule) -> Rule:
        if not any(CRITERIA[c.key].form is Form.ID for c in (*rule.criteria, *rule.excluded)):
            return rule
        return replace(
            rule,
            criteria=tuple(with_ids(rule, c) for c in rule.criteria),
            excluded=tuple(with_ids(rule, c) for c in rule.excluded),
        )

    return tuple(map(with_numbers, rules)), tuple(missing)


def resolve_again(old: Config, accounts: Accounts) -> Config:
    """`old` with the numbers that users and groups have now; `old` itself if none has changed."""
    rules, missing = resolve(old.rules, accounts)
    if rules == old.rules and missing == old.unresolved:
        return old
    others = tuple(warning for warning in old.warnings if warning not in old.unresolved)
    return replace(old, rules=rules, warnings=(*others, *missing), unresolved=missing)


def changed_numbers(before: Config, after: Config) -> Iterator[str]:
    """A sentence for each user or group in both configurations whose number has changed."""
    told = set()
    for old, new in zip(_id_criteria(before), _id_criteria(after), strict=True):
        text = f"{new.key} '{', '.join(new.names)}' is {_numbers(new)}, was {_numbers(old)}"
        if new.ids != old.ids and text not in told:
            told.add(text)
            yield text


def _id_criteria(loaded: Config) -> Iterator[Criterion]:
    for rule in loaded.rules:
        for criterion in (*rule.criteria, *rule.excluded):
            if CRITERIA[criterion.key].form is Form.ID:
                yield criterion


def _numbers(criterion: Criterion) -> str:
    return ", ".join(map(str, sorted(criterion.ids))) or "unknown"


# Checks


def _in_order(sources: Sequence[ConfigFile]) -> Callable[[Problem], tuple[int, int, int]]:
    order = {source.path: i for i, source in enumerate(sources)}
    return lambda problem: (order.get(problem.file, -1), problem.line, problem.column)


def _check_names(placed: Sequence[Placed], *, all_named: bool) -> None:
    """Note an error for each name that two rules have, and for each descendant_of that names a rule that doesn't exist.
    `all_named`: whether the name of every rule could be read."""
    first: dict[str, Rule] = {}
    for each in placed:
        name = each.rule.name
        if name in first:
            other = first[name]
            each.value_error(f"Another rule is named '{name}' too, at {other.file}:{other.line}", "name")
        elif name:
            first[name] = each.rule
    for each in placed:
        for criterion in each.rule.criteria:
            _check_descent(each, criterion, first, "descendant_of", all_named=all_named)
        for criterion in each.rule.excluded:
            _check_descent(each, criterion, first, "not", "descendant_of", all_named=all_named)


def _check_descent(placed: Placed, criterion: Criterion, known: Mapping[str, Rule], *key: str, all_named: bool) -> None:
    if CRITERIA[criterion.key].form is not Form.RULE:
        return
    for at, name in enumerate(criterion.names):
        if name == placed.rule.name:
            message = "descendant_of names the rule that it stands in"
        elif name in known or not all_named:
            continue
        else:
            message = f"descendant_of: no rule is named '{name}'{suggestion(name, known)}"
        placed.value_error(f"Rule '{placed.rule.name}': {message}", *key, at)


def _guarded(placed: Sequence[Placed]) -> list[Rule]:
    """The rules with their attribute `guarded` set. Notes an error for each rule that would lower without being
    guarded."""
    rules = []
    for each, guarded in zip(placed, guarded_rules(each.rule for each in placed), strict=True):
        rule = each.rule if each.rule.guarded is guarded else replace(each.rule, guarded=guarded)
        if rule.asks_to_lower and not rule.guarded and each.sound:
            asked = ", ".join(criterion.key for criterion in rule.criteria) or "nothing"
            each.error(
                f"Rule '{rule.name}' can lower oom_score_adj, but nothing that it asks for ({asked}) says who controls "
                'the process: any user could run a program that fits; add user = "root", or the user that runs it '
                f"({', '.join(guards())} count), or say spoofable = true"
            )
        rules.append(rule)
    return rules
