"""`oomwatchctl metrics`: figures as OpenMetrics text, for a scraper.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md. Only features that the older text
format of Prometheus has, too, are used, since node_exporter's textfile collector reads that: no info, no stateset, no
timestamps."""

import argparse
import json
from collections.abc import Iterator

from oomwatchd.base.text import printable
from oomwatchd.control.client import OtherVersion
from oomwatchd.control.protocol import Json
from oomwatchd.ctl.ask import add_root, ask

_COUNTERS = (
    ("events", "events", "Process events received."),
    ("pins", "pins", "Processes pinned."),
    ("releases", "releases", "Processes given back what they had before a pin."),
    ("resets", "resets", "Descendants of pinned processes given what children says."),
    ("drifts", "drifts", "Values that someone had changed, put back."),
    ("failures", "pin_failures", "Writes of oom_score_adj that the kernel refused."),
    ("lost", "event_losses", "Times that process events were lost, each followed by a full scan."),
    ("scans", "scans", "Scans of all processes."),
)


def configure_metrics(parser: argparse.ArgumentParser) -> None:
    """Add the options of `oomwatchctl metrics` to its parser."""
    parser.add_argument("--json", action="store_true", help="the same figures as one JSON object")
    add_root(parser)


def run_metrics(arguments: argparse.Namespace) -> int:
    """Exit status: 0; 3 not running."""
    figures = ask(arguments.root, {"verb": "metrics"})
    print(json.dumps(figures) if arguments.json else "\n".join(as_text(figures)))
    return 0


def as_text(figures: Json) -> Iterator[str]:
    """The lines of the text. `figures`: the daemon's reply."""
    counters, rules = figures["counters"], figures["rules"]
    version = figures["version"]
    yield from _family("build_info", "gauge", "The version that runs.", [(f'{{version="{_escaped(version)}"}}', 1)])
    yield from _gauge("start_time_seconds", "When the daemon was started, since the epoch.", figures["started_at"])
    yield from _gauge("proc_events", "Whether process events are received; else scans alone.", figures["proc_events"])
    yield from _gauge("dry_run", "Whether nothing is written.", figures["dry_run"])
    help_text = "When the rules in force were loaded, since the epoch."
    yield from _gauge("config_load_time_seconds", help_text, figures["loaded_at"])
    yield from _gauge("config_valid", "Whether the last reload was a success.", figures["config_ok"])
    yield from _gauge("pinned_processes", "Processes held now.", figures["pinned"])
    for key, name, text in _COUNTERS:
        yield from _family(name, "counter", text, [("_total", counters[key])])
    text = (
        "Processes that OOM killers took while the daemon ran: all of the kernel's, of others those that a rule held."
    )
    kills = [(f"_total{_kill_labels(kill)}", kill["count"]) for kill in figures["oom_kill_counts"]]
    yield from _family("oom_kills", "counter", text, kills)
    duration = [("_count", counters["scans"]), ("_sum", figures["scan_seconds"])]
    yield from _family("scan_duration_seconds", "summary", "How long scans took, pauses for events included.", duration)
    yield from _latency(figures["latency"])
    labels = [(f'{{rule="{_escaped(rule["rule"])}"}}', rule) for rule in rules]
    matches = [(label, rule["matches"]) for label, rule in labels]
    yield from _family("rule_matches", "gauge", "Processes that a rule fits now.", matches)
    hits = [(f"_total{label}", rule["hits"]) for label, rule in labels]
    yield from _family("rule_hits", "counter", "Processes that a rule came to fit.", hits)
    yield "# EOF"


def _kill_labels(kill: Json) -> str:
    held = "true" if kill["held"] else "false"
    return f'{{killer="{_escaped(kill["killer"])}",rule="{_escaped(kill["rule"])}",held="{held}"}}'


def _gauge(name: str, text: str, value: float) -> Iterator[str]:
    yield from _family(name, "gauge", text, [("", value)])


def _family(name: str, kind: str, text: str, samples: list[tuple[str, float]]) -> Iterator[str]:
    yield f"# TYPE oomwatchd_{name} {kind}"
    yield f"# HELP oomwatchd_{name} {text}"
    for suffix, value in samples:
        yield f"oomwatchd_{name}{suffix} {_number(value)}"


def _latency(latency: Json) -> Iterator[str]:
    total, samples = 0, []
    if len(latency["counts"]) != len(latency["bounds_us"]) + 1:
        raise OtherVersion("latency.counts", wrong=True)
    for bound, count in zip([*latency["bounds_us"], None], latency["counts"], strict=True):
        total += count
        le = "+Inf" if bound is None else repr(bound / 1e6)
        samples.append((f'_bucket{{le="{le}"}}', total))
    samples += [("_count", total), ("_sum", latency["sum_us"] / 1e6)]
    text = "From the kernel's timestamp of an event to the end of the write."
    yield from _family("pin_latency_seconds", "histogram", text, samples)


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(float(value))


def _escaped(label: str) -> str:
    return printable(label).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
