"""One file of the configuration: TOML to settings and rules. Every problem is noted with its place, and reading goes
on behind it. oomwatchd.toml(5) describes the language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tomli

from oomwatchd.base.timespan import parse_time_span
from oomwatchd.config.problems import Findings, Problem, suggestion
from oomwatchd.config.toml_positions import Path, Position, locate
from oomwatchd.rules import model as r
from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.model import Action, Criterion, Rule

TASK_COMM_LEN = 16
"""include/linux/sched.h: with the final NUL, so that a comm holds at most 15 bytes."""

_DAEMON_KEYS = ("scan_interval", "proc_events", "dry_run", "on_exit", "log_pins")
_RULE_KEYS = (
    *("name", "description", "enabled", "not", "oom_score_adj", "oom_adj", "ignore"),
    *("children", "containers", "spoofable", *CRITERIA),
)


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
class Document:
    """One file's content, and where its keys stand."""

    file: str
    content: Mapping[str, object]
    positions: Mapping[Path, Position]
    found: Findings

    @classmethod
    def read(cls, source: Source, found: Findings) -> "Document | None":
        try:
            content = tomli.loads(source.text)
            positions = locate(source.text)
        except tomli.TOMLDecodeError as error:
            if source.text.startswith("\ufeff"):
                message = "The file starts with a byte order mark, which TOML doesn't know; save it as UTF-8 without"
                found.errors.append(Problem(source.path, 1, 1, message))
                return None
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
                self.error((key,), f"Unknown table or key '{key}'{suggestion(key, ('daemon', 'rule'))}")
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
                self.error((*at, key), f"Unknown key '{key}'{suggestion(key, known)}")

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
            self.error((*at, key), f"{key}: '{value}' isn't one of {options}{suggestion(value, choices)}")
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

    def rules(self) -> list[tuple[Path, Rule]]:
        """The rules from top to bottom, each with its path."""
        tables = self.content.get("rule", [])
        if not isinstance(tables, list):
            self.error(("rule",), "'rule' must be an array of tables: write [[rule]]")
            return []
        found: list[tuple[Path, Rule]] = []
        for i, table in enumerate(tables):
            if isinstance(table, dict):
                found.append((("rule", i), self.rule(("rule", i), table)))
            else:
                self.error(("rule", i), f"A rule must be a table, not {_kind(table)}")
        return found

    def rule(self, at: Path, table: Mapping[str, object]) -> Rule:
        self.unknown_keys(at, table, _RULE_KEYS)
        name = self.string(at, table, "name")
        if "name" not in table:
            self.error(at, 'The rule has no name; give it one with name = "…"')
        elif isinstance(table["name"], str) and (not name.strip() or not name.isprintable()):
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
        self.unknown_keys(at, table, tuple(CRITERIA))
        if not table:
            self.error(at, "not is empty: it would exclude every process")
        return self.criteria(at, table)

    def criteria(self, at: Path, table: Mapping[str, object]) -> tuple[Criterion, ...]:
        found = (self.criterion((*at, key), key, table[key]) for key in table if key in CRITERIA)
        return tuple(criterion for criterion in found if criterion is not None)

    def criterion(self, at: Path, key: str, value: object) -> Criterion | None:
        form = CRITERIA[key].form
        if form is Form.FLAG:
            if not isinstance(value, bool):
                self.error(at, f"{key} must be true or false, not {_kind(value)}")
                return None
            return Criterion(key, flag=value)
        members = value if isinstance(value, list) else [value]
        if not members:
            self.error(at, f"{key}: an empty list fits nothing")
        paths = [(*at, i) for i in range(len(members))] if isinstance(value, list) else [at]
        if form is Form.TEXT:
            patterns = [self.pattern(path, key, member) for path, member in zip(paths, members, strict=True)]
            return Criterion(key, patterns=tuple(p for p in patterns if p is not None))
        names = [self.id_or_name(path, key, member) for path, member in zip(paths, members, strict=True)]
        return Criterion(key, names=tuple(name for name in names if name is not None))

    def id_or_name(self, at: Path, key: str, value: object) -> str | None:
        numeric = CRITERIA[key].form is Form.ID
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
            return Action(low, low)
        return Action(low, high)

    def children(self, at: Path, table: Mapping[str, object]) -> str | int | None:
        value = table.get("children")
        if value is None or value in (r.INHERIT, r.RESET):
            return value
        if isinstance(value, str):
            known = (r.INHERIT, r.RESET)
            message = f'children: \'{value}\' is neither "inherit" nor "reset" nor a number{suggestion(value, known)}'
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
