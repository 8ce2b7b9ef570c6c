"""Loads the eBPF program exec_filter.bpf.c, and writes its maps: bpf(2), bpf-helpers(7), libbpf.

libbpf, where it is installed, loads the program, and is then closed to save memory. From then on, CAP_BPF and
CAP_PERFMON aren't needed: since Linux 5.19 the maps can be used by descriptor without them."""

import _ctypes
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import starmap

from oomwatchd.base.uapi import CAP_BPF, CAP_PERFMON
from oomwatchd.kernel.bpf_map import BpfMap, syscall_number
from oomwatchd.kernel.proc_status import has_capability, read_capabilities

LIBRARY = "libbpf.so.1"
PROGRAM = "exec_filter.bpf.o"
KERNEL_TYPES = "/sys/kernel/btf/vmlinux"

SO_ATTACH_BPF = 50
_CAPABILITY_VERSION_3 = 0x20080522
"""include/uapi/linux/capability.h: the layout of what capget(2) and capset(2) take."""

_NAME_BYTES = 64
_COMM_BYTES = 16
_MAPS = ("settings", "full", "names", "comms", "ids", "members")
_FIRST = struct.pack("=I", 0)
_MEMBER = struct.Struct("=III")

ALL_KINDS = 0xFFFFFFFF


class FilterUnavailable(Exception):
    """The filter can't be used. The message says why, for people."""


@dataclass(slots=True)
class Member:
    """An entry in the table of tracked processes.

    It isn't changed once it is made. It isn't frozen, because a frozen one takes four times as long to make."""

    maker: int = 0
    """PID of the process that called fork(2) or clone(2), also where CLONE_PARENT makes another one the parent; 0: not
    known."""
    origin: int = 0
    """A number that the daemon has given. Children inherit it."""
    hear: int = ALL_KINDS
    """The kinds of events of this process that pass, as bits: PROC_EVENT_*. Children inherit it."""


class PidTable:
    """The table of tracked processes in the kernel. The kernel adds children and removes the dead by itself."""

    def __init__(self, members: BpfMap, full: BpfMap) -> None:
        self._members = members
        self._full = full

    def get(self, pid: int) -> Member | None:
        """The entry of a process; None: it has none."""
        value = self._members.get(struct.pack("=I", pid))
        return None if value is None else Member(*_MEMBER.unpack(value))

    def set(self, pid: int, member: Member) -> None:
        """Add a process, or change its entry. If there is no room, all events pass from now on: see `full`."""
        try:
            self._members.set(struct.pack("=I", pid), _MEMBER.pack(member.maker, member.origin, member.hear))
        except OSError:
            self._full.set(_FIRST, struct.pack("=I", 1))

    def remove(self, pid: int) -> None:
        """Remove the entry of a process, if there is one."""
        self._members.remove(struct.pack("=I", pid))

    def items(self) -> dict[int, Member]:
        """All entries by PID. Raises OSError."""
        found = dict[int, Member]()
        for pids, members in self._members.batches():
            found.update(zip(memoryview(pids).cast("I"), starmap(Member, _MEMBER.iter_unpack(members)), strict=True))
        return found

    def pids(self) -> Iterator[int]:
        """The PIDs that are in the table all the time until the last one is taken. Raises OSError."""
        for pids, _ in self._members.batches():
            yield from memoryview(pids).cast("I")

    def forked(self, parent: int, child: int) -> Member | None:
        """Take note of a fork event. Returns the entry that the kernel has made for `child`; None: it has made none,
        or the child has ended."""
        return self.get(child)

    def exited(self, pid: int) -> None:
        """Take note of an exit event. The kernel has removed the entry already."""

    @property
    def full(self) -> bool:
        """Whether there was no room for a process. From then on all events pass."""
        return self._full.get(_FIRST) != _FIRST

    def clear(self) -> None:
        """Remove all entries, and have events filtered again. Raises OSError."""
        for pid in self.items():
            self.remove(pid)
        self._full.set(_FIRST, _FIRST)


