"""Configuration files to rules, or one error that lists every problem with file, line and column.

oomwatchd.toml(5) describes the language."""

import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import tomli

from oomwatchd import rules as r
from oomwatchd.positions import Path, Position, locate
from oomwatchd.rules import Action, Criterion, Rule

MAIN_FILE = "/etc/oomwatchd.toml"
DROP_IN_DIRS = ("/etc/oomwatchd.d", "/run/oomwatchd.d", "/usr/lib/oomwatchd.d")
"""A name in an earlier one masks the same name in a later one."""

TASK_COMM_LEN = 16
"""include/linux/sched.h: with the final NUL, so that a comm holds at most 15 bytes."""

_DAEMON_KEYS = ("scan_interval", "proc_events", "dry_run", "on_exit", "log_pins")
_RULE_KEYS = (
    *("name", "description", "enabled", "not", "oom_score_adj", "oom_adj", "ignore"),
    *("children", "containers", "spoofable", *r.CRITERIA),
)
_MAX_FILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """An error or a warning, and where it is. Line and column count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(Exception):
    """The configuration is refused. `problems` has all that is wrong with it; `warnings` what was found besides."""

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


@dataclass(frozen=True, slots=True)
class Settings:
    """The [daemon] table."""

    scan_interval: float = 5.0
    """Seconds."""
    proc_events: str = "auto"
    dry_run: bool = False
    on_exit: str = "keep"
    log_pins: str = "auto"


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was read."""

    path: str
    text: str
    public: bool = True
    """Whether everyone may read the file."""


@dataclass(frozen=True, slots=True)
class Config:
    settings: Settings = Settings()
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = ()
    warnings: tuple[Problem, ...] = ()
    unresolved: tuple[Problem, ...] = ()
    """Of the warnings those about users and groups that don't exist (yet)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where to look for configuration."""

    main_file: str
    drop_in_dirs: tuple[str, ...] = ()
    main_file_required: bool = False


def layout(file: str | None = None, root: str = "/") -> Layout:
    """The layout for `-c file` (that file alone) or `--root root`."""
    if file is not None:
        return Layout(os.path.abspath(file), main_file_required=True)
    prefix = root.rstrip("/")
    return Layout(prefix + MAIN_FILE, tuple(prefix + directory for directory in DROP_IN_DIRS))


def load(where: Layout) -> Config:
    """Read, check and resolve the configuration. Raises ConfigError."""
    problems: list[Problem] = []
    sources = []
    for path in [where.main_file, *_drop_ins(where.drop_in_dirs)]:
        try:
            sources.append(_read(path))
        except FileNotFoundError:
            if path == where.main_file and where.main_file_required:
                problems.append(Problem(path, 1, 1, "No such file"))
        except OSError as error:
            problems.append(Problem(path, 1, 1, f"Failed to read the file: {error.strerror}"))
        except _Refused as refusal:
            problems.append(Problem(path, 1, 1, str(refusal)))
    return parse(sources, problems)


def parse(sources: Iterable[Source], problems: Iterable[Problem] = ()) -> Config:
    """Check texts that were read before. `problems` are what reading them brought up. Raises ConfigError."""
    found = _Findings(list(problems))
    settings = Settings()
    rules: list[Rule] = []
    kept = tuple(sources)
    for source in kept:
        document = _Document.read(source, found)
        if document is None:
            continue
        settings = document.settings(settings)
        rules += document.rules()
    _check_names(rules, found)
    if found.errors:
        raise ConfigError(sorted(found.errors, key=_in_order(kept)), found.warnings)
    checked = [_guarded(rule, rules, found) for rule in rules]
    if found.errors:
        raise ConfigError(sorted(found.errors, key=_in_order(kept)), found.warnings)
    resolved, missing = resolve(checked)
    return Config(settings, resolved, kept, (*found.warnings, *missing), missing)


def resolve(rules: Iterable[Rule]) -> tuple[tuple[Rule, ...], tuple[Problem, ...]]:
    """Look users and groups up. A name that doesn't exist is a warning, and is worth another look later."""
    missing: list[Problem] = []

    def with_ids(rule: Rule, criterion: Criterion) -> Criterion:
        if criterion.key not in r.ID_KEYS:
            return criterion
        ids = {name: _id_of(criterion.key, name) for name in criterion.names}
        missing.extend(
            Problem(rule.file, rule.line, 1, f"Rule '{rule.name}': {criterion.key} '{name}' doesn't exist (yet)")
            for name, number in ids.items()
            if number is None
        )
        return replace(criterion, ids=frozenset(number for number in ids.values() if number is not None))

    resolved = tuple(
        replace(
            rule,
            criteria=tuple(with_ids(rule, c) for c in rule.criteria),
            excluded=tuple(with_ids(rule, c) for c in rule.excluded),
        )
        for rule in rules
    )
    return resolved, tuple(missing)


