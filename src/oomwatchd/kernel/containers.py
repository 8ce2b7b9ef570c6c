"""Decides whether a process in another PID namespace is in a container, or in the sandbox of an ordinary program.

Sandboxes have a PID namespace of their own too: browsers, flatpak's bwrap, firejail, build tools. But only managers of
containers (runc, containerd, podman, lxc, nspawn) give the first process of the namespace a cgroup of its own.

So the ancestors are followed up to the daemon's PID namespace. At each boundary between PID namespaces, the cgroup of
the process that crosses it is compared with the cgroups of all its ancestors outside. In a sandbox, one of them is the
same. All ancestors are compared, since a desktop may have moved only the nearest one into a scope. Three hierarchies
are compared, since a privileged container can move itself in some of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from oomwatchd.kernel.proc_status import parse_family
from oomwatchd.kernel.procfs import ProcessDir, Vanished, read_record
from oomwatchd.kernel.systemd_cgroups import Hierarchy, parse_cgroup, parse_hierarchies

_CHAIN_LIMIT = 256
"""The most generations that are looked at, because a process with more of them must not make the daemon wait."""


@dataclass(slots=True)
class _Member:
    """A process or one of its ancestors."""

    pid: int
    parent: int
    """PID of the parent; 0: there is none, or it isn't seen here."""
    depth: int
    """How many PID namespaces it lives below the daemon's."""


def in_container(directory: ProcessDir, proc: str, hierarchy: Hierarchy) -> bool | None:
    """Whether a process that lives in another PID namespace is in a container. None: its ancestors can't be read, for
    instance since one of them has just ended. Raises Vanished where the process itself is gone."""
    pid_ns_depth, parent = parse_family(directory.read("status"))
    me = _Member(directory.pid, parent, pid_ns_depth)
    try:
        return any(_is_container(proc, hierarchy, crossing, outside) for crossing, outside in _boundaries(proc, me))
    except (Vanished, OSError, ValueError):
        return None


def _boundaries(proc: str, member: _Member) -> Iterator[tuple[_Member, _Member]]:
    """From `member` up, each process whose parent lives in another PID namespace, and that parent."""
    for _ in range(_CHAIN_LIMIT):
        if member.depth == 0:
            return
        parent = _read_member(proc, member.parent)
        if parent.depth != member.depth:
            yield member, parent
        member = parent


def _is_container(proc: str, hierarchy: Hierarchy, crossing: _Member, parent: _Member) -> bool:
    """Whether there is a hierarchy in which `crossing` shares its cgroup with no ancestor outside, from `parent` up."""
    raw = _read(proc, crossing.pid, "cgroup")
    if parent.pid == 1 and parse_cgroup(raw, hierarchy).endswith(b".service"):
        return False  # systemd gave a service its own namespace (PrivatePIDs=, systemd.exec(5))
    differing = parse_hierarchies(raw)
    for ancestor in _ancestry(proc, parent):
        theirs = parse_hierarchies(_read(proc, ancestor.pid, "cgroup"))
        differing = {name: path for name, path in differing.items() if theirs.get(name) != path}
        if not differing:
            return False
    return True


def _ancestry(proc: str, member: _Member) -> Iterator[_Member]:
    """A process and its ancestors."""
    for _ in range(_CHAIN_LIMIT):
        yield member
        if member.parent == 0:
            return
        member = _read_member(proc, member.parent)


def _read_member(proc: str, pid: int) -> _Member:
    depth, parent = parse_family(_read(proc, pid, "status"))
    return _Member(pid, parent, depth)


def _read(proc: str, pid: int, name: str) -> bytes:
    """The content of a file of an ancestor, by PID. Raises Vanished and OSError."""
    try:
        descriptor = os.open(f"{proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_record(descriptor)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None
