"""`oomwatchctl reload`: what changes something. For root."""

import argparse
import json
import sys

from oomwatchd.ctl.ask import add_root, ask
from oomwatchd.text import printable


def configure_reload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON object")
    add_root(parser)


def run_reload(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 1 with the errors; 3 not running."""
    verdict = ask(arguments.root, {"verb": "reload"})
    if arguments.json:
        print(json.dumps(verdict))
        return 0 if verdict["ok"] else 1
    for kind, problems in (("", verdict["errors"]), ("warning: ", verdict["warnings"])):
        for problem in problems:
            where = f"{problem['file']}:{problem['line']}:{problem['column']}"
            print(f"{printable(where)}: {kind}{printable(problem['message'])}", file=sys.stderr)
    return 0 if verdict["ok"] else 1