class ExecFilter:
    """The filter, loaded into the kernel. Raises FilterUnavailable if it can't be loaded."""

    def __init__(self) -> None:
        number = syscall_number()
        if number is None:
            raise FilterUnavailable(f"the number of bpf(2) on {os.uname().machine} isn't known")
        library = _open_library()
        try:
            self._program, descriptors = _load(library)
        finally:
            _ctypes.dlclose(library._handle)  # `library` must not be used from here on
        sizes = ((4, 8), (4, 4), (_NAME_BYTES, 1), (4 + _COMM_BYTES, 1), (8, 1), (4, _MEMBER.size))
        maps = [BpfMap(number, descriptor, *size) for descriptor, size in zip(descriptors, sizes, strict=True)]
        self._settings, full, self._names, self._comms, self._ids, members = maps
        self.members = PidTable(members, full)

    def attach(self, to: socket.socket) -> None:
        """Put the filter on a socket, in place of the socket's filter until now. This takes no capability. Raises
        OSError."""
        to.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, struct.pack("@i", self._program))

    def let_through(
        self, exes: Iterable[bytes], comms: Iterable[bytes], prefixes: Iterable[bytes], ids: Iterable[tuple[bool, int]]
    ) -> None:
        """Let the events of these programs through: those whose executable has a name in `exes` (without directories),
        whose task name is in `comms` or begins with one of `prefixes`, or whose real user or group ID is in `ids`,
        which are pairs: whether it is a group's, and the ID. Raises OSError where the maps have no room for them."""
        # The kernel shows a deleted file as "NAME (deleted)". A file's own name may also end so.
        names = (name[: _NAME_BYTES - 1] for exe in exes for name in (exe, exe + b" (deleted)"))
        self._names.hold_exactly(name.ljust(_NAME_BYTES, b"\0") for name in names)
        # A whole name is a prefix that ends with the byte after the name.
        starts = [*(comm[: _COMM_BYTES - 1] + b"\0" for comm in comms), *prefixes]
        self._comms.hold_exactly(
            struct.pack("=I", 8 * len(start)) + start.ljust(_COMM_BYTES, b"\0") for start in starts
        )
        self._ids.hold_exactly(struct.pack("=II", is_group, number) for is_group, number in ids)

    def listen(self, kinds: Iterable[int], *, everything: bool) -> None:
        """Let these kinds of events through (PROC_EVENT_*). `everything`: let them through for all processes."""
        mask = 0
        for kind in kinds:
            mask |= kind
        self._settings.set(_FIRST, struct.pack("=II", mask, everything))


def _open_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise FilterUnavailable(f"{LIBRARY} isn't installed (on Debian: apt install libbpf1)") from None
    library.bpf_object__open_file.restype = ctypes.c_void_p
    library.bpf_object__find_program_by_name.restype = ctypes.c_void_p
    library.libbpf_set_print(None)
    return library


def _load(library: ctypes.CDLL) -> tuple[int, list[int]]:
    """Load the program. Returns its descriptor, and those of the maps in the order of _MAPS. Raises
    FilterUnavailable."""
    path = os.path.join(os.path.dirname(__file__), PROGRAM)
    if not os.path.exists(path):
        raise FilterUnavailable(f"{PROGRAM} wasn't built (that needs clang and libbpf's headers)")
    if not os.path.exists(KERNEL_TYPES):
        raise FilterUnavailable(f"this kernel has no {KERNEL_TYPES} (CONFIG_DEBUG_INFO_BTF)")
    ctypes.set_errno(0)
    loaded = library.bpf_object__open_file(os.fsencode(path), None)
    if not loaded:
        raise FilterUnavailable(f"{PROGRAM} can't be read (of another byte order, or damaged)")
    opened = ctypes.c_void_p(loaded)
    try:
        result = library.bpf_object__load(opened)
        if result < 0:
            raise FilterUnavailable(_refusal(-result))
        program = ctypes.c_void_p(library.bpf_object__find_program_by_name(opened, b"exec_filter"))
        found = [library.bpf_program__fd(program)]
        found += [library.bpf_object__find_map_fd_by_name(opened, name.encode()) for name in _MAPS]
        if min(found) < 0:
            raise FilterUnavailable(f"{PROGRAM} is of another version")
        program_descriptor, *maps = map(os.dup, found)  # libbpf closes its own below; these are close-on-exec
        return program_descriptor, maps
    finally:
        library.bpf_object__close(opened)


def _refusal(number: int) -> str:
    """Why the kernel didn't load the program."""
    ours = read_capabilities()
    needed = {"CAP_BPF": CAP_BPF, "CAP_PERFMON": CAP_PERFMON}
    missing = [name for name, number in needed.items() if not has_capability(ours, number)]
    if missing:
        return f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing"
    if number in (errno.EPERM, errno.EACCES):
        return "bpf(2) isn't allowed (SystemCallFilter=, a container, or the kernel's lockdown)"
    return f"the kernel refused the eBPF program ({os.strerror(number)})"


def give_up_capabilities() -> None:
    """Drop CAP_BPF and CAP_PERFMON from the effective, permitted and inheritable sets of this process, capset(2).
    Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: bits 0 to 31, then bits 32 to 63
    if libc.capget(header, data) < 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("=6I", data.raw))
    for capability in (CAP_PERFMON, CAP_BPF):
        for i in range(3, 6):
            words[i] &= ~(1 << capability - 32)
    if libc.capset(header, struct.pack("=6I", *words)) < 0:
        raise OSError(ctypes.get_errno(), "capset")
