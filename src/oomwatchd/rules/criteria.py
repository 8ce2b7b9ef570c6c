"""The table of criteria: one row says all that the program knows of a key.

kernel/facts.py reads the facts; everything else (parsing, matching, which events are subscribed) walks this table."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Form(Enum):
    """How the value of a criterion is written in a rule, and what it is compared with."""

    TEXT = "text"
    """Strings, shell globs, `{ regex = "…" }`."""
    ID = "id"
    """User or group names, or numbers."""
    FLAG = "flag"
    """`true` or `false`."""
    RULE = "rule"
    """Names of other rules."""


class Source(Enum):
    """Where a fact is read."""

    STAT = "/proc/PID/stat"
    """Read of every process that is looked at."""
    EXE = "/proc/PID/exe"
    CMDLINE = "/proc/PID/cmdline"
    STATUS = "/proc/PID/status"
    CGROUP = "/proc/PID/cgroup"
    LINEAGE = "lineage"
    """What the ledger knows of the ancestors."""


@dataclass(frozen=True, slots=True)
class Row:
    """One criterion."""

    key: str
    form: Form
    says_who: bool | None
    """Whether it says who controls the process; None: as the rules say that it names."""
    fact: str
    """The attribute of model.Process that it is compared with."""
    source: Source
    event: str | None
    """The event that tells of a change of the fact: exec, comm, uid, gid, fork. None: a change raises no event, and
    scans find it."""
    indexed: bool = True
    """Whether the rules that a value leaves in question are remembered for each value. Not for what differs from
    process to process."""


_ROWS = (
    Row("exe", Form.TEXT, True, "exe", Source.EXE, "exec"),
    Row("comm", Form.TEXT, False, "comm", Source.STAT, "comm"),
    Row("cmdline", Form.TEXT, False, "cmdline", Source.CMDLINE, "exec", indexed=False),
    Row("unit", Form.TEXT, True, "unit", Source.CGROUP, None),
    Row("user_unit", Form.TEXT, False, "user_unit", Source.CGROUP, None),
    Row("slice", Form.TEXT, True, "slice", Source.CGROUP, None),
    Row("cgroup", Form.TEXT, False, "cgroup", Source.CGROUP, None),
    Row("user", Form.ID, True, "uid", Source.STATUS, "uid"),
    Row("group", Form.ID, True, "gid", Source.STATUS, "gid"),
    Row("session_leader", Form.FLAG, False, "session_leader", Source.STAT, None, indexed=False),
    Row("descendant_of", Form.RULE, None, "ancestors", Source.LINEAGE, "fork", indexed=False),
)

CRITERIA: Mapping[str, Row] = {row.key: row for row in _ROWS}
