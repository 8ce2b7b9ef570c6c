"""`oomwatchctl monitor`: each event as it comes, and what was decided."""

import argparse
import json
import time

from oomwatchd.base.text import decode, printable
from oomwatchd.control.client import NotRunning
from oomwatchd.control.protocol import Json
from oomwatchd.control.replies import MONITOR_LINE
from oomwatchd.ctl.ask import NOT_RUNNING, add_root, connect, reply_to
from oomwatchd.ctl.errors import CommandError
from oomwatchd.ctl.table import BOLD, DIM, GREEN, RED, YELLOW, colour

_COLOURS = {"seen": DIM, "pinned": GREEN, "drift": YELLOW, "contended": RED, "pin-failed": RED}
_LINE = "{:12}  {:6}  {:11}  {:>7}  {:15}  {:>5}  {:>5}  {:>8}  {}"


def configure_monitor(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl monitor` to its parser."""
    parser.epilog = "Ends with Ctrl-C. Lines that come faster than they are read are left out, and counted."
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--no-legend", action="store_true", help="no header")
    add_root(parser)


def run_monitor(arguments: argparse.Namespace) -> int:
    """Exit status: 0 ended by Ctrl-C; 3 the daemon doesn't run, or has ended."""
    with connect(arguments.root) as client:
        try:
            reply_to(client, {"verb": "monitor"})
            client.socket.settimeout(None)
            if not (arguments.json or arguments.no_legend):
                columns = ("TIME", "SOURCE", "EVENT", "PID", "COMM", "OLD", "NEW", "LATENCY", "RULE")
                print(colour(_LINE.format(*columns), BOLD), flush=True)
            while True:
                entry = client.receive(MONITOR_LINE)
                if entry["event"] == "seen":
                    entry["comm"] = _comm_of(entry["pid"])
                print(json.dumps(entry) if arguments.json else as_line(entry), flush=True)
        except NotRunning as reason:
            raise CommandError(NOT_RUNNING, str(reason)) from None
        except KeyboardInterrupt:
            return 0


def _comm_of(pid: int) -> str | None:
    """The name of a process; None: it is gone. It is read here, since the daemon doesn't read a name that no rule asks
    for."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return decode(file.read().removesuffix(b"\n"))
    except OSError:
        return None


def as_line(entry: Json) -> str:
    """One line for people."""
    event = printable(entry["event"])
    if event == "dropped":
        return colour(f"... {entry['count']} left out, since they came faster than they were read", YELLOW)
    moment = time.strftime("%H:%M:%S", time.localtime(entry["time"])) + f".{int(entry['time'] % 1 * 1000):03}"
    if "message" in entry:
        first, *more = entry["message"].split("\n")
        return f"{moment}  {'':6}  {event}: {printable(first)}{''.join(f' | {printable(line)}' for line in more)}"
    latency = "-" if entry.get("latency_us") is None else f"{entry['latency_us'] / 1000:.2f} ms"
    rule = printable(entry["rule"] or "-")
    why = "" if entry.get("error") is None else f": {printable(entry['error'])}"
    text = _LINE.format(
        moment,
        printable(entry["source"] or "-"),
        event,
        entry["pid"],
        printable(entry["comm"] or "-"),
        _dash(entry.get("old")),
        _dash(entry.get("new")),
        latency,
        f"{rule}{why}",
    )
    return colour(text.rstrip(), _COLOURS.get(event, "0"))


def _dash(value: object) -> object:
    """The value, or a dash if there is none."""
    return "-" if value is None else value
