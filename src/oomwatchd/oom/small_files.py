"""Reads small files of /proc and the cgroup file systems, and parses their common forms.

A file that is missing or refused is an absent fact, None.
"""

import os

PAGE = os.sysconf("SC_PAGE_SIZE")
"""Bytes of a page."""


def read_file(path: str | bytes, directory: int | None = None, limit: int = 1 << 20) -> bytes | None:
    """Up to `limit` bytes of a file, None where it can't be read (missing, refused, its process gone)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return None
    try:
        parts = []
        while limit > 0 and (part := os.read(descriptor, min(limit, 1 << 16))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_number(path: str | bytes) -> int | None:
    """A file that holds one decimal number; None if it can't be read or holds something else ("max")."""
    raw = (read_file(path) or b"").strip()
    return int(raw) if raw.lstrip(b"-").isdigit() else None


def parse_fields(raw: bytes) -> dict[bytes, bytes]:
    """`Key:  value` lines (/proc/PID/status, /proc/meminfo) as a dictionary."""
    fields = {}
    for line in raw.split(b"\n"):
        key, colon, value = line.partition(b":")
        if colon:
            fields[key] = value.strip()
    return fields


def parse_pairs(raw: bytes) -> dict[bytes, bytes]:
    """`key value` lines, as in memory.oom_control and memory.stat, as a dictionary."""
    return {key: value for key, _, value in (line.partition(b" ") for line in raw.split(b"\n"))}


def kib(fields: dict[bytes, bytes], key: bytes) -> int | None:
    """The number of a field in kB, None if there is none."""
    words = fields.get(key, b"").split()
    return int(words[0]) if words and words[0].isdigit() else None


def pages_of_kib(amount: int | None) -> int:
    """kB as pages, rounded down; 0 for an absent fact."""
    return 0 if amount is None else amount * 1024 // PAGE
