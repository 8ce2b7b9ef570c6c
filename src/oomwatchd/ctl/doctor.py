"""`oomwatchctl doctor`: what in this system weakens or defeats the pins."""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from oomwatchd import doctor
from oomwatchd.base.text import printable
from oomwatchd.control.client import Client, NotRunning
from oomwatchd.control.protocol import runtime_directory
from oomwatchd.ctl.ask import add_root
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.table import BOLD, DIM, RED, YELLOW, colour, wrap
from oomwatchd.doctor.reader import read_system
from oomwatchd.doctor.system import Pinned
from oomwatchd.kernel.proc_connector import Connector, EventsUnavailable

COLOURS = {doctor.CRITICAL: RED, doctor.WARNING: YELLOW, doctor.NOTICE: DIM}


def configure_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl doctor` to its parser."""
    parser.epilog = (
        "Severities: critical (pins have no effect), warning (some are weakened), notice (worth knowing). "
        "Changes nothing. Sees more as root."
    )
    add_root(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--no-legend", action="store_true", help="no closing line")


def run_doctor(arguments: argparse.Namespace) -> int:
    """Exit status: 0 no findings; 1 findings."""
    if not os.path.isdir(arguments.root):
        raise CommandError(1, f"{printable(arguments.root)}: No such directory; it was given as --root")
    daemon = _ask_daemon(arguments.root)
    # A directory with a /proc is examined as a whole system. Else --root only says which daemon on this machine is
    # meant.
    root = arguments.root if os.path.exists(os.path.join(arguments.root, "proc/meminfo")) else "/"
    events = daemon.events
    if daemon.pid is None and os.geteuid() == 0 and root == "/":
        events = _try_events()
    system = read_system(root, daemon.pid, events, daemon.pinned)
    if daemon.pid is not None:  # the daemon may be in a sandbox, and see another /proc than this process
        system = replace(
            system,
            hidepid=daemon.hidepid,
            missing_capabilities=daemon.missing_capabilities,
            not_watched=daemon.not_watched,
        )
    found = doctor.findings_of(system)
    if arguments.json:
        print(json.dumps({"findings": [asdict(finding) for finding in found]}))
        return 1 if found else 0
    for finding in found:
        print(f"{colour(finding.severity, COLOURS[finding.severity])}  {colour(finding.id, BOLD)}")
        print(wrap(finding.message, "    "))
        print(wrap(finding.advice, "      ", first="    → "))
    if not arguments.no_legend:
        count = "1 finding." if len(found) == 1 else f"{len(found)} findings."
        print(count if found else "Nothing here weakens the pins.")
    return 1 if found else 0


@dataclass(frozen=True, slots=True)
class _Daemon:
    """What the daemon says of itself. Without a daemon that answers, all of it is None or empty."""

    pid: int | None = None
    events: tuple[bool, str] | None = None
    """Whether the daemon has process events, and why not."""
    pinned: Mapping[int, Pinned] | None = None
    hidepid: str | None = None
    """The value of hidepid= of the /proc that the daemon sees."""
    missing_capabilities: tuple[str, ...] = ()
    not_watched: str = ""
    """Why the daemon gets no event when the configuration is saved; empty: it gets one."""


def _ask_daemon(root: str) -> _Daemon:
    try:
        with Client(runtime_directory(root), seconds=5) as client:
            status = client.ask({"verb": "status"})
            pins = client.ask({"verb": "list"}).get("pins", [])
        pinned = {p["pid"]: Pinned(p["rule"], p["oom_score_adj"], p["original"]) for p in pins}
        return _Daemon(
            int(status["pid"]),
            (status["proc_events"] == "on", str(status["events_reason"])),
            pinned,
            status["hidepid"],
            tuple(map(str, status["missing_capabilities"])),
            status["watch_error"] or "",
        )
    except (NotRunning, OSError, KeyError, ValueError):
        return _Daemon()


def _try_events() -> tuple[bool, str]:
    """Whether a daemon that is started from here would have process events, and why not."""
    try:
        Connector(frozenset()).close()
    except EventsUnavailable as error:
        return False, str(error)
    return True, ""
