"""Reads the facts that the findings are made of. Roots are arguments, so that tests can have a tree of their own."""

import os
from collections.abc import Mapping
from dataclasses import replace

from oomwatchd.base.badness_formula import era_of
from oomwatchd.base.uapi import CAP_SYS_PTRACE, INITIAL_PID_NS, INITIAL_USER_NS
from oomwatchd.doctor.denials import read_denials
from oomwatchd.doctor.system import Group, Pinned, Sysctls, System
from oomwatchd.kernel.hidepid import read_hidepid
from oomwatchd.kernel.proc_status import has_capability, parse_capabilities
from oomwatchd.oom.badness import Machine
from oomwatchd.oom.killers.killer_facts import Reader, Roots, read_memory
from oomwatchd.oom.killers.systemd_facts import SystemdReader
from oomwatchd.oom.machine import read_machine
from oomwatchd.oom.memcgs import MemcgHierarchy, directory_of, find_hierarchy, read_memcg, walk
from oomwatchd.oom.processes import OomProcess, namespace, read_processes
from oomwatchd.oom.small_files import PAGE, kib, pages_of_kib, parse_fields, parse_pairs, read_file, read_number


def read_system(
    root: str = "/",
    daemon: int | None = None,
    events: tuple[bool, str] | None = None,
    pinned: Mapping[int, Pinned] | None = None,
) -> System:
    """Gather the facts of the system whose /proc, /sys, /dev, /var and /run are below `root`.

    `daemon`: the PID of the daemon; None: it isn't known, and is looked for by its name. `events`: whether there are
    process events, and if not, why; None: that wasn't tried. `pinned`: whom the daemon has pinned, where it says so."""
    proc = os.path.join(root, "proc")
    machine = _read_machine(proc)
    hierarchy = find_hierarchy(os.path.join(root, "sys/fs/cgroup"))
    processes, unreadable = _read_processes(proc, hierarchy)
    raw_status = read_file(os.path.join(proc, "self/status")) or b""
    meminfo = parse_fields(read_file(os.path.join(proc, "meminfo")) or b"")
    cap_eff = parse_capabilities(raw_status)
    system = System(
        sysctls=_read_sysctls(os.path.join(proc, "sys")),
        machine=machine,
        commit_limit=_pages(meminfo, b"CommitLimit"),
        committed=_pages(meminfo, b"Committed_AS"),
        processes=tuple(processes),
        unreadable=unreadable,
        groups=tuple(_read_groups(hierarchy, machine)),
        daemon=_find_daemon(processes) if daemon is None else daemon,
        uid=int(parse_fields(raw_status).get(b"Uid", b"0 0").split()[1]),
        cap_eff=cap_eff,
        hidepid=_hidepid(proc),
        initial_pid_ns=_is(namespace(proc, "pid"), INITIAL_PID_NS),
        initial_user_ns=_is(namespace(proc, "user"), INITIAL_USER_NS),
        events=events,
        connector=b"cn_proc" in (read_file(os.path.join(proc, "net/connector")) or b""),
        kmsg_readable=os.access(os.path.join(root, "dev/kmsg"), os.R_OK),
        journal=_has_journal(root),
        denials=tuple(read_denials(root)),
        refused_links=_refused_links(proc, processes) if has_capability(cap_eff, CAP_SYS_PTRACE) else (),
        pinned=pinned,
    )
    return _with_killers(system, root)


def _read_machine(proc: str) -> Machine | None:
    try:
        return read_machine(proc)
    except OSError:
        return None


def _read_processes(proc: str, hierarchy: MemcgHierarchy | None) -> tuple[list[OomProcess], int]:
    try:
        return read_processes(proc, None if hierarchy is None else hierarchy.version)
    except OSError:
        return [], 0


def _with_killers(system: System, root: str) -> System:
    """`system` with the facts about killers and units added."""
    if system.machine is None:
        return system
    roots = Roots(root, os.path.join(root, "proc"), os.path.join(root, "sys/fs/cgroup"))
    reader = Reader(roots, system.processes, era_of(os.uname().release))
    killers = tuple(reader.killers(system.machine))
    pids = {killer.name: killer.pid for killer in killers if killer.present}
    systemd = SystemdReader(roots.root, roots.cgroup)
    watched = systemd.watched() if "systemd-oomd" in pids else []
    early = pids.get("earlyoom")
    return replace(
        system,
        memory=read_memory(roots.proc),
        killers=killers,
        earlyoom_arguments=() if early is None else tuple(reader.command_line(early)[1:]),
        units=tuple(systemd.units(system.processes)),
        watched=tuple(watched),
        leaves=tuple(systemd.leaves(watched)),
    )


def _is(inode: int | None, wanted: int) -> bool | None:
    return None if inode is None else inode == wanted


def _pages(fields: dict[bytes, bytes], key: bytes) -> int | None:
    amount = kib(fields, key)
    return None if amount is None else pages_of_kib(amount)


def _read_sysctls(directory: str) -> Sysctls:
    def number(name: str) -> int | None:
        return read_number(os.path.join(directory, name))

    return Sysctls(
        panic_on_oom=number("vm/panic_on_oom"),
        oom_kill_allocating_task=number("vm/oom_kill_allocating_task"),
        overcommit_memory=number("vm/overcommit_memory"),
        overcommit_ratio=number("vm/overcommit_ratio"),
        overcommit_kbytes=number("vm/overcommit_kbytes"),
        dmesg_restrict=number("kernel/dmesg_restrict"),
    )


def _read_groups(hierarchy: MemcgHierarchy | None, machine: Machine | None) -> list[Group]:
    if hierarchy is None or machine is None:
        return []
    groups = []
    for path in walk(hierarchy):
        memcg = read_memcg(hierarchy, path, machine)
        if memcg is None:
            continue
        directory = directory_of(hierarchy, path)
        control = parse_pairs(read_file(os.path.join(directory, b"memory.oom_control")) or b"")
        minimum = read_number(os.path.join(directory, b"memory.min"))
        groups.append(
            Group(
                memcg=memcg,
                oom_group=read_number(os.path.join(directory, b"memory.oom.group")) == 1,
                kill_disabled=control.get(b"oom_kill_disable") == b"1",
                minimum=0 if minimum is None else minimum // PAGE,
            )
        )
    return groups


def _hidepid(proc: str) -> str | None:
    try:
        return read_hidepid(proc)
    except OSError:
        return None


def _find_daemon(processes: list[OomProcess]) -> int | None:
    """The PID of root's process with the name oomwatchd. Only root can make such a process."""
    found = [p.task.pid for p in processes if p.task.comm == b"oomwatchd" and p.task.uid == 0]
    return min(found, default=None)


def _has_journal(root: str) -> bool:
    for place in ("run/log/journal", "var/log/journal"):
        directory = os.path.join(root, place)
        try:
            machines = os.listdir(directory)
        except OSError:
            continue
        if any(os.access(os.path.join(directory, m, "system.journal"), os.R_OK) for m in machines):
            return True
    return False


def _refused_links(proc: str, processes: list[OomProcess]) -> tuple[int, ...]:
    """The PIDs of the processes whose exe link can't be read for lack of permission. PID 1 is left out, since no rule
    touches it. Kernel threads and zombies have no exe (ENOENT), which is no refusal."""
    refused = []
    for process in processes:
        if process.task.global_init:
            continue
        try:
            os.readlink(os.path.join(proc, str(process.task.pid), "exe"))
        except PermissionError:
            refused.append(process.task.pid)
        except OSError:
            continue
    return tuple(refused)
