"""Reads the journal, and files of journald, by journalctl(1): one JSON object a line."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from glob import glob

from oomwatchd.oomlog.logfile import SourceError
from oomwatchd.oomlog.stream import Damaged, Stream
from oomwatchd.oomlog.unpack import piped

_FIELDS = "MESSAGE,_TRANSPORT,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_HOSTNAME,_PID,MESSAGE_ID,UNIT,USER_UNIT"
_COMMAND = ("journalctl", "--quiet", "--no-pager", "--output=json", f"--output-fields={_FIELDS}")
_KILLERS = ("systemd-oomd", "earlyoom", "nohang", "nohang-desktop", "oomd")
_OF_SYSTEMD = ("fe6faa94e7774663a0da52717891d8ef", "d989611b15e44c9dbf31e3c81256e4ed")
"""sd-messages.h: a unit's process was killed by the kernel's OOM killer; a unit was killed by systemd-oomd."""
_MATCHES = (
    "_TRANSPORT=kernel",
    *(word for name in _KILLERS for word in ("+", f"_SYSTEMD_UNIT={name}.service")),
    *(word for message in _OF_SYSTEMD for word in ("+", f"MESSAGE_ID={message}")),
)
"""Trusted fields, which only journald can set, and the two messages of systemd."""
_SYSTEM = ("/var/log/journal/*/system.journal", "/run/log/journal/*/system.journal")
_GROUPS = "run as root, or join the group systemd-journal or adm (usermod -aG systemd-journal USER)"
_OFFLINE, _ARCHIVED = 0, 2


def read_journal(arguments: Sequence[str] = ()) -> Stream:
    """Read the system's journal, all boots. `arguments`: further arguments of journalctl. Raises SourceError."""
    _require_journalctl("the journal")
    if not may_read_system_journal():
        raise SourceError(f"Failed to read the journal: you may not read the system's; {_GROUPS}.")
    return Stream(piped((*_COMMAND, *arguments, *_MATCHES), None))


def may_read_system_journal() -> bool:
    """Whether this user may read the system's records. If not, journalctl shows only the user's own, and doesn't say
    so."""
    found = [path for pattern in _SYSTEM for path in glob(pattern)]
    if found:
        return any(os.access(path, os.R_OK) for path in found)
    directories = [path for path in (os.path.dirname(os.path.dirname(one)) for one in _SYSTEM) if os.path.isdir(path)]
    return all(os.access(path, os.R_OK | os.X_OK) for path in directories)


def read_journal_files(paths: Sequence[str], name: str, arguments: Sequence[str] = ()) -> Stream:
    """Read files of journald, merged by time. `name`: what to call them in messages. Raises SourceError."""
    _require_journalctl(name)
    return Stream(_files(paths, arguments))


def why_unreadable(path: str) -> str | None:
    """Why journalctl can't open a file; None: it can. One such file would keep it from reading the others."""
    if shutil.which("journalctl") is None:
        return None  # the reading of the others reports that
    done = subprocess.run(
        ("journalctl", "--quiet", "--lines=0", f"--file={path}"), capture_output=True, stdin=subprocess.DEVNULL
    )
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    return said[-1].strip() if said else f"journalctl ends with exit status {done.returncode}"


def _files(paths: Sequence[str], arguments: Sequence[str]) -> Iterator[bytes]:
    files = [f"--file={path}" for path in paths]
    yield from piped((*_COMMAND, *files, *arguments, *_MATCHES), None)
    for path in paths:
        if _is_closed(path) and (words := _what_is_wrong(path)) is not None:
            raise Damaged(f"the journal file is damaged (journalctl --verify: {words})")


def _is_closed(path: str) -> bool:
    """Whether the file was closed by its writer, so that it can be verified (Journal File Format, "state")."""
    with open(path, "rb") as raw:
        head = raw.read(17)
    return len(head) == 17 and head[16] in (_OFFLINE, _ARCHIVED)


def _what_is_wrong(path: str) -> str | None:
    done = subprocess.run(
        ("journalctl", "--verify", "--quiet", f"--file={path}"), capture_output=True, stdin=subprocess.DEVNULL
    )
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    return said[0].strip() if said else f"exit status {done.returncode}"


def _require_journalctl(name: str) -> None:
    if shutil.which("journalctl") is None:
        raise SourceError(f"Failed to read {name}: the program journalctl isn't installed (package systemd).")
