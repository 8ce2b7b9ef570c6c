"""The control socket's two ends: one JSON request a line, one reply a line. oomwatchctl(1) describes it."""

import contextlib
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

SOCKET_NAME = "control"
REQUEST_BYTES = 64 << 10
"""A longer request is refused, and its sender dropped."""
BACKLOG_BYTES = 1 << 20
"""A reader who lets more than this pile up besides one reply is dropped, or for `monitor` left out."""
_CLIENTS = 64
_CLIENTS_PER_USER = 16
_IDLE_SECONDS = 60.0

Json = dict[str, Any]
Handler = Callable[["Connection", Json], None]


def runtime_directory(root: str = "/") -> str:
    """Where socket and ledger are: $RUNTIME_DIRECTORY as systemd sets it (systemd.exec(5)), else /run/oomwatchd."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return given or f"{root.rstrip('/')}/run/oomwatchd"


@contextlib.contextmanager
def _address(path: str) -> Iterator[str]:
    """`path` as one short enough for struct sockaddr_un, unix(7), however deep it lies."""
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


class Connection:
    """A client, at the daemon's end. Never blocks."""

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid, self.uid, self.gid = struct.unpack("=iII", credentials)
        self.active = now
        self.monitoring = False
        self.dropped = 0
        self.closed = False
        self._input = bytearray()
        self._output = bytearray()

    @property
    def privileged(self) -> bool:
        """Whether it may steer: root, and the user that runs the daemon."""
        return self.uid in (0, os.geteuid())

    @property
    def waiting(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._output)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.closed = True
        self.socket.close()

    def read(self, handle: Handler, now: float) -> None:
        """Take what there is, and hand on each whole request."""
        self.active = now
        try:
            data = self.socket.recv(REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._input += data
        while not self.closed and (end := self._input.find(b"\n")) >= 0:
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            self._request(line, handle)
        if len(self._input) > REQUEST_BYTES:
            self.send({"error": f"Request longer than {REQUEST_BYTES} bytes"})
            self.close()

    def _request(self, line: bytes, handle: Handler) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
            self.send({"error": 'A request is one line of JSON such as {"verb": "status"}'})
            return
        handle(self, request)

    def send(self, reply: Json) -> None:
        """Send one line; what the client doesn't take now waits for write()."""
        if self.closed:
            return
        if len(self._output) > BACKLOG_BYTES:
            self.close()
            return
        self._output += json.dumps(reply).encode() + b"\n"
        self.write()

    def offer(self, line: bytes) -> None:
        """Send one line to a monitor, or leave it out if its reader is too slow."""
        if len(self._output) > BACKLOG_BYTES // 4:
            self.dropped += 1
            return
        if self.dropped > 0:
            self._output += json.dumps({"event": "dropped", "count": self.dropped}).encode() + b"\n"
            self.dropped = 0
        self._output += line
        self.write()

    def write(self) -> None:
        """Send what waits, as far as the client takes it."""
        try:
            while self._output:
                sent = self.socket.send(self._output)
                del self._output[:sent]
        except BlockingIOError:
            return
        except OSError:
            self.close()


class Server:
    """The daemon's end: a listening socket and its clients."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connections: list[Connection] = []
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with _address(path) as address:
            self.socket.bind(address)
        os.chmod(path, 0o666)  # everyone may ask; who may steer is decided by the peer's uid
        self.socket.listen(16)

    def fileno(self) -> int:
        return self.socket.fileno()

    def accept(self, now: float) -> Connection | None:
        """A new client, or None: gone again, or one too many."""
        try:
            sock, _ = self.socket.accept()
        except OSError:
            return None
        connection = Connection(sock, now)
        self.prune(now)
        same = sum(other.uid == connection.uid for other in self.connections)
        limit = _CLIENTS if connection.privileged else _CLIENTS_PER_USER
        if same >= limit or (len(self.connections) >= _CLIENTS and not connection.privileged):
            connection.send({"error": "Too many connections"})
            connection.close()
            return None
        self.connections.append(connection)
        return connection

    def prune(self, now: float) -> None:
        """Forget clients that have closed, and drop those that have said nothing for long."""
        for connection in self.connections:
            if not connection.monitoring and now - connection.active > _IDLE_SECONDS:
                connection.close()
        self.connections = [connection for connection in self.connections if not connection.closed]

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class NotRunning(Exception):
    """No daemon answers, and why."""


class Client:
    """oomwatchctl's end. Raises NotRunning where no daemon listens, OSError where it stops to."""

    def __init__(self, directory: str | None = None, seconds: float = 30.0) -> None:
        self.path = os.path.join(directory or runtime_directory(), SOCKET_NAME)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.settimeout(seconds)
        try:
            with _address(self.path) as address:
                self.socket.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            self.socket.close()
            raise NotRunning(f"oomwatchd isn't running: nobody listens at {self.path}") from None
        except OSError as error:
            self.socket.close()
            raise NotRunning(f"Failed to reach oomwatchd at {self.path}: {error.strerror or error}") from None
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, request: Json) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> Json:
        """The next reply. Raises NotRunning if the daemon hangs up."""
        try:
            line = self._file.readline()
        except TimeoutError:
            raise NotRunning("oomwatchd doesn't answer") from None
        except ConnectionResetError:
            line = b""
        if not line.endswith(b"\n"):
            raise NotRunning("oomwatchd hung up")
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise NotRunning("oomwatchd gave an answer that isn't one")
        return reply

    def ask(self, request: Json) -> Json:
        """One request and its reply."""
        self.send(request)
        return self.receive()

    def wait(self, seconds: float) -> bool:
        """Whether something comes within `seconds`."""
        return bool(select.select([self.socket], [], [], seconds)[0])
