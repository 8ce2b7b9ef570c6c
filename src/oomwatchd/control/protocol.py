"""What both ends of the control socket go by: one JSON request a line, one reply a line. oomwatchctl(1) describes
them."""

import contextlib
import os
from collections.abc import Iterator

SOCKET_NAME = "control"
REQUEST_BYTES = 64 << 10
"""A longer request is refused, and its sender dropped."""

# Not typing's name for it: typing is 0.5 MiB of memory, and nothing else in the daemon loads it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict


def runtime_directory(root: str = "/") -> str:
    """Where socket and ledger are: $RUNTIME_DIRECTORY as systemd sets it (systemd.exec(5)), else /run/oomwatchd."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return given or f"{root.rstrip('/')}/run/oomwatchd"


@contextlib.contextmanager
def address(path: str) -> Iterator[str]:
    """`path` as one short enough for struct sockaddr_un, unix(7), however deep it lies."""
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)
