"""Reads one file of the configuration: TOML to tables and settings. Each problem is noted with its place, and reading
goes on after it. oomwatchd.toml(5) describes the language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import tomli

from oomwatchd.base.timespan import parse_time_span
from oomwatchd.config.keys import BOOLEANS, CHOICES, DAEMON_KEYS, RULE_KEYS
from oomwatchd.config.kinds import kind, shown
from oomwatchd.config.problems import Fault, Problem, Problems, suggestion
from oomwatchd.config.toml_positions import Path, Position, Positions, locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.config.mending import Moved


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The [daemon] table."""

    scan_interval: float = 5.0
    """Seconds."""
    proc_events: str = "auto"
    dry_run: bool = False
    on_exit: str = "keep"
    log_pins: str = "auto"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of the configuration and its text."""

    path: str
    text: str
    public: bool = True
    """Whether everyone may read the file."""


@dataclass(frozen=True, slots=True)
class Document:
    """The tables of one file, and the places of its keys."""

    file: str
    content: Mapping[str, object]
    positions: Positions
    found: Problems
    broken: Mapping[Path, set[str]] = field(default_factory=dict)
    """For each table with statements that aren't TOML, the keys that these would have set; "" for a key that isn't
    known. If such a key is missing in the table, that is no further error."""
    moved: Sequence["Moved"] = ()
    """The parts of the text that were mended before it was read."""
    mended: Mapping[Position, Fault] = field(default_factory=dict)
    """The mistakes that were mended, by place. `error` and `value_error` say what is wrong with the mended text."""

    @classmethod
    def read(cls, source: ConfigFile, found: Problems) -> "Document | None":
        """Read the tables of `source`. Problems go to `found`. None: nothing in this file can be read."""
        try:
            content = tomli.loads(source.text)
            located = locate(source.text)
        except ValueError as error:  # TOMLDecodeError is one, and so is Python's refusal of a very long number
            return cls._read_what_is_left(source, found, error)
        except RecursionError:
            found.errors.append(Problem(source.path, 1, 1, "Nested too deeply"))
            return None
        if located.newer:
            return cls._read_what_is_left(source, found, None)
        return cls(source.path, content, located.positions, found)

    @classmethod
    def _read_what_is_left(cls, source: ConfigFile, found: Problems, refusal: ValueError | None) -> "Document | None":
        """Read a file that isn't TOML 1.0: note all mistakes, and read the statements without one."""
        from oomwatchd.config.conflicts import part_conflicts
        from oomwatchd.config.mending import place_before
        from oomwatchd.config.syntax_hints import diagnose

        text = source.text
        if text.startswith("\ufeff"):
            message = "The file starts with a byte order mark, which TOML doesn't know; save it as UTF-8 without"
            found.errors.append(Problem(source.path, 1, 1, message))
            text = text.replace("\ufeff", " ", 1)
        conflicts: list[Fault] = []
        try:
            diagnosis = diagnose(text, ("rule",), BOOLEANS)
            conflicts, mended = part_conflicts(diagnosis.mended)
            faults = {_place(text, fault.offset): fault for fault in diagnosis.faults}
            faults |= {place_before(diagnosis.moved, _place(diagnosis.mended, f.offset)): f for f in conflicts}
            found.errors += [Problem(source.path, *place, fault.message) for place, fault in faults.items()]
            content = tomli.loads(mended)
            located = locate(mended)
        except ValueError as error:
            if not conflicts:  # with conflicts, this error may only follow from them
                found.errors.append(_syntax_problem(source, str(error)))
            return None
        except RecursionError:
            found.errors.append(Problem(source.path, 1, 1, "Nested too deeply"))
            return None
        if not faults and not source.text.startswith("\ufeff"):
            reason = str(refusal or "This needs a later TOML than version 1.0 (at line 1, column 1)")
            found.errors.append(_syntax_problem(source, reason))
        unsure = {place: fault for place, fault in faults.items() if fault.mend is not None}
        moved = diagnosis.moved
        return cls(source.path, content, located.positions, found, diagnosis.broken, moved, unsure)

    def error(self, path: Path, message: str) -> None:
        """Note an error at the key with this path."""
        self._note(self.place(path), message)

    def value_error(self, path: Path, message: str) -> None:
        """Note an error at the value of the key with this path."""
        while path and path not in self.positions:
            path = path[:-1]
        self._note(self._in_file(self.positions.value(path)) if path else (1, 1), message)

    def warning(self, path: Path, message: str) -> None:
        """Note a warning at the key with this path."""
        self.found.warnings.append(Problem(self.file, *self.place(path), message))

    def place(self, path: Path) -> Position:
        """The place of the key with this path; if it has none, the place of the nearest table above it."""
        while path and path not in self.positions:
            path = path[:-1]
        return self._in_file(self.positions[path]) if path else (1, 1)

    def _in_file(self, place: Position) -> Position:
        """The place in the file of what stands at `place` of the text that was read."""
        if not self.moved:
            return place
        from oomwatchd.config.mending import place_before

        return place_before(self.moved, place)

    def _note(self, place: Position, message: str) -> None:
        """Note an error. If a mistake was mended at the same place, one error is about both, because the advice of one
        alone would lead to the next error."""
        problem = Problem(self.file, *place, message)
        fault = self.mended.get(place)
        before = problem if fault is None else Problem(self.file, *place, fault.message)
        if fault is None or before not in self.found.errors:
            self.found.errors.append(problem)
        elif fault.certain:
            both = f"{fault.message.partition('; write ')[0]}; besides, {message}"
            self.found.errors[self.found.errors.index(before)] = Problem(self.file, *place, both)
        else:
            self.found.errors[self.found.errors.index(before)] = problem

    def settings(self, before: DaemonSettings) -> DaemonSettings:
        """The settings after this file: its table [daemon] changes `before`, the settings of the files before it."""
        for key, value in self.content.items():
            if key not in ("daemon", "rule"):
                from oomwatchd.config.key_hints import about_top_key

                self.error((key,), about_top_key(key, value))
        table = self.content.get("daemon", {})
        if not isinstance(table, dict):
            self.error(("daemon",), f"'daemon' must be a table, not {kind(table)}: write [daemon]")
            return before
        at: Path = ("daemon",)
        self.unknown_keys(at, table, DAEMON_KEYS, dict.fromkeys(RULE_KEYS, "[[rule]]"))
        return DaemonSettings(
            scan_interval=self.interval(at, table, before.scan_interval),
            proc_events=self.one_of(at, table, "proc_events", before.proc_events),
            dry_run=self.boolean(at, table, "dry_run", before.dry_run),
            on_exit=self.one_of(at, table, "on_exit", before.on_exit),
            log_pins=self.one_of(at, table, "log_pins", before.log_pins),
        )

    def unknown_keys(
        self, at: Path, table: Mapping[str, object], known: Sequence[str], elsewhere: Mapping[str, str] | None = None
    ) -> set[str]:
        """Note an error for each key of `table` that isn't in `known`. `elsewhere`: the table into which a key belongs,
        by key. Returns the keys of `known` that seem to be meant."""
        meant_keys = set()
        for key in table:
            if key in known:
                continue
            if elsewhere is not None and key in elsewhere:
                self.error((*at, key), f"Unknown key '{key}' here; it belongs below {elsewhere[key]}")
                continue
            from oomwatchd.config.key_hints import about_key

            message, also_meant = about_key(key, table[key], known)
            self.error((*at, key), message)
            meant_keys |= also_meant
        return meant_keys

    def interval(self, at: Path, table: Mapping[str, object], default: float) -> float:
        """The time span `scan_interval` of `table`, in seconds; `default` where it is missing or wrong."""
        key = "scan_interval"
        if key not in table:
            return default
        value = table[key]
        if not isinstance(value, str):
            self.value_error((*at, key), f'{key} must be a time span in quotes, such as "5s", not {kind(value)}')
            return default
        seconds = parse_time_span(value)
        if seconds is None:
            self.value_error((*at, key), f'{key}: \'{value}\' isn\'t a time span such as "5s" or "1min 30s"')
            return default
        if not 0.1 <= seconds <= 3600:
            self.value_error((*at, key), f"{key}: '{value}' is out of range; it may be 100ms to 1h")
            return default
        return seconds

    def one_of(self, at: Path, table: Mapping[str, object], key: str, default: str) -> str:
        """The word of `table` under `key`, which must be one of CHOICES; `default` where it is missing or wrong."""
        value, choices = table.get(key, default), CHOICES[key]
        options = ", ".join(f'"{choice}"' for choice in choices)
        if not isinstance(value, str):
            self.value_error((*at, key), f"{key} must be one of {options}, not {kind(value)}")
            return default
        if value not in choices:
            self.value_error((*at, key), f"{key}: '{value}' isn't one of {options}{suggestion(value.lower(), choices)}")
            return default
        return value

    def boolean(self, at: Path, table: Mapping[str, object], key: str, default: bool) -> bool:
        """The truth value of `table` under `key`; `default` where it is missing or wrong."""
        value = table.get(key, default)
        if not isinstance(value, bool):
            from oomwatchd.config.type_hints import instead_of_truth

            self.value_error((*at, key), f"{key} must be true or false, {instead_of_truth(value)}")
            return default
        return value

    def string(self, at: Path, table: Mapping[str, object], key: str) -> str:
        """The string of `table` under `key`; empty where it is missing or wrong."""
        value = table.get(key, "")
        if not isinstance(value, str):
            self.value_error((*at, key), f"{key} must be a string in quotes, not {kind(value)}")
            return ""
        return value

    def integer(self, at: Path, value: object, what: str, low: int, high: int) -> int | None:
        """`value`, if it is a number from `low` to `high`; else None, and an error is noted. `what`: the name of the
        value in the message."""
        if isinstance(value, bool) or not isinstance(value, int):
            from oomwatchd.config.type_hints import instead_of_number

            instead = instead_of_number(value, low, high, has_bounds=what == "oom_score_adj")
            self.value_error(at, f"{what} must be a whole number from {low} to {high}, {instead}")
            return None
        if not low <= value <= high:
            self.value_error(at, f"{what}: {shown(value)} is out of range; it may be {low} to {high}")
            return None
        return value


def _place(text: str, offset: int) -> Position:
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1


def _syntax_problem(source: ConfigFile, message: str) -> Problem:
    # tomli 2.0 has the position only in the text; 2.1 and later also as attributes.
    match = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if match:
        return Problem(source.path, int(match[1]), int(match[2]), message[: match.start()])
    lines = source.text.split("\n")
    return Problem(source.path, len(lines), len(lines[-1]) + 1, message)
