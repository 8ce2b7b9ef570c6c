"""oomwatchctl, the command line. Each verb is in a module of this package, which is imported when the verb is used."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from oomwatchd import __version__
from oomwatchd.base.stdio import open_standard_streams
from oomwatchd.base.text import printable
from oomwatchd.control.client import OtherVersion
from oomwatchd.ctl.arguments import joined
from oomwatchd.ctl.errors import CommandError

# Each verb with its module in this package, and its line in the help. For a verb VERB the module has
# `configure_VERB(parser)`, which adds the arguments, and `run_VERB(arguments)`, which returns the exit status.
VERBS: dict[str, tuple[str, str]] = {
    "status": ("state", "show the daemon at a glance"),
    "list": ("state", "show every pinned process"),
    "rules": ("state", "show every rule, and what it matches"),
    "explain": ("explain", "show why a process is or is not pinned"),
    "check": ("check", "validate a configuration, and warn of mistakes in it"),
    "edit": ("edit", "edit the configuration, and put it in place only if it is valid"),
    "restore": ("admin", "give every pinned process its original value back, and pin nobody"),
    "config": ("check", "show the merged configuration"),
    "rank": ("rank", "show whom the kernel would kill next, in its order"),
    "doctor": ("doctor", "show what in this system weakens or defeats the pins"),
    "postmortem": ("postmortem", "show past OOM kills from logs, and why they happened"),
    "monitor": ("monitor", "show each event as it comes, and what was decided"),
    "pin": ("admin", "pin one process at run time"),
    "unpin": ("admin", "end a pin that `pin` has made"),
    "reload": ("admin", "reload the configuration, and wait for the result"),
    "metrics": ("metrics", "print figures as OpenMetrics text"),
}
PAGED = ("list", "rules", "explain", "config", "rank", "doctor")
"""Verbs whose output goes through a pager on a terminal. `postmortem` does that itself."""
_GROUPS = {
    "status": "State of the daemon",
    "check": "The configuration",
    "rank": "Out of memory",
    "monitor": "Watching and control",
}
"""Headings of the help, each by its first verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its exit status (oomwatchctl(1)); argparse exits with 2 on a usage error."""
    open_standard_streams()
    try:
        try:
            return _run(_verb_first(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except CommandError as error:
        print(f"oomwatchctl: {printable(str(error))}", *map(printable, error.details), sep="\n", file=sys.stderr)
        return error.status
    except OtherVersion as error:
        print(f"oomwatchctl: {error}; to run the installed one: systemctl restart oomwatchd", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`). Without this, Python would report the error a second time when it
        # closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"oomwatchctl: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(words: Sequence[str]) -> int:
    if len(words) == 2 and words[0] == "__complete":  # a shell asks for completions
        from oomwatchd.ctl.completion import print_candidates

        return print_candidates(words[1])
    arguments = _parse(words)
    if "no_pager" not in arguments or words[0] not in PAGED:
        status: int = arguments.run(arguments)
        return status
    from oomwatchd.ctl.pager import page

    live = arguments.json or getattr(arguments, "watch", None)
    return page(lambda: int(arguments.run(arguments)), wanted=not (arguments.no_pager or live))


_WITH_VALUE = ("--root", "-c")
"""Options that may stand before the verb, and whose value is the next word."""


def _verb_first(words: Sequence[str]) -> list[str]:
    """The words with the verb first. Options may stand before the verb, as with systemctl(1), but argparse wants them
    after it."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in _WITH_VALUE else 1
    return [*words[at : at + 1], *words[:at], *words[at + 1 :]]


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of the verb. The other verbs get no parser, so that `status` is quick."""
    if words[:1] == ["help"] and len(words) > 1:
        words = [words[1], "--help"]
    if not words or words[0] not in VERBS:
        return _without_a_verb(words)
    verb = words[0]
    module_name, summary = VERBS[verb]
    module = import_module(f"oomwatchd.ctl.{module_name}")
    description = f"{summary[0].upper()}{summary[1:]}. See oomwatchctl(1)."
    parser = argparse.ArgumentParser(prog=f"oomwatchctl {verb}", description=description, allow_abbrev=False)
    configure(verb, module, parser)
    parser.set_defaults(run=getattr(module, f"run_{verb}"))
    return parser.parse_args(joined(words[1:]))


def configure(verb: str, module: ModuleType, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a verb."""
    getattr(module, f"configure_{verb}")(parser)
    if verb in PAGED:
        parser.add_argument("--no-pager", action="store_true", help="don't send long output through a pager")


def _without_a_verb(words: Sequence[str]) -> NoReturn:
    """Handle a command line without a verb: --help, --version, or a usage error."""
    first = words[0] if words else ""
    if first in ("-h", "--help", "help"):
        print(overview())
        sys.exit(0)
    if first in ("--version", "version"):
        print(f"oomwatchctl {__version__}")
        sys.exit(0)
    if not words or first.partition("=")[0] in (*_WITH_VALUE, "--json", "--no-legend", "--no-pager"):
        print(f"{overview()}\n\noomwatchctl: a verb is required: VERB", file=sys.stderr)
    else:
        from oomwatchd.config.problems import suggestion

        what = "option" if first.startswith("-") else "verb"
        close = suggestion(first.lower(), ("--help", "--version") if what == "option" else (*VERBS, "help", "version"))
        print(f"oomwatchctl: unknown {what} '{printable(first)}'{close}\nSee oomwatchctl --help.", file=sys.stderr)
    sys.exit(2)


def overview() -> str:
    """The help: all verbs, in the order and the groups of the manual."""
    lines = ["Usage: oomwatchctl VERB [OPTIONS] [ARGUMENTS]", "", "Show what oomwatchd does, and control it."]
    for verb, (_, summary) in VERBS.items():
        if verb in _GROUPS:
            lines += ["", f"{_GROUPS[verb]}:"]
        lines.append(f"  {verb:<11} {summary}")
    lines += [
        "",
        "  help [VERB], VERB --help   explain a verb and its options",
        "  version, --version         show the version",
    ]
    return "\n".join([*lines, "", "See oomwatchctl(1), and oomwatchd.toml(5) for the configuration."])
