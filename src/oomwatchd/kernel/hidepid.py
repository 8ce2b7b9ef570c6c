"""Whether /proc hides other users' processes: hidepid= in proc(5)."""

import contextlib


def hides_processes(proc: str = "/proc") -> bool:
    """Whether hidepid=, proc(5), keeps users from each other's processes. PID 1's view tells: ours may be the one of a
    sandbox. True where it can't be found out."""
    for pid in ("1", "self"):
        with contextlib.suppress(OSError):
            return read_hidepid(proc, pid) is not None
    return True


def read_hidepid(proc: str = "/proc", pid: str = "self") -> str | None:
    """The value of hidepid=, proc(5), of /proc as a process sees it; None: nothing is hidden. Raises OSError."""
    with open(f"{proc}/{pid}/mounts", "rb") as file:
        return parse_hidepid(file.read())


def parse_hidepid(mounts: bytes) -> str | None:
    """The value of hidepid= of the topmost /proc in proc_pid_mounts(5), a number or, since Linux 5.8, a word; None:
    it hides nothing."""
    value = "0"
    for line in mounts.split(b"\n"):
        fields = line.split(b" ")
        if len(fields) > 3 and (fields[1], fields[2]) == (b"/proc", b"proc"):
            options = dict(option.partition(b"=")[::2] for option in fields[3].split(b","))
            value = options.get(b"hidepid", b"0").decode("ascii", "replace")
    return None if value in ("0", "off") else value
