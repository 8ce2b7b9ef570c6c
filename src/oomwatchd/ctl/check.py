"""`oomwatchctl check` and `config`: the configuration on disk, before the daemon loads it."""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict

from oomwatchd.base.text import counted, printable
from oomwatchd.config import load as config
from oomwatchd.config.load import Config, ConfigError
from oomwatchd.config.problems import Problem
from oomwatchd.ctl.arguments import path
from oomwatchd.ctl.rulebook import add_options, find_layout
from oomwatchd.ctl.table import RED, YELLOW, colour

# check


def configure_check(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl check` to its parser."""
    parser.epilog = "Without FILE: the configuration that oomwatchd would load now. Each FILE is read by itself."
    parser.add_argument("files", nargs="*", type=path, metavar="FILE")
    parser.add_argument("--strict", action="store_true", help="a warning counts as an error")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_options(parser)
    parser.set_defaults(usage_error=parser.error)


def run_check(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 errors, with --strict also warnings."""
    if arguments.files and arguments.file is not None:
        arguments.usage_error("-c is the same as FILE; give one of them")
    layouts = [config.layout(file) for file in arguments.files] or [find_layout(arguments)]
    errors: list[Problem] = []
    warnings: list[Problem] = []
    valid: list[Config] = []
    for where in layouts:
        try:
            valid.append(config.load(where))
            warnings += lint(valid[-1])
        except ConfigError as error:
            errors += error.problems
            warnings += error.warnings
    ok = not errors and not (arguments.strict and warnings)
    if arguments.json:
        print(json.dumps({"ok": ok, "errors": _as_json(errors), "warnings": _as_json(warnings)}))
        return 0 if ok else 1
    print_problems(errors, warnings)
    if not errors:
        print(summary(valid, len(warnings)))
    return 0 if ok else 1


def print_problems(errors: Iterable[Problem], warnings: Iterable[Problem]) -> None:
    """Print errors and warnings, each on a line of its own with its place."""
    for problem in errors:
        print(f"{colour(_where(problem), RED)} {printable(problem.message)}")
    for problem in warnings:
        print(f"{_where(problem)} {colour('warning:', YELLOW)} {printable(problem.message)}")


def summary(valid: Iterable[Config], warnings: int) -> str:
    """One line that says how many files, rules and warnings there are."""
    files = sum(len(each.sources) for each in valid)
    rules = [rule for each in valid for rule in each.rules]
    disabled = sum(not rule.enabled for rule in rules)
    count = counted(len(rules), "rule") + (f" ({disabled} disabled)" if disabled else "")
    return f"Valid: {counted(files, 'file')}, {count}, {counted(warnings, 'warning')}"


def lint(loaded: Config) -> list[Problem]:
    """All warnings about a valid configuration, in the order of its files and lines."""
    # This looks at all processes and takes some 100 ms, so it is left out where the configuration has errors.
    from oomwatchd.config.lint import warnings
    from oomwatchd.ctl.protection import too_wide

    order = {source.path: i for i, source in enumerate(loaded.sources)}
    found = [*loaded.warnings, *warnings(loaded), *too_wide(loaded.rules)]
    return sorted(found, key=lambda problem: (order.get(problem.file, -1), problem.line, problem.column))


def _where(problem: Problem) -> str:
    return printable(f"{problem.file}:{problem.line}:{problem.column}:")


def _as_json(problems: Iterable[Problem]) -> list[dict[str, object]]:
    return [asdict(problem) for problem in problems]


# config


def configure_config(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl config` to its parser."""
    parser.epilog = "The output is a complete configuration: -c takes it."
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--no-legend", action="store_true", help="no comments")
    add_options(parser)


def run_config(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 errors."""
    try:
        loaded = config.load(find_layout(arguments))
    except ConfigError as error:
        print(printable_problems(error.problems), file=sys.stderr)
        return 1
    tables = rule_tables(loaded)
    if arguments.json:
        rules = [
            {"rule": rule.name, "file": rule.file, "line": rule.line, "table": table}
            for rule, table in zip(loaded.rules, tables, strict=True)
        ]
        files = [source.path for source in loaded.sources]
        print(json.dumps({"files": files, "daemon": asdict(loaded.settings), "rules": rules}))
        return 0
    _print_toml(loaded, tables, legend=not arguments.no_legend)
    return 0


def printable_problems(problems: Iterable[Problem]) -> str:
    """The problems as lines of text that a terminal can take."""
    return "\n".join(printable(str(problem)) for problem in problems)


def rule_tables(loaded: Config) -> list[dict[str, object]]:
    """The table of each rule as it was written, in the order in which the rules are tried."""
    import tomli

    return [table for source in loaded.sources for table in tomli.loads(source.text).get("rule", [])]


def _print_toml(loaded: Config, tables: Iterable[dict[str, object]], *, legend: bool) -> None:
    settings = asdict(loaded.settings) | {"scan_interval": f"{loaded.settings.scan_interval:g}s"}
    if legend:
        print(f"# {' '.join(printable(source.path) for source in loaded.sources) or 'no files'}")
    print("[daemon]")
    for key, value in settings.items():
        print(f"{key} = {as_toml(value)}")
    for rule, table in zip(loaded.rules, tables, strict=True):
        print()
        if legend:
            print(f"# {printable(rule.file)}:{rule.line}")
        print("[[rule]]")
        for key, value in table.items():
            print(f"{key} = {as_toml(value)}")


def as_toml(value: object) -> str:
    """A value of a configuration as TOML. A string is written as in JSON, with DEL escaped: TOML reads all else in the
    same way."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {as_toml(member)}" for key, member in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
