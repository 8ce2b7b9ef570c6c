"""oomwatchctl: the command line. Each verb lives in a module of this package, imported when asked for."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from oomwatchd import __version__

# verb -> (module of this package, one line for the help). A module has, for its verb VERB,
# `configure_VERB(parser)`, which adds arguments, and `run_VERB(arguments)`, which returns the exit status.
VERBS: dict[str, tuple[str, str]] = {
    "rank": ("rank", "show whom the kernel would kill next, in its order"),
    "doctor": ("doctor", "show what in this system weakens or defeats the pins"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its exit status (oomwatchctl(1)); argparse exits with 2 on a usage error."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(words)
    arguments = parser.parse_args(words)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oomwatchctl", description="Show, ask and steer oomwatchd.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"oomwatchctl {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    asked = next((word for word in words if not word.startswith("-")), None)
    for verb, (module_name, summary) in VERBS.items():
        verb_parser = verbs.add_parser(verb, help=summary, description=summary, allow_abbrev=False)
        if verb == asked:
            module = import_module(f"oomwatchd.ctl.{module_name}")
            getattr(module, f"configure_{verb}")(verb_parser)
            verb_parser.set_defaults(run=getattr(module, f"run_{verb}"))
    return parser
