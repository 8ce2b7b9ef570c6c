"""Parses /proc/PID/mountinfo, the mounts that a process sees: proc_pid_mountinfo(5). Pure."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

MOUNTINFO_BYTES = 4 << 20
"""The most that is read of the file: in a namespace of their own, users can make any number of mounts."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount."""

    number: bytes
    """Its ID, in decimal digits, as mnt_id of proc_pid_fdinfo(5)."""
    device: int
    """As st_dev of stat(2)."""
    place: bytes
    """The directory that it is mounted on, with blanks and backslashes written as octal escapes."""
    type: bytes
    """The type of its file system."""


def parse_mountinfo(raw: bytes) -> Iterator[Mount]:
    """The mounts in the order of the file. If several are at one place, processes see the last one. A line of another
    form is left out."""
    for line in raw.split(b"\n"):
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if len(fields) < 5:
            continue
        major, _, minor = fields[2].partition(b":")
        if major.isdigit() and minor.isdigit():
            yield Mount(fields[0], os.makedev(int(major), int(minor)), fields[4], after.split(b" ")[0])


def has_mount(raw: bytes, number: bytes) -> bool:
    """Whether a mount has the ID `number`, in decimal digits."""
    return raw.startswith(number + b" ") or b"\n" + number + b" " in raw
