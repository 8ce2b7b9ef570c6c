"""Whether a process of another PID namespace is in a container, or just in a sandbox of an ordinary program.

Browsers, flatpak's bwrap, firejail and build tools give their processes a PID namespace of their own too. But only what
makes containers (runc, containerd, podman, lxc, nspawn) also gives the first process of the namespace a cgroup of its
own. So at each boundary between PID namespaces, from the process up to the daemon's own namespace, the cgroup of the
process that crosses it is compared with those of all its ancestors outside: some of them agrees for a sandbox. All of
them, since a desktop may have moved only the maker into a scope. In three hierarchies, since a privileged container can
move itself in some of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from oomwatchd.kernel.proc_status import parse_family
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.kernel.systemd_cgroups import Hierarchy, parse_cgroup, parse_hierarchies

_CHAIN_LIMIT = 256
"""So many generations are looked at: whoever makes more of them must not hold us up."""


@dataclass(slots=True)
class _Member:
    """A process, or one of its ancestors."""

    pid: int
    parent: int
    depth: int
    """How many PID namespaces below ours."""


def in_container(directory: ProcessDir, proc: str, hierarchy: Hierarchy) -> bool | None:
    """Whether a process that lives in another PID namespace is in a container. None if its ancestors can't be read, as
    when one of them ends meanwhile. Raises Vanished when the process itself is gone."""
    pid_ns_depth, parent = parse_family(directory.read("status"))
    me = _Member(directory.pid, parent, pid_ns_depth)
    try:
        return any(_is_container(proc, hierarchy, crossing, outside) for crossing, outside in _boundaries(proc, me))
    except (Vanished, OSError, ValueError):
        return None


def _boundaries(proc: str, member: _Member) -> Iterator[tuple[_Member, _Member]]:
    """Each pair of a process and its parent that lives in another PID namespace, from `member` up."""
    for _ in range(_CHAIN_LIMIT):
        if member.depth == 0:
            return
        parent = _read_member(proc, member.parent)
        if parent.depth != member.depth:
            yield member, parent
        member = parent


def _is_container(proc: str, hierarchy: Hierarchy, crossing: _Member, parent: _Member) -> bool:
    """Whether in one hierarchy none of the ancestors outside, from `parent` up, is in the cgroup of `crossing`."""
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
    """A file of an ancestor, by PID. Raises Vanished and OSError."""
    try:
        descriptor = os.open(f"{proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 1 << 16)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        raise Vanished from None
