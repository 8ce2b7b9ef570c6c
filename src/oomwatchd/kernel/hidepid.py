"""Reads the mount option hidepid= of /proc, proc(5), by which it hides other users' processes."""

import contextlib


def hides_processes(proc: str = "/proc") -> bool:
    """Whether /proc hides other users' processes on this machine. True where that isn't known.

    PID 1's mount of /proc decides, since this process may have another one in a sandbox."""
    for pid in ("1", "self"):
        with contextlib.suppress(OSError):
            return read_hidepid(proc, pid) is not None
    return True


def read_hidepid(proc: str = "/proc", pid: str = "self") -> str | None:
    """The value of hidepid= of the /proc that the process `pid` sees; None: it hides nothing. Raises OSError."""
    with open(f"{proc}/{pid}/mounts", "rb") as file:
        return parse_hidepid(file.read())


def parse_hidepid(mounts: bytes) -> str | None:
    """The value of hidepid= of the topmost /proc, by the content of /proc/PID/mounts, proc_pid_mounts(5). It is a
    number or, since Linux 5.8, a word. None: it hides nothing."""
    value = "0"
    for line in mounts.split(b"\n"):
        fields = line.split(b" ")
        if len(fields) > 3 and (fields[1], fields[2]) == (b"/proc", b"proc"):
            options = dict(option.partition(b"=")[::2] for option in fields[3].split(b","))
            value = options.get(b"hidepid", b"0").decode("ascii", "replace")
    return None if value in ("0", "off") else value