def resolve_again(old: Config) -> Config:
    """`old` with the users and groups that exist by now; `old` itself if there are no new ones."""
    rules, missing = resolve(old.rules)
    if rules == old.rules:
        return old
    others = tuple(warning for warning in old.warnings if warning not in old.unresolved)
    return replace(old, rules=rules, warnings=(*others, *missing), unresolved=missing)


def _id_of(key: str, name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid if key == "user" else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return int(name) if name.isascii() and name.isdigit() else None


# Files


class _Refused(Exception):
    """A file that must not be read, and why."""


def _drop_ins(directories: Sequence[str]) -> list[str]:
    """The drop-ins in force, by file name."""
    chosen: dict[str, str] = {}
    for directory in directories:
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            if name.endswith(".toml") and not name.startswith("."):
                chosen.setdefault(name, os.path.join(directory, name))
    return [chosen[name] for name in sorted(chosen) if not _masks(chosen[name])]


def _masks(path: str) -> bool:
    """Whether a drop-in says nothing but that the ones of its name further down don't count."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
    return is_null or (stat.S_ISREG(status.st_mode) and status.st_size == 0)


def _read(path: str) -> Source:
    # O_NONBLOCK: a FIFO in the file's place must not hold us up.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Refused("Not a regular file")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _Refused(
                f"Others than the owner may write this file (mode {stat.S_IMODE(status.st_mode):04o}), so whom it "
                f"protects can't be trusted; run: chmod go-w {path}"
            )
        if status.st_size > _MAX_FILE_BYTES:
            raise _Refused(f"Larger than {_MAX_FILE_BYTES >> 20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused(f"Not UTF-8 (byte {error.start}), as TOML wants it") from None
    return Source(path, text.replace("\r\n", "\n"), bool(status.st_mode & stat.S_IROTH))


# Checks


@dataclass(slots=True)
class _Findings:
    errors: list[Problem]
    warnings: list[Problem] = field(default_factory=list)


def _in_order(sources: Sequence[Source]) -> Callable[[Problem], tuple[int, int, int]]:
    order = {source.path: i for i, source in enumerate(sources)}
    return lambda problem: (order.get(problem.file, -1), problem.line, problem.column)


def _suggestion(word: str, known: Iterable[str]) -> str:
    import difflib  # only needed when something is wrong, and the daemon would carry it for ever

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _check_names(rules: Sequence[Rule], found: _Findings) -> None:
    first: dict[str, Rule] = {}
    for rule in rules:
        if rule.name in first:
            other = first[rule.name]
            message = f"Another rule is named '{rule.name}' too, at {other.file}:{other.line}"
            found.errors.append(Problem(rule.file, rule.line, 1, message))
        first.setdefault(rule.name, rule)
    for rule in rules:
        for criterion in (*rule.criteria, *rule.excluded):
            if criterion.key != "descendant_of":
                continue
            for name in criterion.names:
                if name == rule.name:
                    message = "descendant_of names the rule that it stands in"
                elif name in first:
                    continue
                else:
                    message = f"descendant_of: no rule is named '{name}'{_suggestion(name, first)}"
                found.errors.append(Problem(rule.file, rule.line, 1, f"Rule '{rule.name}': {message}"))


def _guarded(rule: Rule, rules: Sequence[Rule], found: _Findings) -> Rule:
    """`rule` with its `guarded` worked out; an error if it could lower without."""
    by_name = {other.name: other for other in rules}
    guarded = _is_guarded(rule, by_name, frozenset())
    if rule.action.can_lower and not guarded:
        named = ", ".join(c.key for c in rule.criteria) or "nothing"
        message = (
            f"Rule '{rule.name}' can lower oom_score_adj, but all that it asks for ({named}) is what any user can "
            "make true of any program; add a criterion that can't be faked (exe, user, group, unit or slice), or say "
            "spoofable = true"
        )
        found.errors.append(Problem(rule.file, rule.line, 1, message))
    return replace(rule, guarded=guarded)


def _is_guarded(rule: Rule, by_name: Mapping[str, Rule], seen: frozenset[str]) -> bool:
    """Descent from a rule that anyone can enter is as good as that rule's name."""
    if rule.spoofable:
        return True
    for criterion in rule.criteria:
        if criterion.key in r.FAKEABLE:
            continue
        if criterion.key != "descendant_of":
            return True
        others = [by_name[name] for name in criterion.names if name not in seen and name in by_name]
        if others and all(_is_guarded(other, by_name, seen | {rule.name}) for other in others):
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Document:
    """One file's content, and where its keys stand."""

    file: str
    content: Mapping[str, object]
    positions: Mapping[Path, Position]
    found: _Findings

    @classmethod
    def read(cls, source: Source, found: _Findings) -> "_Document | None":
        try:
            content = tomli.loads(source.text)
            positions = locate(source.text)
        except tomli.TOMLDecodeError as error:
            found.errors.append(_syntax_problem(source, str(error)))
            return None
        except RecursionError:
            found.errors.append(Problem(source.path, 1, 1, "Nested too deeply"))
            return None
        return cls(source.path, content, positions, found)

    def error(self, path: Path, message: str) -> None:
        self.found.errors.append(self._problem(path, message))

    def _problem(self, path: Path, message: str) -> Problem:
        while path and path not in self.positions:
            path = path[:-1]
        return Problem(self.file, *self.positions.get(path, (1, 1)), message)

    def settings(self, before: Settings) -> Settings:
        """[daemon] of this file over that of the files before it."""
        for key in self.content:
            if key not in ("daemon", "rule"):
                self.error((key,), f"Unknown table or key '{key}'{_suggestion(key, ('daemon', 'rule'))}")
        table = self.content.get("daemon", {})
        if not isinstance(table, dict):
            self.error(("daemon",), "'daemon' must be a table: write [daemon]")
            return before
        self.unknown_keys(("daemon",), table, _DAEMON_KEYS)
        at: Path = ("daemon",)
        return Settings(
            scan_interval=self.interval(at, table, before.scan_interval),
            proc_events=self.one_of(at, table, "proc_events", ("auto", "required", "off"), before.proc_events),
            dry_run=self.boolean(at, table, "dry_run", before.dry_run),
            on_exit=self.one_of(at, table, "on_exit", ("keep", "restore"), before.on_exit),
            log_pins=self.one_of(at, table, "log_pins", ("auto", "each", "summary", "off"), before.log_pins),
        )

    def unknown_keys(self, at: Path, table: Mapping[str, object], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                self.error((*at, key), f"Unknown key '{key}'{_suggestion(key, known)}")

    def interval(self, at: Path, table: Mapping[str, object], default: float) -> float:
        key = "scan_interval"
        if key not in table:
            return default
        value = table[key]
        if not isinstance(value, str):
            self.error((*at, key), f'{key} must be a time span in quotes, such as "5s", not {_kind(value)}')
            return default
        seconds = parse_time_span(value)
        if seconds is None:
            self.error((*at, key), f'{key}: \'{value}\' isn\'t a time span such as "5s" or "1min 30s"')
            return default
        if not 0.1 <= seconds <= 3600:
            self.error((*at, key), f"{key}: '{value}' is out of range; it may be 100ms to 1h")
            return default
        return seconds

    def one_of(self, at: Path, table: Mapping[str, object], key: str, choices: Sequence[str], default: str) -> str:
        value = table.get(key, default)
        if not isinstance(value, str):
            self.error((*at, key), f"{key} must be a string, not {_kind(value)}")
            return default
        if value not in choices:
            options = ", ".join(f'"{choice}"' for choice in choices)
            self.error((*at, key), f"{key}: '{value}' isn't one of {options}{_suggestion(value, choices)}")
            return default
        return value

    def boolean(self, at: Path, table: Mapping[str, object], key: str, default: bool) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            self.error((*at, key), f"{key} must be true or false, not {_kind(value)}")
            return default
        return value

    def string(self, at: Path, table: Mapping[str, object], key: str) -> str:
        value = table.get(key, "")
        if not isinstance(value, str):
            self.error((*at, key), f"{key} must be a string, not {_kind(value)}")
            return ""
        return value

    def integer(self, at: Path, value: object, what: str, low: int, high: int) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            self.error(at, f"{what} must be a whole number, not {_kind(value)}")
            return None
        if not low <= value <= high:
            self.error(at, f"{what}: {value} is out of range; it may be {low} to {high}")
            return None
        return value

    def rules(self) -> list[Rule]:
        tables = self.content.get("rule", [])
        if not isinstance(tables, list):
            self.error(("rule",), "'rule' must be an array of tables: write [[rule]]")
            return []
        found = []
        for i, table in enumerate(tables):
            if isinstance(table, dict):
                found.append(self.rule(("rule", i), table))
            else:
                self.error(("rule", i), f"A rule must be a table, not {_kind(table)}")
        return found

    def rule(self, at: Path, table: Mapping[str, object]) -> Rule:
        self.unknown_keys(at, table, _RULE_KEYS)
        name = self.string(at, table, "name")
        if "name" not in table:
            self.error(at, 'The rule has no name; give it one with name = "…"')
        elif not name.strip() or not name.isprintable():
            self.error((*at, "name"), "name must have at least one character, and only printable ones")
        excluded: tuple[Criterion, ...] = ()
        if "not" in table:
            excluded = self.exclusion((*at, "not"), table["not"])
        return Rule(
            name=name,
            criteria=self.criteria(at, table),
            action=self.action(at, table),
            excluded=excluded,
            children=self.children(at, table),
            containers=self.boolean(at, table, "containers", False),
            spoofable=self.boolean(at, table, "spoofable", False),
            enabled=self.boolean(at, table, "enabled", True),
            description=self.string(at, table, "description"),
            file=self.file,
            line=self.positions.get(at, (1, 1))[0],
        )

    def exclusion(self, at: Path, table: object) -> tuple[Criterion, ...]:
        if not isinstance(table, dict):
            self.error(at, f'not must be a table of criteria, such as {{ user = "root" }}, not {_kind(table)}')
            return ()
        self.unknown_keys(at, table, r.CRITERIA)
        if not table:
            self.error(at, "not is empty: it would exclude every process")
        return self.criteria(at, table)

    def criteria(self, at: Path, table: Mapping[str, object]) -> tuple[Criterion, ...]:
        found = (self.criterion((*at, key), key, table[key]) for key in table if key in r.CRITERIA)
        return tuple(criterion for criterion in found if criterion is not None)

    def criterion(self, at: Path, key: str, value: object) -> Criterion | None:
        if key == "session_leader":
            if not isinstance(value, bool):
                self.error(at, f"session_leader must be true or false, not {_kind(value)}")
                return None
            return Criterion(key, flag=value)
        members = value if isinstance(value, list) else [value]
        if not members:
            self.error(at, f"{key}: an empty list fits nothing")
        paths = [(*at, i) for i in range(len(members))] if isinstance(value, list) else [at]
        if key in r.STRING_KEYS:
            patterns = [self.pattern(path, key, member) for path, member in zip(paths, members, strict=True)]
            return Criterion(key, patterns=tuple(p for p in patterns if p is not None))
        names = [self.id_or_name(path, key, member) for path, member in zip(paths, members, strict=True)]
        return Criterion(key, names=tuple(name for name in names if name is not None))

    def id_or_name(self, at: Path, key: str, value: object) -> str | None:
        numeric = key in r.ID_KEYS
        if numeric and isinstance(value, int) and not isinstance(value, bool):
            return None if self.integer(at, value, key, 0, 2**32 - 2) is None else str(value)
        if not isinstance(value, str):
            wanted = "a name or a number" if numeric else "the name of a rule"
            self.error(at, f"{key} must be {wanted}, not {_kind(value)}")
            return None
        if not value:
            self.error(at, f"{key} is empty")
            return None
        if numeric and any(c in value for c in "*?["):
            self.error(at, f"{key}: '{value}' looks like a glob; a user or group is a name or a number")
            return None
        return value

    def pattern(self, at: Path, key: str, value: object) -> r.Pattern | None:
        if isinstance(value, dict):
            return self.regex(at, key, value)
        if not isinstance(value, str):
            self.error(at, f'{key} must be a string or {{ regex = "…" }}, not {_kind(value)}')
            return None
        if not value:
            self.error(at, f"{key} is empty, so that it fits nothing")
            return None
        if "\0" in value:
            self.error(at, f"{key} has a NUL character, so that it fits nothing")
            return None
        pattern = r.literal_or_glob(value)
        length = len(value.encode())
        if key == "comm" and not pattern.is_glob and length >= TASK_COMM_LEN:
            cut = value.encode()[: TASK_COMM_LEN - 1].decode(errors="ignore")
            self.error(
                at,
                f"comm: '{value}' has {length} bytes, but the kernel keeps only the first {TASK_COMM_LEN - 1} of a "
                f"name, so that it fits nothing; write '{cut}', or use exe or cmdline",
            )
        return pattern

    def regex(self, at: Path, key: str, table: Mapping[str, object]) -> r.Pattern | None:
        self.unknown_keys(at, table, ("regex",))
        text = table.get("regex")
        if not isinstance(text, str):
            self.error(at, f'{key}: write {{ regex = "…" }} with the expression as a string')
            return None
        try:
            return r.regex(text)
        except (re.error, OverflowError, RecursionError) as error:
            self.error(at, f"{key}: '{text}' isn't a regular expression: {error}")
            return None

    def action(self, at: Path, table: Mapping[str, object]) -> Action:
        given = [key for key in table if key in ("oom_score_adj", "oom_adj", "ignore")]
        if not given:
            self.error(at, "The rule has no action; say oom_score_adj = N, oom_adj = N or ignore = true")
            return Action(ignore=True)
        if len(given) > 1:
            self.error((*at, given[1]), f"A rule has exactly one action, but this one has {' and '.join(given)}")
        if "oom_score_adj" in given:
            return self.oom_score_adj((*at, "oom_score_adj"), table["oom_score_adj"])
        if "oom_adj" in given:
            legacy = self.integer((*at, "oom_adj"), table["oom_adj"], "oom_adj", r.OOM_DISABLE, r.OOM_ADJUST_MAX)
            value = 0 if legacy is None else r.oom_adj_to_score(legacy)
            return Action(value, value)
        if not self.boolean(at, table, "ignore", True):
            self.error((*at, "ignore"), "ignore = false is no action; leave it out, and say what the rule does")
        return Action(ignore=True)

    def oom_score_adj(self, at: Path, value: object) -> Action:
        bounds = (r.OOM_SCORE_ADJ_MIN, r.OOM_SCORE_ADJ_MAX)
        if not isinstance(value, dict):
            number = self.integer(at, value, "oom_score_adj", *bounds)
            return Action(0, 0) if number is None else Action(number, number)
        self.unknown_keys(at, value, ("at_least", "at_most"))
        low, high = (
            self.integer((*at, key), value[key], key, *bounds) if key in value else None
            for key in ("at_least", "at_most")
        )
        if not value:
            self.error(at, "oom_score_adj: give at_least, at_most or both")
        if low is not None and high is not None and low > high:
            self.error(at, f"oom_score_adj: at_least {low} is more than at_most {high}")
        return Action(low, high)

    def children(self, at: Path, table: Mapping[str, object]) -> str | int | None:
        value = table.get("children")
        if value is None or value in (r.INHERIT, r.RESET):
            return value
        if isinstance(value, str):
            known = (r.INHERIT, r.RESET)
            message = f'children: \'{value}\' is neither "inherit" nor "reset" nor a number{_suggestion(value, known)}'
            self.error((*at, "children"), message)
            return None
        return self.integer((*at, "children"), value, "children", r.OOM_SCORE_ADJ_MIN, r.OOM_SCORE_ADJ_MAX)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string '{value}'"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def _syntax_problem(source: Source, message: str) -> Problem:
    # tomli 2.0 has the position in the text alone; 2.1 and later as attributes too.
    match = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if match:
        return Problem(source.path, int(match[1]), int(match[2]), message[: match.start()])
    lines = source.text.split("\n")
    return Problem(source.path, len(lines), len(lines[-1]) + 1, message)


_UNITS = {
    **dict.fromkeys(("us", "usec", "µs", "μs"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400.0),
}


_TIME_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zµμ]*)\s*")


def parse_time_span(text: str) -> float | None:
    """A time span as systemd.time(7) has it ("5s", "1min 30s", "2h", a bare number of seconds), in seconds; None
    if it isn't one. Months and years are left out: nothing here lasts that long."""
    seconds, at = 0.0, 0
    while match := _TIME_PART.match(text, at):
        number, unit = match.groups()
        if unit not in _UNITS:
            return None
        seconds += float(number) * _UNITS[unit]
        at = match.end()
    return seconds if at == len(text) and text.strip() else None
