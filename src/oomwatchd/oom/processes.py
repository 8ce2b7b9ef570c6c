"""Reads the facts of processes that the kernel's choice of a victim depends on.

A process that vanishes while it is read is left out. The root of /proc is an argument, so that tests can have a tree of
their own.
"""

import os
from dataclasses import dataclass

from oomwatchd.base.uapi import CAP_SYS_ADMIN, INITIAL_PID_NS, PF_KTHREAD
from oomwatchd.kernel.proc_status import has_capability, parse_capabilities
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.kernel.systemd_cgroups import parse_hierarchies
from oomwatchd.oom.badness import Task
from oomwatchd.oom.small_files import kib, pages_of_kib, parse_fields, read_file


@dataclass(frozen=True, slots=True)
class OomProcess:
    """A process: the facts that the kernel's choice depends on, and further ones for `oomwatchctl doctor`."""

    task: Task
    ppid: int
    anon: int | None  # pages: RssAnon, None on kernels before 4.5
    nested: bool  # whether it is in a PID namespace below that of this process (a container)
    cap_eff: int


def read_processes(proc: str = "/proc", version: int | None = None) -> tuple[list[OomProcess], int]:
    """Read every process in `proc`. Returns the processes, and the number of processes that may not be read. This
    process itself is left out, since it ends before anyone acts on the result. `version`: that of the memory cgroups
    (see `memcgs.MemcgHierarchy`); None: there are none."""
    found: list[OomProcess] = []
    refused = 0
    initial = namespace(proc, "pid") in (INITIAL_PID_NS, None)
    me = _own_name(proc)
    for name in os.listdir(proc):
        if not name.isdigit() or name == me:
            continue
        try:
            with ProcessDir(int(name), proc) as directory:
                found.append(_read_process(directory, version, initial))
        except Vanished:
            continue
        except (OSError, ValueError, KeyError, IndexError):  # refused; or no /proc that the kernel has written
            refused += 1
    return found, refused


def _own_name(proc: str) -> str | None:
    try:
        return os.readlink(os.path.join(proc, "self"))
    except OSError:
        return None


def namespace(proc: str, kind: str) -> int | None:
    """The inode of a namespace of this process; None: it can't be read. `kind` is "pid" or "user", namespaces(7)."""
    try:
        link = os.readlink(os.path.join(proc, "self/ns", kind))
    except OSError:
        return None
    inode = link.partition("[")[2].rstrip("]")
    return int(inode) if inode.isdigit() else None


def _read_process(directory: ProcessDir, version: int | None, initial_namespace: bool) -> OomProcess:
    """Raises Vanished, and PermissionError if refused."""
    stat = directory.read_stat()
    raw_status = directory.read("status")
    status = parse_fields(raw_status)
    kernel_thread = stat.flags & PF_KTHREAD != 0
    memory = status
    if b"VmRSS" not in status and not kernel_thread:
        memory = _thread_with_memory(directory.descriptor) or status
    cgroup = None
    if version is not None:
        cgroup = parse_memory_cgroup(read_file("cgroup", directory.descriptor) or b"", version)
    cap_eff = parse_capabilities(raw_status)
    task = Task(
        pid=directory.pid,
        comm=stat.comm,
        uid=int(status[b"Uid"].split()[1]),
        oom_score_adj=directory.read_oom_score_adj(),
        rss=pages_of_kib(kib(memory, b"VmRSS")),
        swap=pages_of_kib(kib(memory, b"VmSwap")),
        pgtables=pages_of_kib((kib(memory, b"VmPTE") or 0) + (kib(memory, b"VmPMD") or 0)),
        starttime=stat.starttime,
        has_mm=b"VmRSS" in memory,
        kernel_thread=kernel_thread,
        global_init=directory.pid == 1 and initial_namespace,
        sys_admin=has_capability(cap_eff, CAP_SYS_ADMIN),
        memcg=cgroup,
    )
    anon = kib(memory, b"RssAnon")
    return OomProcess(
        task=task,
        ppid=stat.ppid,
        anon=None if anon is None else pages_of_kib(anon),
        nested=len(status.get(b"NSpid", b"").split()) > 1,
        cap_eff=cap_eff,
    )


def parse_memory_cgroup(raw: bytes, version: int) -> bytes | None:
    """The path of the memory cgroup in /proc/PID/cgroup, cgroups(7); None: the process is in none."""
    return parse_hierarchies(raw).get(b"memory" if version == 1 else b"0::")


def _thread_with_memory(directory: int) -> dict[bytes, bytes] | None:
    """The status of a thread that still has the address space when the leader has exited
    (find_lock_task_mm in mm/oom_kill.c)."""
    try:
        tasks = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        for thread in os.listdir(tasks):
            status = parse_fields(read_file(f"{thread}/status", tasks) or b"")
            if b"VmRSS" in status:
                return status
    except OSError:
        return None
    finally:
        os.close(tasks)
    return None
