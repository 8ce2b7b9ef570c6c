"""JSON Schema of the configuration, for editors: `python -m oomwatchd.config.schema > config/oomwatchd.schema.json`.

Made of the tables that the parser goes by. What concerns several rules, or the machine, is for `oomwatchctl check`."""

import json
import sys
from collections.abc import Mapping

from oomwatchd.base.uapi import OOM_ADJUST_MAX, OOM_DISABLE, OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomwatchd.config.keys import ACTIONS, CHOICES, RULE_BOOLEANS
from oomwatchd.rules.criteria import CRITERIA, Form
from oomwatchd.rules.model import INHERIT, RESET

Schema = dict[str, object]

DESCRIPTIONS: Mapping[str, str] = {
    "scan_interval": "How often all processes are looked at: a time span of systemd, 100ms to 1h.",
    "proc_events": "Process events of the kernel: with scans alone where there are none, required, or off.",
    "dry_run": "Decide and log, write nothing.",
    "on_exit": "Whether pins stay when the daemon stops, or every process gets back what it had.",
    "log_pins": "Which pins are logged one by one.",
    "name": "Unique over all files.",
    "description": "Free text.",
    "enabled": "false keeps the rule in the file without using it.",
    "containers": "true lets the rule fit processes in containers.",
    "spoofable": "true permits a rule that lowers to go by what any user can make true of a program.",
    "not": "Excludes a process for which all of these hold.",
    "oom_score_adj": "From -1000 (never killed) to 1000 (killed first), or bounds.",
    "oom_adj": "The old scale, -17 to 15.",
    "ignore": "Leave the process alone, and try no later rule.",
    "children": "What a descendant gets that no rule fits.",
    **{row.key: row.summary for row in CRITERIA.values()},
}


def schema() -> Schema:
    """The whole schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "oomwatchd.toml",
        "description": "Rules of oomwatchd, see oomwatchd.toml(5).",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "daemon": {"type": "object", "additionalProperties": False, "properties": _described(_daemon())},
            "rule": {"type": "array", "items": {"$ref": "#/definitions/rule"}},
        },
        "definitions": {
            "rule": _rule(),
            "text": {"anyOf": [{"type": "string", "minLength": 1, "pattern": "^[^\\u0000]*$"}, _REGEX]},
            "task name": {"anyOf": [{"type": "string", "minLength": 1, "pattern": _TASK_NAME}, _REGEX]},
        },
    }


_REGEX: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["regex"],
    "properties": {"regex": {"type": "string", "minLength": 1, "format": "regex"}},
}
_TASK_NAME = "^[^\\u0000]{1,15}$|^[^\\u0000]*[*?\\[,|/][^\\u0000]*$"
"""A task name of at most 15 characters, or a glob. `oomwatchctl check` warns of others."""
_PRINTABLE = "^[^\\u0000-\\u001f\\u007f]*[^\\u0000-\\u0020\\u007f][^\\u0000-\\u001f\\u007f]*$"
_TIME_SPAN = r"^\s*([0-9]+(\.[0-9]+)?\s*(us|usec|µs|μs|ms|msec|s|sec|seconds?|m|min|minutes?|h|hr|hours?)?\s*)+$"
_VALUE: Schema = {"type": "integer", "minimum": OOM_SCORE_ADJ_MIN, "maximum": OOM_SCORE_ADJ_MAX}
_BOOLEAN: Schema = {"type": "boolean"}


def _described(properties: dict[str, Schema]) -> dict[str, Schema]:
    return {key: {"description": DESCRIPTIONS[key], **value} for key, value in properties.items()}


def _daemon() -> dict[str, Schema]:
    properties: dict[str, Schema] = {
        "scan_interval": {"type": "string", "pattern": _TIME_SPAN, "default": "5s"},
        "dry_run": {"type": "boolean", "default": False},
    }
    for key, choices in CHOICES.items():
        properties[key] = {"enum": list(choices), "default": choices[0]}
    return properties


def _rule() -> Schema:
    bounds: Schema = {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {"at_least": _VALUE, "at_most": _VALUE},
    }
    properties: dict[str, Schema] = {
        "name": {"type": "string", "pattern": _PRINTABLE},
        "description": {"type": "string"},
        **dict.fromkeys(RULE_BOOLEANS, _BOOLEAN),
        **_criteria(),
        "not": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": _described(_criteria()),
        },
        "oom_score_adj": {"anyOf": [_VALUE, bounds]},
        "oom_adj": {"type": "integer", "minimum": OOM_DISABLE, "maximum": OOM_ADJUST_MAX},
        "ignore": {"const": True},
        "children": {"anyOf": [{"enum": [INHERIT, RESET]}, _VALUE]},
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "oneOf": [{"required": [key]} for key in ACTIONS],
        "properties": _described(properties),
    }


def _criteria() -> dict[str, Schema]:
    return {row.key: _criterion(row.key, row.form) for row in CRITERIA.values()}


def _criterion(key: str, form: Form) -> Schema:
    if form is Form.FLAG:
        return _BOOLEAN
    member: Schema
    if form is Form.TEXT:
        member = {"$ref": f"#/definitions/{'task name' if key == 'comm' else 'text'}"}
    elif form is Form.ID:
        name: Schema = {"type": "string", "minLength": 1, "pattern": "^[^*?\\[]*$"}
        member = {"anyOf": [name, {"type": "integer", "minimum": 0, "maximum": 2**32 - 2}]}
    else:
        member = {"type": "string", "minLength": 1}
    return {"anyOf": [member, {"type": "array", "minItems": 1, "items": member}]}


def main() -> int:
    """Print the schema."""
    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
