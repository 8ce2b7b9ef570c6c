"""Decides by the directories on the way to a file whether another user could replace the file."""

import os
import stat

from oomwatchd.config.links import LINKS


def weak_directory(path: str, owner: int) -> str:
    """Why other users than its `owner` and root could replace the file at `path`; empty: none could. A sticky
    directory, such as /tmp, is safe if the entry in it belongs to one of the two. Raises OSError."""
    trusted = {0, owner, os.geteuid()}
    pending = [part for part in os.path.abspath(path).split("/") if part][::-1]
    directory, links = "/", 0
    while pending:
        entry = os.path.join(directory, pending.pop())
        status = os.lstat(entry)
        reason = _weakness(directory, status.st_uid, trusted)
        if reason:
            return reason
        if not stat.S_ISLNK(status.st_mode):
            directory = entry
            continue
        links += 1
        if links > LINKS:
            return f"{path} leads through too many symbolic links"
        target = os.readlink(entry)
        rest = [part for part in target.split("/") if part not in ("", ".")]
        if target.startswith("/"):
            directory = "/"
        pending += _without_dots(directory, rest)[::-1] if ".." in rest else rest[::-1]
        if ".." in rest:
            directory = "/"
    return ""


def open_to_others(directory: str) -> str:
    """Why other users than its owner and root could put a file into `directory`; empty: none could. Raises OSError."""
    mode = os.stat(directory).st_mode
    return _writable(directory, mode) if mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


def _without_dots(directory: str, rest: list[str]) -> list[str]:
    """The parts of a path from the root on, without `.` and `..`. The path begins at `directory`; `rest` are its parts
    below."""
    return [part for part in os.path.realpath(os.path.join(directory, *rest)).split("/") if part]


def _weakness(directory: str, entry_owner: int, trusted: set[int]) -> str:
    status = os.stat(directory)
    if status.st_uid not in trusted:
        return f"its directory {directory} belongs to another user than the file"
    if not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return ""
    if status.st_mode & stat.S_ISVTX and entry_owner in trusted:
        return ""
    return _writable(directory, status.st_mode)


def _writable(directory: str, mode: int) -> str:
    return f"others may write in {directory} (mode {stat.S_IMODE(mode):04o}); run: chmod go-w {directory}"
