"""`oomwatchctl reload`, `restore`, `pin` and `unpin`: admin requests, which change something and are for root."""

import argparse
import json
import re
import sys

from oomwatchd.base.text import printable
from oomwatchd.base.uapi import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomwatchd.control.protocol import Json
from oomwatchd.ctl.arguments import pid
from oomwatchd.ctl.ask import add_root, ask, connect
from oomwatchd.ctl.errors import CommandError

# reload


def configure_reload(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl reload` to its parser."""
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    add_root(parser)


def run_reload(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 with the errors; 3 not running."""
    verdict = ask(arguments.root, {"verb": "reload"})
    if verdict["ok"]:
        verdict["warnings"] = _all_warnings(arguments.root, verdict["warnings"])
    if arguments.json:
        print(json.dumps(verdict))
        return 0 if verdict["ok"] else 1
    for kind, problems in (("", verdict["errors"]), ("warning: ", verdict["warnings"])):
        for problem in problems:
            where = f"{problem['file']}:{problem['line']}:{problem['column']}"
            print(f"{printable(where)}: {kind}{printable(problem['message'])}", file=sys.stderr)
    return 0 if verdict["ok"] else 1


def _all_warnings(root: str, told: list[Json]) -> list[Json]:
    """All warnings of `check`. Where this user can't read the files: `told`, the warnings in the daemon's reply."""
    from dataclasses import asdict

    from oomwatchd.config.load import ConfigError, load
    from oomwatchd.ctl.check import lint
    from oomwatchd.ctl.rulebook import layout_of_daemon

    try:
        with connect(root) as client:
            loaded = load(layout_of_daemon(client))
        return [asdict(problem) for problem in lint(loaded)]
    except (ConfigError, CommandError):
        return told


# restore


def configure_restore(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl restore` to its parser."""
    parser.epilog = "The command returns when that is done. `oomwatchctl reload` puts the rules in force again."
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_root(parser)


def run_restore(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 3 not running."""
    verdict = ask(arguments.root, {"verb": "restore"})
    if arguments.json:
        print(json.dumps(verdict))
        return 0
    if verdict["dry_run"]:
        print("oomwatchctl: the daemon runs dry: nothing was written", file=sys.stderr)
    if verdict["refused"]:
        print(
            f"oomwatchctl: the kernel refused to write {verdict['refused']} of them, see the journal", file=sys.stderr
        )
    return 0


# pin, unpin


def configure_pin(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl pin` to its parser."""
    parser.epilog = "The value is in force when the command returns. It ends with the process, or after TIME."
    parser.add_argument("pid", type=pid, metavar="PID")
    parser.add_argument("value", type=_value, metavar="VALUE", help="oom_score_adj, -1000 to 1000")
    parser.add_argument("--for", dest="seconds", type=_time_span, metavar="TIME", help='such as 2h or "1h 30min"')
    add_root(parser)


def run_pin(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 refused; 3 not running."""
    request = {"verb": "pin", "pid": arguments.pid, "value": arguments.value, "seconds": arguments.seconds}
    if ask(arguments.root, request)["dry_run"]:
        print("oomwatchctl: the daemon runs dry: nothing was written", file=sys.stderr)
    return 0


def configure_unpin(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl unpin` to its parser."""
    parser.add_argument("pid", type=pid, metavar="PID")
    add_root(parser)


def run_unpin(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 there is no such pin; 3 not running."""
    ask(arguments.root, {"verb": "unpin", "pid": arguments.pid})
    return 0


def _value(word: str) -> int:
    if not re.fullmatch("[+-]?[0-9]{1,18}", word):
        raise argparse.ArgumentTypeError(f"'{word}' is no number; it may be -1000 to 1000")
    value = int(word)
    if not OOM_SCORE_ADJ_MIN <= value <= OOM_SCORE_ADJ_MAX:
        raise argparse.ArgumentTypeError(f"{value} is out of range; it may be -1000 to 1000")
    return value


def _time_span(word: str) -> float:
    from oomwatchd.base.timespan import parse_time_span  # heavy

    seconds = parse_time_span(word)
    if seconds is None or seconds == 0:
        raise argparse.ArgumentTypeError(f"'{word}' isn't a time span such as 2h or 1h 30min")
    return seconds
