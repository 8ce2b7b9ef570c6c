"""Reads the facts of a process that rules are compared with, as far as the rules ask for them.

There is one reader for each `Source` of rules/criteria.py."""

import os
import time
from collections.abc import Callable, Mapping

from oomwatchd.kernel.command_lines import CommandLines
from oomwatchd.kernel.containers import in_container
from oomwatchd.kernel.executable import Namespaces, Verification, split_deleted, verify_exe
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.proc_status import parse_status
from oomwatchd.kernel.procfs import ProcessDir, text
from oomwatchd.kernel.systemd_cgroups import Hierarchy, parse_cgroup, parse_units
from oomwatchd.rules.criteria import Process, Source
from oomwatchd.rules.ruleset import Needs


class View:
    """What is needed to read facts of processes: the daemon's /proc, its namespaces, the cgroup hierarchy that systemd
    uses, and answers of helpers about files and command lines."""

    def __init__(self, proc: str = "/proc") -> None:
        self.proc = proc
        self.namespaces = Namespaces(proc)
        self.hierarchy = Hierarchy.find(proc)
        self.command_lines = CommandLines(proc)


def read_process(
    directory: ProcessDir,
    stat: Stat,
    exe: bytes | None,
    needs: Needs,
    view: View,
    ancestors: frozenset[str],
    *,
    verify: bool = False,
    verified: tuple[int, int] | None = None,
) -> Process:
    """Read the facts that `needs` asks for. `exe`: the result of ProcessDir.read_exe(). `verify`: verify that path.
    `verified`: device and inode of the file, where the path has been verified before. Raises NotYet and Vanished."""
    process = Process(directory.pid, stat.starttime, stat.ppid, text(stat.comm), stat.session == directory.pid)
    process.ancestors = ancestors
    process.read_ns = time.monotonic_ns()
    if exe is not None:
        path, deleted = split_deleted(exe)
        process.exe = text(path)
        if verified is not None:
            process.exe_verified, process.exe_file = True, verified
        elif path and verify:
            result = _verify(directory, path, deleted, view)
            process.exe_verified, process.exe_doubt, process.exe_file = result.verified, result.doubt, result.file
    for source, read in READERS.items():
        if source in needs.reads:
            read(directory, process, view)
    if process.foreign_pid_ns is None:
        process.foreign_pid_ns = in_foreign_pid_ns(directory, view.namespaces)
    process.container = process.foreign_pid_ns and in_container(directory, view.proc, view.hierarchy)
    return process


def _verify(directory: ProcessDir, path: bytes, deleted: bool, view: View) -> Verification:
    result = verify_exe(directory, path, deleted, view.namespaces)
    if result.verified is None and directory.leader_has_ended():
        return verify_exe(directory, path, deleted, view.namespaces)
    return result


def _read_cmdline(directory: ProcessDir, process: Process, view: View) -> None:
    found = view.command_lines.read(directory, process.starttime)
    if found is not None:
        process.cmdline = text(found.raw.rstrip(b"\0").replace(b"\0", b" "))
        process.cmdline_cut = found.cut


def _read_cgroup(directory: ProcessDir, process: Process, view: View) -> None:
    process.cgroup = text(parse_cgroup(directory.read("cgroup"), view.hierarchy))
    units = parse_units(process.cgroup)
    process.unit, process.user_unit, process.slice = units.unit, units.user_unit, units.slice


def _read_status(directory: ProcessDir, process: Process, view: View) -> None:
    status = parse_status(directory.read("status"))
    process.uid, process.saved_uid = status.uid, status.saved_uid
    process.gid, process.saved_gid = status.gid, status.saved_gid
    process.foreign_pid_ns = status.pid_ns_depth > 0


READERS: Mapping[Source, Callable[[ProcessDir, Process, View], None]] = {
    Source.CMDLINE: _read_cmdline,
    Source.CGROUP: _read_cgroup,
    Source.STATUS: _read_status,
}
"""The readers of facts that are read only if rules ask for them. Each sets its facts in the process, or leaves them
None if the kernel refuses them. Readers raise NotYet and Vanished."""


def in_foreign_pid_ns(directory: ProcessDir, ours: Namespaces) -> bool:
    """Whether the process lives in another PID namespace than the daemon. Raises Vanished.

    To read the link of the namespace takes a fifth of the time that /proc/PID/status takes. Without CAP_SYS_PTRACE, the
    link can't be read, and /proc/PID/status is."""
    try:
        return os.readlink(directory.path("ns/pid"), dir_fd=directory.descriptor) != ours.pid
    except OSError:
        return parse_status(directory.read("status")).pid_ns_depth > 0
