"""The daemon's end of the control socket."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable

from oomwatchd.control.budget import Budget
from oomwatchd.control.connection import Connection, Handler
from oomwatchd.control.protocol import Json, address

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

ErrorHandler = Callable[[Connection, Exception], None]


def _bound(path: str) -> socket.socket:
    """A socket that listens at `path`, in the place of what is there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with address(path) as short:
            made.bind(short)
        os.chmod(path, 0o666)  # everyone may ask; the uid of the client decides who may send admin requests
        made.listen(_WAITING_TO_BE_ACCEPTED)
    except OSError:
        made.close()
        raise
    return made


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
        self.socket = _bound(path)
        self._epoll = select.epoll()
        self._epoll.register(self.socket.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def bind_again(self) -> None:
        """Listen at the path by another socket: the one there has been removed. Those who are connected stay so. Raises
        OSError."""
        fresh = _bound(self.path)
        self._listen(self.socket.fileno(), self._listening, False)
        self.socket.close()
        self.socket = fresh
        self._listening = self._listen(fresh.fileno(), False, self._listening)

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
        connection.monitor()
        self.monitors.append(connection)

    def offer(self, connection: Connection, line: bytes) -> None:
        """Tell a monitor, as soon as nothing else is to be done; its user may have used up its CPU time, and then
        misses it."""
        if self._users[connection.uid].paused:
            connection.skip()
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
                if not connection.waits_for_us and now - connection.active > _IDLE_SECONDS:
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
