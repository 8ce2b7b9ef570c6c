"""The daemon's end of the control socket."""

import contextlib
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator

from oomwatchd.control.protocol import REQUEST_BYTES, Json, address

BACKLOG_BYTES = 256 << 10
"""A monitor's reader who lets more than this pile up misses what comes."""
_CLIENTS = 64
_CLIENTS_PER_USER = 16
_IDLE_SECONDS = 60.0

Handler = Callable[["Connection", Json], None]


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
        with address(path) as short:
            self.socket.bind(short)
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
