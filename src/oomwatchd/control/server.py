"""The daemon's end of the control socket."""

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

from oomwatchd.control.budget import Budget
from oomwatchd.control.protocol import REQUEST_BYTES, Json, address

BACKLOG_BYTES = 256 << 10
"""A monitor's reader who lets more than this pile up misses what comes."""
_CLIENTS = 64
_CLIENTS_PER_USER = 16
_IDLE_SECONDS = 60.0
_WAITING_TO_BE_ACCEPTED = 128
"""Whoever opens connections without end shall not keep root from getting into the queue, listen(2)."""
# CPU time for clients, at the daemon's real-time priority: share of the time, and seconds at once.
_USER_BUDGET = (0.05, 0.1)
_ALL_USERS_BUDGET = (0.1, 0.2)
"""For all users but root taken together: one user can have many uids, user_namespaces(7)."""
_ROOT_BUDGET = (0.5, 1.0)
_ACCEPT_BUDGET = (0.1, 0.1)
"""For accepting connections. Whose it is shows only then, so it is one of its own: requests of others don't keep root
from getting in."""
_PRUNE_SECONDS = 1.0

Handler = Callable[["Connection", Json], None]
ErrorHandler = Callable[["Connection", Exception], None]


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


class User:
    """One uid's connections, and the CPU time that it may have."""

    def __init__(self, *, privileged: bool) -> None:
        self.privileged = privileged
        self.connections: dict[int, Connection] = {}
        self.budget = Budget(*(_ROOT_BUDGET if privileged else _USER_BUDGET))
        self.epoll = select.epoll()
        self.paused = False
        """Whether the server doesn't listen to it, for it has used up its CPU time."""


class Server:
    """The daemon's end: a listening socket and its clients, all behind one descriptor to wait for.

    `cpu_clock` gives the CPU time of this thread in seconds."""

    def __init__(self, path: str, cpu_clock: Callable[[], float] = time.thread_time) -> None:
        self.path = path
        self.monitors: list[Connection] = []
        self._cpu_clock = cpu_clock
        self._users: dict[int, User] = {}
        self._by_epoll: dict[int, User] = {}
        self._all_users = Budget(*_ALL_USERS_BUDGET)
        self._accepting = Budget(*_ACCEPT_BUDGET)
        self._listening = True
        self._pruned = 0.0
        self._epoll = select.epoll()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with address(path) as short:
            self.socket.bind(short)
        os.chmod(path, 0o666)  # everyone may ask; who may steer is decided by the peer's uid
        self.socket.listen(_WAITING_TO_BE_ACCEPTED)
        self._epoll.register(self.socket.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    @property
    def connections(self) -> list[Connection]:
        """All that are open."""
        return [connection for user in self._users.values() for connection in user.connections.values()]

    def turn(self, handle: Handler, on_error: ErrorHandler, now: float) -> float | None:
        """One step of one client: however many there are and whatever they want, process events have to wait for no
        more than that. The kernel takes users in turn, and the connections of each, epoll(7). An exception that
        `handle` lets go ends the connection, and `on_error` is told. Returns after how many seconds to call resume();
        None: nobody waits."""
        for descriptor, _ in self._epoll.poll(0, 1):
            began = self._cpu_clock()
            if descriptor == self.socket.fileno():
                self._accept(now)
                self._accepting.spend(self._cpu_clock() - began, now)
                continue
            user = self._by_epoll[descriptor]
            self._step(user, handle, on_error, now)
            seconds = self._cpu_clock() - began
            user.budget.spend(seconds, now)
            if not user.privileged:
                self._all_users.spend(seconds, now)
        return self.resume(now)

    def _step(self, user: User, handle: Handler, on_error: ErrorHandler, now: float) -> None:
        for descriptor, events in user.epoll.poll(0, 1):
            connection = user.connections[descriptor]
            try:
                connection.turn(events, handle, now)
            except Exception as error:
                connection.close()
                on_error(connection, error)
            self.mind(connection, descriptor)

    def mind(self, connection: Connection, descriptor: int | None = None) -> None:
        """Wake up for what the connection waits for now."""
        number = connection.fileno() if descriptor is None else descriptor
        user = self._users[connection.uid]
        if connection.closed:
            # Closing it has removed it from the epoll set already.
            user.connections.pop(number, None)
            self.monitors = [monitor for monitor in self.monitors if monitor is not connection]
            return
        user.epoll.modify(number, connection.interest)

    # CPU time

    def resume(self, now: float) -> float | None:
        """Listen to those who have CPU time left, and not to those who have used it up. Returns after how many seconds
        one of these has some again; None: there are none."""
        waits = [self._accepting.wait(now)]
        self._listening = self._listen(self.socket.fileno(), self._listening, waits[0] == 0)
        everyone = self._all_users.wait(now)
        for user in self._users.values():
            wait = user.budget.wait(now) if user.privileged else max(user.budget.wait(now), everyone)
            user.paused = not self._listen(user.epoll.fileno(), not user.paused, wait == 0)
            waits.append(wait)
        return min((wait for wait in waits if wait > 0), default=None)

    def _listen(self, descriptor: int, listening: bool, wanted: bool) -> bool:
        """Wake up for a descriptor, or don't, as is `wanted`. Returns that."""
        if wanted and not listening:
            self._epoll.register(descriptor, select.EPOLLIN)
        elif listening and not wanted:
            self._epoll.unregister(descriptor)
        return wanted

    # Connections

    def monitor(self, connection: Connection) -> None:
        """From now on the connection is told what happens, and may ask no more."""
        connection.monitoring = True
        self.monitors.append(connection)

    def offer(self, connection: Connection, line: bytes) -> None:
        """Tell a monitor, as soon as nothing else is to be done; its user may have used up its CPU time, and then
        misses it."""
        if self._users[connection.uid].paused:
            connection.dropped += 1
            return
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
        if now - self._pruned >= _PRUNE_SECONDS:
            self.prune(now)
        known = self._users.get(connection.uid)
        count = sum(len(user.connections) for user in self._users.values())
        if connection.privileged:
            full = known is not None and len(known.connections) >= _CLIENTS
        else:
            full = count >= _CLIENTS or (known is not None and len(known.connections) >= _CLIENTS_PER_USER)
        if full:
            with contextlib.suppress(OSError):
                sock.send(b'{"error": "Too many connections"}\n')
            connection.close()
            return
        user = known or self._new_user(connection)
        user.connections[connection.fileno()] = connection
        user.epoll.register(connection.fileno(), connection.interest)

    def _new_user(self, connection: Connection) -> User:
        user = User(privileged=connection.privileged)
        self._users[connection.uid] = user
        self._by_epoll[user.epoll.fileno()] = user
        self._epoll.register(user.epoll.fileno(), select.EPOLLIN)
        return user

    def prune(self, now: float) -> None:
        """Drop clients that for long have neither said nor taken anything, and users that are gone."""
        self._pruned = now
        for uid, user in list(self._users.items()):
            for descriptor, connection in list(user.connections.items()):
                if not (connection.monitoring or connection.deferred) and now - connection.active > _IDLE_SECONDS:
                    connection.close()
                    self.mind(connection, descriptor)
            # One with a debt is remembered, or a new connection would be a new budget.
            if not user.connections and (user.budget.full(now) or len(self._users) > _CLIENTS):
                del self._users[uid], self._by_epoll[user.epoll.fileno()]
                user.epoll.close()

    def close(self) -> None:
        for user in self._users.values():
            for connection in user.connections.values():
                connection.close()
            user.epoll.close()
        self._epoll.close()
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
