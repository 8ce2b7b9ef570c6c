"""The facts of a process, and the table of criteria over them. One row of the table has all that the program knows of
a criterion.

kernel/facts.py reads the facts. Everything else goes by the table: parsing, matching, `check`, `explain`, the
subscription of events, the manual page. Facts that are texts are `str`, decoded as UTF-8 with surrogateescape, so that
a name of any bytes can be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

COMMAND_LINE_PART = 64 << 10
"""Bytes. Of a command line that is more than twice as long, only this much of its beginning and of its end is
compared."""


@dataclass(slots=True)
class Process:
    """The facts of a process that rules are compared with. None: the kernel refused the fact, or it was not read, so
    neither a criterion over it nor its `not` holds. An empty string: the process has no such fact (a kernel without
    cgroups, a process outside units).

    It isn't changed after it has been read. It isn't frozen, because a frozen one takes four times as long to make, and
    each write waits for that."""

    pid: int
    starttime: int
    """Clock ticks since boot: field 22 of /proc/PID/stat."""
    ppid: int
    comm: str
    session_leader: bool
    exe: str | None = None
    exe_verified: bool | None = None
    """Whether the path, in the daemon's own view, leads to the file that runs."""
    exe_doubt: str = ""
    """Why `exe_verified` isn't True, for people."""
    exe_file: tuple[int, int] | None = None
    """Device and inode of the file that runs, where its path has been verified."""
    cmdline: str | None = None
    cmdline_cut: bool = False
    """Whether the command line is longer than what is compared of it."""
    uid: int | None = None
    """Real user ID: who started the process."""
    saved_uid: int | None = None
    """Saved user ID; None: the same as the real one."""
    gid: int | None = None
    """Real group ID."""
    saved_gid: int | None = None
    cgroup: str | None = None
    unit: str | None = None
    user_unit: str | None = None
    slice: str | None = None
    foreign_pid_ns: bool | None = None
    """Whether the process lives in another PID namespace than the daemon."""
    container: bool | None = None
    """Whether that namespace is a container's, and not just a sandbox's: see kernel/containers.py."""
    ancestors: frozenset[str] = frozenset()
    """Names of the rules that pin an ancestor, or pinned one when it died."""
    read_ns: int = 0
    """When the facts were read, by CLOCK_MONOTONIC; 0: they weren't read of a process."""

    @property
    def uids(self) -> tuple[int, int] | None:
        """Real and saved user ID."""
        if self.uid is None:
            return None
        return self.uid, self.uid if self.saved_uid is None else self.saved_uid

    @property
    def gids(self) -> tuple[int, int] | None:
        """Real and saved group ID."""
        if self.gid is None:
            return None
        return self.gid, self.gid if self.saved_gid is None else self.saved_gid


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
    """The ledger's nodes of the ancestors."""


@dataclass(frozen=True, slots=True)
class Row:
    """One criterion."""

    key: str
    form: Form
    says_who: bool | None
    """Whether it says who controls the process. None: that depends on the rules that it names."""
    fact: str
    """The attribute of Process that it is compared with."""
    source: Source
    event: str | None
    """The event that reports a change of the fact: exec, comm, uid, gid, fork. None: a change causes no event, and a
    scan finds it."""
    summary: str
    """The fact in one short sentence, for the schema that editors show."""
    manual: str
    """What it is compared with, in sentences for oomwatchd.toml(5), in the markup of scdoc(5)."""
    example: str
    """A line of a rule with it, for oomwatchd.toml(5)."""
    caution: str = ""
    """Sentences for oomwatchd.toml(5) about `says_who`: why it is False, or what it depends on where it is None."""
    indexed: bool = True
    """Whether RuleSet remembers for each value which rules may still fit. False for a fact that differs from process to
    process."""


_ANY_PROGRAM = "Any process can give itself any."

