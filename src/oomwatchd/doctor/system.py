"""The facts of a system that the findings are made of. Pure.

An absent fact is None or empty, and leads to no finding."""

from collections.abc import Mapping
from dataclasses import dataclass

from oomwatchd.oom.badness import Machine, Memcg
from oomwatchd.oom.killers.aftermath import Unit
from oomwatchd.oom.killers.model import Killer, Meminfo
from oomwatchd.oom.killers.systemd_oomd import Leaf, Watched
from oomwatchd.oom.processes import OomProcess


@dataclass(frozen=True, slots=True)
class Sysctls:
    """Settings in /proc/sys/vm and /proc/sys/kernel (Documentation/admin-guide/sysctl). None: it can't be read."""

    panic_on_oom: int | None = None
    oom_kill_allocating_task: int | None = None
    overcommit_memory: int | None = None
    overcommit_ratio: int | None = None
    overcommit_kbytes: int | None = None
    dmesg_restrict: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A memory cgroup, and its settings for an OOM kill in it."""

    memcg: Memcg
    oom_group: bool = False  # memory.oom.group
    kill_disabled: bool = False  # v1: memory.oom_control
    minimum: int = 0  # memory.min, pages


@dataclass(frozen=True, slots=True)
class Pinned:
    """A pinned process, as the daemon reports it: by which rule, at which value, and its original value."""

    rule: str
    value: int
    original: int


@dataclass(frozen=True, slots=True)
class System:
    """All facts of one system, read at one time."""

    sysctls: Sysctls
    machine: Machine | None
    commit_limit: int | None  # pages, CommitLimit
    committed: int | None  # pages, Committed_AS
    processes: tuple[OomProcess, ...]
    unreadable: int  # processes that may not be read
    groups: tuple[Group, ...]
    daemon: int | None  # PID of the daemon, None: it doesn't run
    uid: int  # effective, of this process
    cap_eff: int  # of this process
    hidepid: str | None  # value of the mount option of the daemon's /proc; if no daemon runs, of this process's /proc
    initial_pid_ns: bool | None
    initial_user_ns: bool | None
    events: tuple[bool, str] | None  # whether there are process events, and why not; None: not tried
    connector: bool  # /proc/net/connector lists cn_proc: built in, and this is the initial network namespace
    kmsg_readable: bool  # by this process, as far as the file's mode says
    journal: bool  # there is a journal that this process may read
    denials: tuple[str, ...]  # log lines of a security module about oomwatchd
    refused_links: tuple[int, ...]  # PIDs whose exe is refused in spite of CAP_SYS_PTRACE
    pinned: Mapping[int, Pinned] | None = None  # by PID; None: the daemon can't be asked
    missing_capabilities: tuple[str, ...] = ()  # by the daemon's own reply
    not_watched: str = ""  # why the daemon gets no event when the configuration is saved
    memory: Meminfo | None = None
    killers: tuple[Killer, ...] = ()
    earlyoom_arguments: tuple[bytes, ...] = ()  # of the earlyoom that runs
    units: tuple[Unit, ...] = ()
    watched: tuple[Watched, ...] = ()  # cgroups that systemd-oomd watches
    leaves: tuple[Leaf, ...] = ()  # cgroups that systemd-oomd may kill
