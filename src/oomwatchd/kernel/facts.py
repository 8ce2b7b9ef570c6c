"""The facts of a process that rules are compared with, read as far as the rules ask for them."""

import os
import time

from oomwatchd.kernel.executable import Namespaces, split_deleted, verify_exe
from oomwatchd.kernel.procfs import ProcessDir, Stat, parse_status, text
from oomwatchd.kernel.systemd_cgroups import parse_cgroup, parse_units
from oomwatchd.rules.criteria import Source
from oomwatchd.rules.model import Process
from oomwatchd.rules.ruleset import Needs

_CMDLINE_LIMIT = 128 << 10
"""Bytes of the arguments that rules are compared with: one argument can't be longer (MAX_ARG_STRLEN), and a
process with megabytes of them must not slow us down."""


def read_process(
    directory: ProcessDir,
    stat: Stat,
    exe: bytes | None,
    needs: Needs,
    ours: Namespaces,
    verify: bool,
    ancestors: frozenset[str],
) -> Process:
    """All the facts that `needs` asks for. `exe` is what read_exe() gave, `verify` whether it matters if that can
    be believed. Raises Vanished."""
    process = Process(directory.pid, stat.starttime, stat.ppid, text(stat.comm), stat.session == directory.pid)
    process.ancestors = ancestors
    process.read_ns = time.monotonic_ns()
    if exe is not None:
        path, deleted = split_deleted(exe)
        process.exe = text(path)
        if path and verify:
            process.exe_verified, process.exe_doubt = verify_exe(directory, path, deleted, ours)
    if Source.CMDLINE in needs.reads:
        process.cmdline = _read_cmdline(directory)
    if Source.CGROUP in needs.reads:
        process.cgroup = text(parse_cgroup(directory.read("cgroup")))
        units = parse_units(process.cgroup)
        process.unit, process.user_unit, process.slice = units.unit, units.user_unit, units.slice
    if Source.STATUS in needs.reads:
        status = parse_status(directory.read("status"))
        process.uid, process.gid, process.foreign_pid_ns = status.uid, status.gid, status.pid_ns_depth > 0
    else:
        process.foreign_pid_ns = _in_foreign_pid_ns(directory, ours)
    return process


def _in_foreign_pid_ns(directory: ProcessDir, ours: Namespaces) -> bool:
    """Whether the process lives in another PID namespace than we do. By the namespace, in a fifth of the time that its
    status takes; that where CAP_SYS_PTRACE is missing."""
    try:
        return os.readlink("ns/pid", dir_fd=directory.descriptor) != ours.pid
    except OSError:
        return parse_status(directory.read("status")).pid_ns_depth > 0


def _read_cmdline(directory: ProcessDir) -> str | None:
    try:
        raw = directory.read("cmdline", _CMDLINE_LIMIT)
    except PermissionError:
        return None
    return text(raw.rstrip(b"\0").replace(b"\0", b" "))
