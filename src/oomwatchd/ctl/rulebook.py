"""Finds the rules that a verb goes by: those that the daemon has loaded, those of a file, or the installed ones."""

import argparse
import sys
from dataclasses import dataclass, field

from oomwatchd.base.text import printable
from oomwatchd.config import load as config
from oomwatchd.config.document import ConfigFile
from oomwatchd.config.load import Config, ConfigError, Layout
from oomwatchd.control.client import Client, NoAnswer, NotRunning, OtherVersion
from oomwatchd.control.protocol import Json, runtime_directory
from oomwatchd.ctl.arguments import path
from oomwatchd.ctl.ask import reply_to
from oomwatchd.ctl.errors import CommandError
from oomwatchd.pinning.ledger_codec import RuntimePin

PATIENCE_SECONDS = 5.0
"""How long the daemon may take for its first reply."""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules that a command goes by, and what else it knows of the daemon that has loaded them."""

    config: Config
    daemon: Client | None = None
    """The connection to the daemon, to ask for lineage; None: no daemon runs."""
    loaded: bool = False
    """Whether they are the rules that the daemon has loaded."""
    pins: dict[int, RuntimePin] = field(default_factory=dict)
    """The pins that `oomwatchctl pin` has made, by PID."""
    hidden: tuple[str, ...] = ()
    """Files that the daemon has loaded, but doesn't show to this user."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options -c and --root, as oomwatchd has them."""
    parser.add_argument("-c", dest="file", type=path, metavar="FILE", help="the rules of FILE alone")
    parser.add_argument(
        "--root",
        type=path,
        metavar="DIR",
        help="the configuration below DIR, and the daemon that was started with this --root",
    )


def open_rulebook(arguments: argparse.Namespace) -> Rulebook:
    """The rules that the arguments mean. Raises CommandError if they are invalid."""
    daemon = find_daemon(arguments)
    if arguments.file is None and daemon is not None:
        return _loaded(daemon)
    try:
        return Rulebook(config.load(config.layout(arguments.file, arguments.root or "/")), daemon)
    except ConfigError as error:
        raise CommandError(1, "the configuration is invalid:", error.problems) from None


def find_daemon(arguments: argparse.Namespace) -> Client | None:
    """A connection to the daemon; None: no daemon runs, or it doesn't answer. So verbs that can do without the daemon
    work beside one that hangs."""
    directory = runtime_directory(arguments.root or "/")
    try:
        with Client(directory, seconds=PATIENCE_SECONDS) as client:
            refusal = client.ask({"verb": "status"}).get("error")
        if refusal is None:
            return Client(directory)
    except (NoAnswer, OSError, OtherVersion) as reason:
        refusal = str(reason)
    except NotRunning:
        return None
    print(f"oomwatchctl: going by the files, and not by the daemon: {printable(str(refusal))}", file=sys.stderr)
    return None


def find_layout(arguments: argparse.Namespace) -> Layout:
    """The files that the daemon would load. A running daemon tells which these are, unless the arguments name
    others."""
    if arguments.file is None and arguments.root is None and (daemon := find_daemon(arguments)) is not None:
        with daemon:
            return layout_of_daemon(daemon)
    return config.layout(arguments.file, arguments.root or "/")


def layout_of_daemon(daemon: Client) -> Layout:
    """The files that the daemon loads, as it says."""
    where = reply_to(daemon, {"verb": "loaded"})["layout"]
    return Layout(where["main_file"], tuple(where["drop_in_dirs"]), where["main_file_required"])


def _loaded(daemon: Client) -> Rulebook:
    reply: Json = reply_to(daemon, {"verb": "loaded"})
    sources = [ConfigFile(source["path"], source["text"]) for source in reply["sources"] if source["text"] is not None]
    hidden = tuple(source["path"] for source in reply["sources"] if source["text"] is None)
    pins = {pin["pid"]: RuntimePin(pin["pid"], pin["starttime"], pin["value"]) for pin in reply["pins"]}
    try:
        return Rulebook(config.parse(sources), daemon, True, pins, hidden)
    except ConfigError as error:
        # Either descendant_of names a rule that this user may not see, or the daemon is of another version.
        hint = f"; not shown to you: {', '.join(map(printable, hidden))}" if hidden else ""
        message = f"the rules that the daemon has loaded can't be read here{hint}:"
        raise CommandError(1, message, error.problems) from None
