"""Says what was meant by a key or a table that the configuration doesn't have. Pure.

It is imported only where a configuration has such a mistake."""

from collections.abc import Iterator, Mapping, Sequence

from oomwatchd.config.keys import DAEMON_KEYS, RULE_KEYS, meant, plain, synonym
from oomwatchd.config.toml_positions import Path

_TABLES = {"daemon": "[daemon]", "rule": "[[rule]]"}
_PROCESSES = ("pid", "pids", "pidfile", "pid_file", "mainpid", "main_pid")
_UNIT_SECTIONS = ("Unit", "Service", "Install", "Slice", "Scope", "Socket", "Manager")
# What ananicy, cgrules and systemd's units can set, and a rule can't.
_OF_UNITS = {
    "nice": "Nice",
    "latencynice": "Nice",
    "ionice": "IOSchedulingPriority",
    "ioclass": "IOSchedulingClass",
    "sched": "CPUSchedulingPolicy",
    "rtprio": "CPUSchedulingPriority",
    "memorymax": "MemoryMax",
    "memorylimit": "MemoryMax",
    "memoryhigh": "MemoryHigh",
    "memorymin": "MemoryMin",
    "memorylow": "MemoryLow",
    "cpuquota": "CPUQuota",
    "cpuweight": "CPUWeight",
    "oompolicy": "OOMPolicy",
}
_INCLUDES = ("include", "includes", "import", "source")


def misspelt_rules(content: Mapping[str, object]) -> Iterator[tuple[Path, dict[str, object]]]:
    """The tables below headers like [[rules]], each with its path."""
    for key, tables in content.items():
        if (
            key in _TABLES
            or not isinstance(tables, list)
            or meant(key, ("daemon", "rule", "rules")) in (None, "daemon")
        ):
            continue
        for i, table in enumerate(tables):
            if isinstance(table, dict):
                yield (key, i), table


def about_top_key(key: str, value: object) -> str:
    """About an unknown key or table at the top of a file."""
    if not isinstance(value, (dict, list)) or key in RULE_KEYS:
        for keys, header in ((DAEMON_KEYS, "[daemon]"), (RULE_KEYS, "[[rule]]")):
            if key in keys:
                below = f", as [rule.{key}]" if isinstance(value, dict) and header == "[[rule]]" else ""
                return f"'{key}' stands outside of any table; it belongs below {header}{below}"
    close = meant(key, ("daemon", "rule", "rules"))
    if close is not None:
        close = close.removesuffix("s")
        return f"Unknown table or key '{key}'; did you mean '{close}'? Write {_TABLES[close]}"
    if isinstance(value, dict) and set(RULE_KEYS).intersection(value):
        return f"Unknown table '{key}'; a rule begins with [[rule]], and name = \"{key}\""
    if isinstance(value, dict) and set(DAEMON_KEYS).intersection(value):
        return f"Unknown table '{key}'; what concerns the daemon stands below [daemon]"
    if key.lower() in _INCLUDES:
        return f"Unknown key '{key}'; other files are read if they are /etc/oomwatchd.d/*.toml"
    if key in _UNIT_SECTIONS and isinstance(value, dict):
        return f"Unknown table '{key}', a section of systemd's units; a rule is [[rule]] with unit = \"NAME.service\""
    return f"Unknown table or key '{key}'; there are [daemon] and [[rule]]"


def about_key(key: str, value: object, known: Sequence[str]) -> tuple[str, set[str]]:
    """About an unknown key of a table that has the keys `known`. Returns the message, and the known keys that seem to
    be meant."""
    of_a_rule = known is RULE_KEYS
    inside = set(RULE_KEYS).intersection(value) if of_a_rule and isinstance(value, dict) else set()
    if inside and meant(key, known) != "not":
        return f"Unknown table '{key}'; what stands in it belongs below [[rule]] itself", inside
    bound = synonym(key, ("regex", "at_least", "at_most")) if of_a_rule else None
    if bound == "regex":
        return f"Unknown key '{key}'; it stands in braces: cmdline = {{ regex = '…' }}", set()
    if bound is not None:
        number = value if isinstance(value, int) else "N"
        return f"Unknown key '{key}'; it stands in braces: oom_score_adj = {{ {bound} = {number} }}", {"oom_score_adj"}
    if of_a_rule and (directive := _OF_UNITS.get(plain(key))) is not None:
        what = f"the unit of a service sets it, with {directive}="
        return f"Unknown key '{key}'; a rule sets oom_score_adj alone, and {what}", set()
    close = meant(key, known)
    if of_a_rule and key.lower() in _PROCESSES:
        return f"Unknown key '{key}'; a rule names programs; one process is held by: oomwatchctl pin PID VALUE", set()
    if close is None:
        return f"Unknown key '{key}'", set()
    return f"Unknown key '{key}'; did you mean '{close}'?", {close}
