"""`oomwatchctl status`, `list` and `rules`: the state of the daemon."""

import argparse
import json
import time

from oomwatchd.base.text import printable
from oomwatchd.base.timespan import show_time_span
from oomwatchd.control.protocol import Json
from oomwatchd.ctl.ask import add_root, ask
from oomwatchd.ctl.table import BOLD, GREEN, RED, YELLOW, colour, print_table, wrap


def _configure(parser: argparse.ArgumentParser, legend: str) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--no-legend", action="store_true", help=legend)
    add_root(parser)


def configure_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl status` to its parser."""
    _configure(parser, "no headline")


def configure_list(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl list` to its parser."""
    _configure(parser, "no header")


def configure_rules(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl rules` to its parser."""
    _configure(parser, "no header")


# status


def run_status(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 3 not running."""
    status = ask(arguments.root, {"verb": "status"})
    if arguments.json:
        print(json.dumps(status))
        return 0
    rows = _status_rows(status)
    width = max(len(label) for label, _, _ in rows)
    if not arguments.no_legend:
        print(colour(f"oomwatchd {printable(status['version'])}, PID {status['pid']}", BOLD))
    for label, text, code in rows:
        indent = " " * (width + 2)
        first, *more = [wrap(printable(line), indent, indent)[len(indent) :] for line in text.split("\n")]
        shown = f"\n{indent}".join([first, *more])
        print(f"{label:>{width}}: {shown if code is None else colour(shown, code)}")
    return 0


_FILTERS = {"names": "what no rule can fit is dropped in the kernel", "kinds": "by kind of event alone", "off": "off"}


def _status_rows(status: Json) -> list[tuple[str, str, str | None]]:
    config, counters = status["config"], status["counters"]
    error, missing = config["error"], status["missing_capabilities"]
    on = status["proc_events"] == "on"
    filtered = _FILTERS.get(status["filter"], str(status["filter"]))
    interval = f"every {status['scan_interval']:g} s"
    rows: list[tuple[str, str, str | None]] = [
        ("Events", "on" if on else f"off: {status['events_reason']}", GREEN if on else YELLOW),
        (
            "Filter",
            f"{filtered}: {status['filter_reason']}" if on and status["filter_reason"] else filtered,
            None,
        ),
        ("Scans", f"{counters['scans']}, {interval}", None),
        ("Rules", f"{status['rules']}, loaded {clock(config['loaded_at'])}", None),
        ("Files", "\n".join(map(printable, config["files"])) or "none", None),
        ("Pinned", f"{status['pinned']} now, {counters['pins']} since the start", None),
        ("Let go", f"{counters['releases']} released, {counters['resets']} descendants given their own value", None),
        ("Drifts", f"{counters['drifts']} put back", None),
        ("Failures", str(counters["failures"]), RED if counters["failures"] > 0 else None),
        ("Losses", f"{counters['lost']}, of {counters['events']} events", YELLOW if counters["lost"] > 0 else None),
    ]
    if status["dry_run"]:
        rows.insert(0, ("Dry run", "nothing is written", YELLOW))
    if missing:
        rows.append(("Lacks", ", ".join(missing), YELLOW))
    if status.get("restored"):
        rows.insert(0, ("Restored", "nobody is held until the next reload or start", YELLOW))
    if status.get("watch_error"):
        rows.append(("Watch", f"saves are found by scans alone: {status['watch_error']}", YELLOW))
    if status.get("ledger_error"):
        rows.append(("Ledger", f"not written: {status['ledger_error']}", RED))
    if error is not None:
        rows.append(("Refused", f"what is on disk; the old rules stay\n{error}", RED))
    return rows


def clock(seconds: float) -> str:
    """Seconds since the epoch as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


# list


def run_list(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 3 not running."""
    reply = ask(arguments.root, {"verb": "list"})
    if arguments.json:
        print(json.dumps(reply))
        return 0
    columns = ["pid", "rule", "value", "first", "since", "comm"]
    rows = [
        [pin["pid"], pin["rule"], pin["oom_score_adj"], pin["original"], clock(pin["since"]), pin["comm"]]
        for pin in reply["pins"]
    ]
    if any(pin["until"] is not None for pin in reply["pins"]):
        columns.insert(5, "left")
        for row, pin in zip(rows, reply["pins"], strict=True):
            row.insert(5, _left(pin))
    print_table(columns, rows, legend=not arguments.no_legend, right=frozenset({0, 2, 3}))
    return 0


def _left(pin: Json) -> str:
    """How long a pin by `oomwatchctl pin --for` still lasts, for people; empty: it has no end."""
    until = pin.get("until")
    return "-" if until is None else show_time_span(until - time.time())


# rules


def run_rules(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 3 not running."""
    reply = ask(arguments.root, {"verb": "rules"})
    if arguments.json:
        print(json.dumps(reply))
        return 0
    rows = [
        (
            rule["rule"],
            rule["action"] if rule["enabled"] else "(disabled)",
            rule["matches"],
            rule["hits"],
            "oomwatchctl pin" if rule["file"] is None else f"{rule['file']}:{rule['line']}",
        )
        for rule in reply["rules"]
    ]
    columns = ("rule", "action", "now", "hits", "where")
    print_table(columns, rows, legend=not arguments.no_legend, right=frozenset({2, 3}))
    return 0
