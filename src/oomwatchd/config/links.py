"""Follows symbolic links to the files of the configuration, below the directory of --root, as systemd's tools do it."""

import errno
import os
from collections.abc import Iterator

LINKS = 40
"""The most symbolic links that the kernel follows, path_resolution(7)."""


def stations(path: str, root: str) -> Iterator[str]:
    """The symbolic links on the way to `path`, each as a path without links, and then the file itself, unless there are
    too many links. `path` begins with `root`, which is taken for /. A link to /dev/null masks, also where there is no
    /dev below the root."""
    at, rest, links = root, path[len(root) :].split("/"), 0
    while rest:
        name = rest.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at) if at != root else root
            continue
        station = os.path.join(at, name)
        try:
            target = os.readlink(station)
        except OSError:  # no link, or nothing there
            at = station
            continue
        yield station
        links += 1
        if links > LINKS:
            return
        if target == os.devnull:
            at = target
            break
        rest = [*target.split("/"), *rest]
        if target.startswith("/"):
            at = root
    yield at


def real_path(path: str, root: str) -> str:
    """The path without symbolic links. Raises OSError if there are too many."""
    if root == "/":
        return os.path.realpath(path)
    *_, last = stations(path, root)
    if os.path.islink(last):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return last


def path_to_open(path: str, root: str) -> str:
    """The path by which to open a file: for the root of this machine, the kernel follows the links. Raises OSError as
    real_path() does."""
    return path if root == "/" else real_path(path, root)