_ROWS = (
    Row(
        "exe",
        Form.TEXT,
        False,
        "exe",
        Source.EXE,
        "exec",
        summary="Path of the executable.",
        manual="Path of the executable, as the kernel shows it. In a rule that can lower, it must be verified: see "
        "_Verified paths_ below.",
        example='exe = "/usr/sbin/sshd"',
        caution="It says which file was executed. The user of the process can run other code in it, by LD_PRELOAD, "
        "ptrace(2) or prctl(2).",
    ),
    Row(
        "comm",
        Form.TEXT,
        False,
        "comm",
        Source.STAT,
        "comm",
        summary="The kernel's task name, at most 15 bytes.",
        manual="The kernel's name of the process. It has at most 15 bytes; a longer string without wildcards is an "
        "error.",
        example='comm = ["chrome", "chromium"]',
        caution=_ANY_PROGRAM,
    ),
    Row(
        "cmdline",
        Form.TEXT,
        False,
        "cmdline",
        Source.CMDLINE,
        "exec",
        summary="The arguments, joined by spaces.",
        manual=f"The arguments, joined by spaces. If they have more than {2 * COMMAND_LINE_PART >> 10} KiB, the first "
        f"and the last {COMMAND_LINE_PART >> 10} KiB are compared, joined by a space. Then *oomwatchctl explain* says "
        "so.",
        example='cmdline = "*--type=renderer*"',
        caution=_ANY_PROGRAM,
        indexed=False,
    ),
    Row(
        "user",
        Form.ID,
        True,
        "uids",
        Source.STATUS,
        "uid",
        summary="User: a name or a number.",
        manual="User, by name or by number from 0 to 4294967294; no wildcards. The real and the saved user ID of the "
        "process must both be in the list. So a setuid program that another user has started isn't root's. A process "
        "of root that takes the effective ID of a user for a while, as sshd does at each login, stays root's. A user "
        "that doesn't exist (yet) is a warning, and fits no process.",
        example='user = ["www-data", 1000]',
    ),
    Row(
        "group",
        Form.ID,
        True,
        "gids",
        Source.STATUS,
        "gid",
        summary="Group: a name or a number.",
        manual="Group, by name or by number. It is compared as *user* is: with the real and the saved group ID.",
        example='group = "postgres"',
    ),
    Row(
        "unit",
        Form.TEXT,
        True,
        "unit",
        Source.CGROUP,
        None,
        summary="systemd unit, with its suffix.",
        manual="Unit of systemd, with its suffix. It is read from the cgroup path as systemd reads it. Units of a user "
        "manager never count.",
        example='unit = "postgresql@*.service"',
    ),
    Row(
        "slice",
        Form.TEXT,
        True,
        "slice",
        Source.CGROUP,
        None,
        summary="systemd slice that the process is directly in.",
        manual="Slice of systemd, read in the same way. It is the innermost slice that isn't a user manager's own.",
        example='slice = "machine.slice"',
    ),
    Row(
        "user_unit",
        Form.TEXT,
        False,
        "user_unit",
        Source.CGROUP,
        None,
        summary="Unit of a user's own systemd manager.",
        manual="Unit of a user's own systemd manager.",
        example='user_unit = "syncthing.service"',
        caution="The user names these units.",
    ),
    Row(
        "cgroup",
        Form.TEXT,
        False,
        "cgroup",
        Source.CGROUP,
        None,
        summary="cgroup path.",
        manual="Path of the cgroup, in the hierarchy that systemd uses. The file systems at _/sys/fs/cgroup_ show "
        "which one that is.",
        example='cgroup = "/system.slice/*"',
        caution="Users make cgroups below their own slice.",
    ),
    Row(
        "session_leader",
        Form.FLAG,
        False,
        "session_leader",
        Source.STAT,
        None,
        summary="Whether the session ID equals the PID.",
        manual="*true* or *false*: whether the session ID equals the PID.",
        example="session_leader = true",
        caution="Any process can start a session.",
        indexed=False,
    ),
    Row(
        "descendant_of",
        Form.RULE,
        None,
        "ancestors",
        Source.LINEAGE,
        "fork",
        summary="Name of another rule: some ancestor is held by it.",
        manual="Name of another rule. It holds if that rule holds an ancestor of the process, or held one when the "
        "ancestor died.",
        example='descendant_of = "sshd"',
        caution="yes, if each rule in the list has such a criterion itself. *spoofable* doesn't count, nor do rules "
        "that name each other.",
        indexed=False,
    ),
)

CRITERIA: Mapping[str, Row] = {row.key: row for row in _ROWS}
