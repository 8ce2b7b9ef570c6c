"""The control socket's two ends: one JSON request a line, one reply a line. oomwatchctl(1) describes it."""

import contextlib
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator

SOCKET_NAME = "control"
REQUEST_BYTES = 64 << 10
"""A longer request is refused, and its sender dropped."""
BACKLOG_BYTES = 256 << 10
"""A monitor's reader who lets more than this pile up misses what comes."""
_CLIENTS = 64
_CLIENTS_PER_USER = 16
_IDLE_SECONDS = 60.0

# Not typing's name for it: typing is 0.5 MiB of memory, and nothing else in the daemon loads it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]
else:
    Json = dict
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
    """A client, at the daemon's end. Never blocks, and holds at most one request and one piece of a reply: what a
    client sends besides waits in the kernel until it has taken the reply to what it sent before."""

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid, self.uid, self.gid = struct.unpack("=iII", credentials)
        self.active = now
        """When it last sent or took something, CLOCK_MONOTONIC seconds."""
        self.deferred = False
        """Its reply will come when something is done."""
        self.monitoring = False
        self.dropped = 0
        self.closed = False
        self._ended = False
        self._input = bytearray()
        self._output = bytearray()
        self._pieces: Iterator[bytes] = iter(())
        self._more = False
        """Whether `_pieces` may have more."""

    @property
    def privileged(self) -> bool:
        """Whether it may steer: root, and the user that runs the daemon."""
        return self.uid in (0, os.geteuid())

    @property
    def interest(self) -> int:
        """What to wake up for, epoll_ctl(2)."""
        if self._output or self._more:
            return select.EPOLLOUT
        if self.deferred or self.monitoring:
            return 0  # its hanging up is told in any case
        if b"\n" in self._input:
            return select.EPOLLOUT  # to come back for the next request at once
        return 0 if self._ended else select.EPOLLIN

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.closed = True
        self.socket.close()

    def turn(self, events: int, handle: Handler, now: float) -> None:
        """One step: take what has come, or send what waits, and deal with one request at most."""
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self.close()
            return
        if events & select.EPOLLIN:
            self._read(now)
        if events & select.EPOLLOUT:
            self._write(now)
        if self.closed or self._output or self._more or self.deferred or self.monitoring:
            return
        end = self._input.find(b"\n")
        if end >= 0:
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            self._request(line, handle)
            self._write(now)
        if self._ended and not (self.closed or self._output or self._more or self.deferred or b"\n" in self._input):
            self.close()

    def _read(self, now: float) -> None:
        try:
            data = self.socket.recv(REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self.active = now
        self._ended = not data
        self._input += data
        if len(self._input) > REQUEST_BYTES and b"\n" not in self._input:
            self._input.clear()
            self._ended = True
            self.send({"error": f"Request longer than {REQUEST_BYTES} bytes"})

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
        """Reply with one line, a small one."""
        self.deferred = False
        self._output += json.dumps(reply).encode() + b"\n"

    def stream(self, pieces: Iterator[bytes]) -> None:
        """Reply with one line in pieces, each made when the client has taken the one before it."""
        self._pieces, self._more = pieces, True

    def offer(self, line: bytes) -> None:
        """Send one line to a monitor, or leave it out if its reader is too slow."""
        if len(self._output) > BACKLOG_BYTES:
            self.dropped += 1
            return
        self._tell_dropped()
        self._output += line

    def _tell_dropped(self) -> None:
        if self.dropped > 0:
            self._output += b'{"event": "dropped", "count": %d}\n' % self.dropped
            self.dropped = 0

    def _write(self, now: float) -> None:
        """Send what waits, as far as the client takes it, and make at most one more piece."""
        if not self._output and self._more:
            piece = next(self._pieces, None)
            self._more = piece is not None
            self._output += piece or b""
        try:
            while self._output:
                sent = self.socket.send(self._output)
                del self._output[:sent]
                self.active = now
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._tell_dropped()


class Server:
    """The daemon's end: a listening socket and its clients, all behind one descriptor to wait for."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connections: dict[int, Connection] = {}
        self.monitors: list[Connection] = []
        self._epoll = select.epoll()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with _address(path) as address:
            self.socket.bind(address)
        os.chmod(path, 0o666)  # everyone may ask; who may steer is decided by the peer's uid
        self.socket.listen(16)
        self._epoll.register(self.socket.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def turn(self, handle: Handler, now: float) -> None:
        """One step of one client: however many there are and whatever they want, process events have to wait for no
        more than that. The kernel takes them in turn, epoll(7)."""
        for descriptor, events in self._epoll.poll(0, 1):
            if descriptor == self.socket.fileno():
                self._accept(now)
                continue
            connection = self.connections[descriptor]
            try:
                connection.turn(events, handle, now)
            except Exception:
                connection.close()
                raise
            finally:
                self.mind(connection, descriptor)

    def mind(self, connection: Connection, descriptor: int | None = None) -> None:
        """Wake up for what the connection waits for now."""
        number = connection.fileno() if descriptor is None else descriptor
        if connection.closed:
            # Closing it has removed it from the epoll set already.
            self.connections.pop(number, None)
            self.monitors = [monitor for monitor in self.monitors if monitor is not connection]
            return
        self._epoll.modify(number, connection.interest)

    def monitor(self, connection: Connection) -> None:
        """From now on the connection is told what happens, and may ask no more."""
        connection.monitoring = True
        self.monitors.append(connection)

    def offer(self, connection: Connection, line: bytes) -> None:
        """Tell a monitor, as soon as nothing else is to be done."""
        was_idle = connection.interest == 0
        connection.offer(line)
        if was_idle:
            self.mind(connection)

    def reply(self, connection: Connection, reply: Json) -> None:
        """The reply of a connection that was deferred."""
        if not connection.closed:
            connection.send(reply)
            self.mind(connection)

    def _accept(self, now: float) -> None:
        try:
            sock, _ = self.socket.accept()
        except OSError:
            return  # gone again, or we have no descriptors left
        connection = Connection(sock, now)
        self.prune(now)
        same = sum(other.uid == connection.uid for other in self.connections.values())
        limit = _CLIENTS if connection.privileged else _CLIENTS_PER_USER
        if same >= limit or (len(self.connections) >= _CLIENTS and not connection.privileged):
            with contextlib.suppress(OSError):
                sock.send(b'{"error": "Too many connections"}\n')
            connection.close()
            return
        self.connections[connection.fileno()] = connection
        self._epoll.register(connection.fileno(), connection.interest)

    def prune(self, now: float) -> None:
        """Drop clients that for long have neither said nor taken anything."""
        for descriptor, connection in list(self.connections.items()):
            if not (connection.monitoring or connection.deferred) and now - connection.active > _IDLE_SECONDS:
                connection.close()
                self.mind(connection, descriptor)

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self._epoll.close()
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
        # A timeout of Python's makes the socket non-blocking, and connect(2) then fails at once where many clients wait
        # to be accepted, unix(7).
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        )
        try:
            with _address(self.path) as address:
                self.socket.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            self.socket.close()
            raise NotRunning(f"oomwatchd isn't running: nobody listens at {self.path}") from None
        except BlockingIOError:
            self.socket.close()
            raise NotRunning("oomwatchd doesn't answer") from None
        except OSError as error:
            self.socket.close()
            raise NotRunning(f"Failed to reach oomwatchd at {self.path}: {error.strerror or error}") from None
        self.socket.settimeout(seconds)
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
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
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
