"""The protocol of the control socket, as far as both ends need it: one JSON request a line, one reply a line.
oomwatchctl(1) describes requests and replies."""

import contextlib
import os
from collections.abc import Iterator

SOCKET_NAME = "control"
REQUEST_BYTES = 64 << 10
"""A longer request is refused, and its connection is closed."""
LINEAGE_PIDS = 32
"""The most PIDs of one request `lineage`. The number is limited, since each PID costs the daemon some system calls."""

# Not typing.TypeAlias: typing takes 0.5 MiB of memory, and nothing else in the daemon loads it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict


def runtime_directory(root: str = "/") -> str:
    """The directory of the socket and the ledger: $RUNTIME_DIRECTORY if systemd has set it (systemd.exec(5)), else
    run/oomwatchd below `root`."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return given or f"{root.rstrip('/')}/run/oomwatchd"


@contextlib.contextmanager
def address(path: str) -> Iterator[str]:
    """Another path to the socket at `path`, which is short enough for struct sockaddr_un, unix(7). It is valid within
    the `with` statement. Raises OSError."""
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)
