"""Reads the logs for lines in which a security module refuses oomwatchd something."""

import os
from contextlib import suppress

from oomwatchd.base.kmsg import waiting_records

LOG_TAIL = 1 << 20
"""The number of bytes at the end of the audit log that are searched."""
_RING_RECORDS = 1_000_000
"""The most records that are read. It is more than the kernel's ring buffer can hold, and it ends the reading though new
records come all the time."""


def read_denials(root: str) -> list[str]:
    """Lines of the kernel's log and the audit log below `root` in which a security module refuses oomwatchd something.
    A log that can't be read is left out."""
    lines = _read_tail(os.path.join(root, "var/log/audit/audit.log")) + _read_ring(os.path.join(root, "dev/kmsg"))
    return [line.decode("utf-8", "backslashreplace") for line in lines if is_denial(line)]


def is_denial(line: bytes) -> bool:
    """Whether a log line is a denial by SELinux or AppArmor that concerns oomwatchd."""
    denied = (b"avc:" in line and b"denied" in line) or b'apparmor="DENIED"' in line
    return denied and (b'comm="oomwatchd"' in line or b"oomwatchd_t" in line or b'profile="oomwatchd"' in line)


def _read_tail(path: str) -> list[bytes]:
    """The last lines of a file; none if it can't be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL))
            return file.read(LOG_TAIL).split(b"\n")
    except OSError:
        return []


def _read_ring(path: str) -> list[bytes]:
    """The records of /dev/kmsg that are there now; none if it can't be read."""
    records: list[bytes] = []
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            records += waiting_records(descriptor, _RING_RECORDS)
        finally:
            os.close(descriptor)
    return records
