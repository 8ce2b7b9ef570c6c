"""Prints where the unit tests write their 30,000 small files soonest: in memory, if there is room, and programs may be
executed there."""

import os
import tempfile

_ROOM = 1 << 30


def directory() -> str:
    """/dev/shm, or where temporary files are anyway."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return tempfile.gettempdir()
    has_room = found.f_bavail * found.f_frsize >= _ROOM and os.access("/dev/shm", os.W_OK | os.X_OK)
    return "/dev/shm" if has_room and not found.f_flag & os.ST_NOEXEC else tempfile.gettempdir()


if __name__ == "__main__":
    print(directory())
