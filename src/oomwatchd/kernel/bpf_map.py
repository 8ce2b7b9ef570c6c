"""Reads and writes maps of eBPF programs by descriptor: bpf(2).

The system call is made directly, so that libbpf needn't stay in memory after it has loaded the program."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator

_SYSCALL_64 = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64": 361,
    "ppc64le": 361,
    "s390x": 351,
    "mips64": 5315,
    "sparc64": 349,
}
"""The number of bpf(2) for 64-bit programs, by machine (uname(2)): arch/*/kernel/syscalls/*.tbl and
scripts/syscall.tbl of the kernel."""
_SYSCALL_32 = {
    **dict.fromkeys(("x86_64", "i386", "i486", "i586", "i686"), 357),
    **dict.fromkeys(("aarch64", "armv8l", "armv7l", "armv6l", "armv5tel"), 386),
}
"""The number of bpf(2) for 32-bit programs, by machine (uname(2))."""

# Commands of bpf(2), and the fields of union bpf_attr that they take: include/uapi/linux/bpf.h.
_LOOKUP_ELEM, _UPDATE_ELEM, _DELETE_ELEM, _LOOKUP_BATCH = 1, 2, 3, 24
_ELEMENT = struct.Struct("=IxxxxQQQ")
"""map_fd, key, value, flags."""
_KEY_END = 16
_BATCH = struct.Struct("=QQQQIIQQ")
"""in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags."""
_COUNT_AT = 32
_BPF_ANY = 0
_BATCH_ELEMENTS = 1024
_PRESENT = b"\1"


def syscall_number() -> int | None:
    """The number of bpf(2) on this machine; None: this module doesn't know it."""
    table = _SYSCALL_64 if struct.calcsize("P") == 8 else _SYSCALL_32
    return table.get(os.uname().machine)


class BpfMap:
    """A map in the kernel. Keys and values are bytes of fixed lengths. Only one thread at a time may use it."""

    def __init__(self, number: int, descriptor: int, key_bytes: int, value_bytes: int) -> None:
        """`number` is that of bpf(2), see syscall_number()."""
        self._number = number
        self._descriptor = descriptor
        self._key_bytes = key_bytes
        self._value_bytes = value_bytes
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._key = ctypes.create_string_buffer(key_bytes)
        self._value = ctypes.create_string_buffer(value_bytes)
        self._element = _ELEMENT.pack(descriptor, ctypes.addressof(self._key), ctypes.addressof(self._value), _BPF_ANY)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None: the key isn't in the map."""
        self._key.raw = key
        if self._call(self._number, _LOOKUP_ELEM, self._element, _ELEMENT.size) < 0:
            return None
        return self._value.raw

    def set(self, key: bytes, value: bytes) -> None:
        """Add a key, or change its value. Raises OSError: ENOSPC or E2BIG where the map is full, ENOMEM."""
        self._key.raw, self._value.raw = key, value
        if self._call(self._number, _UPDATE_ELEM, self._element, _ELEMENT.size) < 0:
            raise _last_error()

    def remove(self, key: bytes) -> None:
        """Remove a key. It is no error if the key isn't in the map."""
        self._key.raw = key
        self._call(self._number, _DELETE_ELEM, self._element, _KEY_END)

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, a batch at a time: the keys of the batch, one after the other, and their values. A key
        that is added or removed meanwhile may be missing. Raises OSError."""
        size = _BATCH_ELEMENTS
        keys, values = (ctypes.create_string_buffer(size * each) for each in (self._key_bytes, self._value_bytes))
        place = ctypes.create_string_buffer(max(self._key_bytes, 8))
        attributes = ctypes.create_string_buffer(_BATCH.size)
        to, started = ctypes.addressof(place), 0
        while True:
            buffers = (started, to, ctypes.addressof(keys), ctypes.addressof(values))
            attributes.raw = _BATCH.pack(*buffers, size, self._descriptor, 0, 0)
            error = None
            if self._call(self._number, _LOOKUP_BATCH, attributes, _BATCH.size) < 0:
                error = _last_error()
                if error.errno != errno.ENOENT:
                    raise error
            started = to
            (count,) = struct.unpack_from("=I", attributes, _COUNT_AT)
            yield keys.raw[: count * self._key_bytes], values.raw[: count * self._value_bytes]
            if error is not None:  # ENOENT: the end of the map
                return

    def hold_exactly(self, keys: Iterable[bytes]) -> None:
        """Make `keys` the keys of the map. A key that was in it and stays is never missing. Raises OSError."""
        wanted = set(keys)
        size = self._key_bytes
        present = {keys[at : at + size] for keys, _ in self.batches() for at in range(0, len(keys), size)}
        for key in wanted - present:
            self.set(key, _PRESENT)
        for key in present - wanted:
            self.remove(key)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
