"""What a person overlooks in rules that are valid: pure over the rules, but for looks at the files that they name."""

import os
import stat
from collections.abc import Iterator, Sequence

from oomwatchd.config.problems import Problem
from oomwatchd.config.rule_reader import TASK_COMM_LEN
from oomwatchd.kernel.systemd_cgroups import parse_units
from oomwatchd.rules.model import OOM_SCORE_ADJ_MAX, Criterion, Pattern, Rule

_WILD = "*?["


def warnings(rules: Sequence[Rule]) -> list[Problem]:
    """All of them, in the order of the rules."""
    found = []
    active = [rule for rule in rules if rule.enabled]
    for i, rule in enumerate(active):
        messages = [
            *_shadow(rule, active[:i]),
            *(message for criterion in rule.criteria for message in _criterion(rule, criterion)),
            *_unguarded(rule),
        ]
        found += [Problem(rule.file, rule.line, 1, f"Rule '{rule.name}': {message}") for message in messages]
    return found


# Rules that never decide


def _shadow(rule: Rule, earlier: Sequence[Rule]) -> Iterator[str]:
    """Whether one earlier rule fits whatever `rule` fits. Several that only do so together aren't found."""
    for other in earlier:
        if covers(other, rule):
            where = f"rule '{other.name}' at {other.file}:{other.line}"
            if covers(rule, other):
                yield f"a duplicate: it asks for the same as {where}, which comes first, so that this one never decides"
            else:
                yield f"never decides: {where} comes first and fits all that it fits"
            return


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether every process that `narrow` fits is one that `wide` fits. May say no where it is so, never yes where it
    isn't."""
    if narrow.containers and not wide.containers:
        return False
    if not all(any(_implies(given, asked) for given in narrow.criteria) for asked in wide.criteria):
        return False
    if not wide.excluded:
        return True
    # What `wide` excludes, `narrow` must exclude too.
    return bool(narrow.excluded) and all(
        any(_implies(given, asked) for given in wide.excluded) for asked in narrow.excluded
    )


def _implies(given: Criterion, asked: Criterion) -> bool:
    """Whether `asked` holds wherever `given` does."""
    if given.key != asked.key:
        return False
    if given.key == "session_leader":
        return given.flag is asked.flag
    if given.patterns:
        return all(any(_contains(wide, narrow) for wide in asked.patterns) for narrow in given.patterns)
    return set(given.names) <= set(asked.names) or bool(given.ids and given.ids <= asked.ids)


def _contains(wide: Pattern, narrow: Pattern) -> bool:
    """Whether `wide` matches all that `narrow` matches."""
    if (wide.text, wide.is_glob, wide.literal) == (narrow.text, narrow.is_glob, narrow.literal):
        return True
    if narrow.literal:
        return wide.matches(narrow.text)
    # A glob of stars alone matches the text of another glob only where it matches all that this one stands for.
    return wide.is_glob and narrow.is_glob and not set("?[") & set(wide.text) and wide.matches(narrow.text)


# Criteria that nothing meets


def _criterion(rule: Rule, criterion: Criterion) -> Iterator[str]:
    check = {"exe": _exe, "comm": _comm, "cgroup": _cgroup, "unit": _unit, "user_unit": _unit, "slice": _unit}
    if criterion.key not in check:
        return
    for pattern in criterion.patterns:
        if pattern.literal or pattern.is_glob:
            yield from check[criterion.key](criterion.key, pattern)
    if criterion.key == "exe" and rule.action.can_lower:
        yield from _loose_exe(rule, criterion)


def _exe(key: str, pattern: Pattern) -> Iterator[str]:
    text = pattern.text
    if text[0] not in ("/", *_WILD):
        yield f"exe '{text}' fits nothing: an executable is shown by its whole path; write one, or use comm"
        return
    path = _literal_directory(text) if pattern.is_glob else text
    if not path or path == "/":
        return
    shown = os.path.realpath(path)
    if shown != path:
        yield (
            f"exe '{text}' fits nothing: {path} is reached by a symbolic link here, and programs show the path behind "
            f"it; write '{shown}{text[len(path) :]}'"
        )
    elif not os.path.exists(path):
        yield f"exe '{text}' fits nothing (yet): there is no {path} here"


def _literal_directory(glob: str) -> str:
    """The directory of a glob, as far as it is literal; empty: it begins with a wildcard."""
    at = min(i for i in map(glob.find, _WILD) if i >= 0)
    return glob[:at].rpartition("/")[0] or ("/" if glob.startswith("/") else "")


def _comm(key: str, pattern: Pattern) -> Iterator[str]:
    longest = TASK_COMM_LEN - 1
    if pattern.is_glob and "[" not in pattern.text and len(pattern.text.replace("*", "").encode()) > longest:
        yield f"comm '{pattern.text}' fits nothing: the kernel cuts a name after {longest} bytes"


def _cgroup(key: str, pattern: Pattern) -> Iterator[str]:
    if pattern.text[0] not in ("/", *_WILD):
        yield f"cgroup '{pattern.text}' fits nothing: a cgroup path begins with a slash"


def _unit(key: str, pattern: Pattern) -> Iterator[str]:
    """Whether systemd could have a cgroup of that name."""
    text = pattern.text
    if pattern.is_glob:
        return
    above = "/user.slice/user-1000.slice/user@1000.service" if key == "user_unit" else ""
    if getattr(parse_units(f"{above}/{text}"), key) == text or text == "-.slice":
        return
    what = "slice" if key == "slice" else "unit that holds processes"
    example = "app.slice" if key == "slice" else f"{text.partition('.')[0]}.service"
    yield f"{key} '{text}' fits nothing: it isn't the whole name of a {what}, such as '{example}'"


# Rules that do more or less than they say


def _loose_exe(rule: Rule, criterion: Criterion) -> Iterator[str]:
    """A path can't be faked, but a user's own program may lie at a path that the pattern matches."""
    if any(c.key in ("user", "group", "unit", "slice") for c in rule.criteria) or rule.spoofable:
        return
    for pattern in criterion.patterns:
        if pattern.literal:
            continue
        directory = _literal_directory(pattern.text) if pattern.is_glob else ""
        writable = directory and _others_write(directory)
        if not directory or directory == "/" or writable:
            why = f"users write below {directory}" if writable else "it doesn't begin with a literal directory"
            yield (
                f"exe '{pattern}' may fit programs that users have put there themselves, and the rule lowers: {why}; "
                "name the directory, or ask for user too"
            )


def _others_write(directory: str) -> bool:
    """Whether someone besides root can make files there."""
    try:
        status = os.stat(directory)
    except OSError:
        return False
    return status.st_uid != 0 or bool(status.st_mode & stat.S_IWOTH)


def _unguarded(rule: Rule) -> Iterator[str]:
    low = rule.action.low
    if rule.action.exact and not rule.guarded and low is not None and 0 <= low < OOM_SCORE_ADJ_MAX:
        yield (
            f"oom_score_adj = {low} never lowers a value, as if it were {{ at_least = {low} }}: any user can make "
            "what the rule asks for true of any program"
        )
