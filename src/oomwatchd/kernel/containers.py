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

_GENERATIONS = 256
"""The most generations that are looked at, because a process with more of them must not make the daemon wait."""


@dataclass(slots=True)
class _Member:
    """A process or one of its ancestors."""

    pid: int
    parent: int
    """PID of the parent; 0: there is none, or it isn't seen here."""
    depth: int
    """How many PID namespaces it lives below the daemon's."""
    cgroups: dict[bytes, bytes] | None = None
    """Its cgroups, as parse_hierarchies() has them; None: not read yet."""


class _Line:
    """A process and its ancestors, from the process up. Each is read once, and only when it is asked for: a user can
    put 31 PID namespaces and hundreds of processes above one."""

    def __init__(self, proc: str, first: _Member) -> None:
        self._proc = proc
        self._members = [first]

    def up(self, start: int) -> Iterator[_Member]:
        """The members from number `start` on. Raises Vanished, OSError and ValueError."""
        for i in range(start, _GENERATIONS):
            while i >= len(self._members):
                above = self._members[-1].parent
                if above == 0:
                    return
                depth, parent = parse_family(_read(self._proc, above, "status"))
                self._members.append(_Member(above, parent, depth))
            yield self._members[i]

    def cgroups(self, member: _Member) -> dict[bytes, bytes]:
        """The cgroups of a member. Raises Vanished and OSError."""
        if member.cgroups is None:
            member.cgroups = parse_hierarchies(_read(self._proc, member.pid, "cgroup"))
        return member.cgroups


def in_container(directory: ProcessDir, proc: str, hierarchy: Hierarchy) -> bool | None:
    """Whether a process that lives in another PID namespace is in a container. None: its ancestors can't be read, for
    instance since one of them has just ended. Raises Vanished where the process itself is gone."""
    pid_ns_depth, parent = parse_family(directory.read("status"))
    line = _Line(proc, _Member(directory.pid, parent, pid_ns_depth))
    try:
        return _has_container(line, proc, hierarchy)
    except (Vanished, OSError, ValueError):
        return None


def _has_container(line: _Line, proc: str, hierarchy: Hierarchy) -> bool:
    """Go up to the daemon's PID namespace. At each boundary, see whether it is that of a container."""
    below: _Member | None = None
    for i, member in enumerate(line.up(0)):
        if below is not None and below.depth != member.depth and _is_container(line, proc, hierarchy, below, i):
            return True
        if member.depth == 0:
            return False
        if member.parent == 0:
            raise Vanished
        below = member
    return False


def _is_container(line: _Line, proc: str, hierarchy: Hierarchy, crossing: _Member, outside: int) -> bool:
    """Whether there is a hierarchy in which `crossing` shares its cgroup with no ancestor outside, from number
    `outside` up."""
    if crossing.parent == 1 and parse_cgroup(_read(proc, crossing.pid, "cgroup"), hierarchy).endswith(b".service"):
        return False  # systemd gave a service its own namespace (PrivatePIDs=, systemd.exec(5))
    differing = line.cgroups(crossing)
    for ancestor in line.up(outside):
        theirs = line.cgroups(ancestor)
        differing = {name: path for name, path in differing.items() if theirs.get(name) != path}
        if not differing:
            return False
    return True


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
