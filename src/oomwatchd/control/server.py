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
"""How many connections may wait to be accepted, listen(2). The queue is long, so that a user who opens many connections
can't keep root out of it."""
# Budgets of CPU time for clients: the share of the time, and the seconds that may be spent at once. They are needed
# since the daemon answers at its real-time priority.
_USER_BUDGET = (0.05, 0.1)
_ALL_USERS_BUDGET = (0.1, 0.2)
"""For all users but root together, since one user can have many uids: user_namespaces(7)."""
_ROOT_BUDGET = (0.5, 1.0)
_ACCEPT_BUDGET = (0.1, 0.1)
"""For accepting connections. It is a budget of its own, since the user of a connection is known only after accept(2).
So requests of other users can't keep root from being accepted."""
_PRUNE_SECONDS = 1.0

ErrorHandler = Callable[[Connection, Exception], None]


def _bound(path: str) -> socket.socket:
    """Make a socket that listens at `path`, and remove what was there before. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with address(path) as short:
            made.bind(short)
        os.chmod(path, 0o666)  # everybody may send requests; the uid of the client decides about admin requests
        made.listen(_WAITING_TO_BE_ACCEPTED)
    except OSError:
        made.close()
        raise
    return made


class User:
    """The connections of one uid, and its budget of CPU time."""

    def __init__(self, *, privileged: bool) -> None:
        self.privileged = privileged
        self.connections: dict[int, Connection] = {}
        self.budget = Budget(*(_ROOT_BUDGET if privileged else _USER_BUDGET))
        self.epoll = select.epoll()
        self.paused = False
        """Whether the server ignores its connections for now, since it has used up its CPU time."""


class Server:
    """The daemon's end of the control socket: a listening socket and its clients. The caller waits for one descriptor,
    that of fileno().

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
        """The descriptor that is readable when a client waits."""
        return self._epoll.fileno()

    def bind_again(self, now: float) -> None:
        """Listen at the path by a new socket, after somebody has removed the file of the old one. Open connections stay
        open, and those that wait to be accepted are accepted. `now` is CLOCK_MONOTONIC in seconds. Raises OSError."""
        fresh = _bound(self.path)
        for _ in range(_WAITING_TO_BE_ACCEPTED + 1):
            if not self._accept(now):
                break
        self._listen(self.socket.fileno(), self._listening, False)
        self.socket.close()
        self.socket = fresh
        self._listening = self._listen(fresh.fileno(), False, self._listening)

    @property
    def connections(self) -> list[Connection]:
        """All open connections."""
        return [connection for user in self._users.values() for connection in user.connections.values()]

    def turn(self, handle: Handler, on_error: ErrorHandler, now: float) -> float | None:
        """Do one step for one client. So process events never wait for more than one step, however many clients there
        are. The kernel takes the users in turn, and the connections of each user in turn: epoll(7). If `handle` raises
        an exception, the connection is closed, and `on_error` is called. Returns in how many seconds to call resume();
        None: no user waits for CPU time."""
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
        """Have epoll(7) wake up for what the connection waits for now. `descriptor`: that of the connection, where it
        may be closed. A closed connection is forgotten."""
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
        """Listen to the users who have CPU time left, and ignore those who have used it up. Returns in how many seconds
        the first of the latter has CPU time again; None: nobody has used it up."""
        waits = [self._accepting.wait(now)]
        self._listening = self._listen(self.socket.fileno(), self._listening, waits[0] == 0)
        everyone = self._all_users.wait(now)
        for user in self._users.values():
            wait = user.budget.wait(now) if user.privileged else max(user.budget.wait(now), everyone)
            user.paused = not self._listen(user.epoll.fileno(), not user.paused, wait == 0)
            waits.append(wait)
        return min((wait for wait in waits if wait > 0), default=None)

    def _listen(self, descriptor: int, listening: bool, wanted: bool) -> bool:
        """Wake up for a descriptor if that is `wanted`, else don't. `listening`: whether the server wakes up for it
        now. Returns `wanted`."""
        if wanted and not listening:
            self._epoll.register(descriptor, select.EPOLLIN)
        elif listening and not wanted:
            self._epoll.unregister(descriptor)
        return wanted

    # Connections

    def monitor(self, connection: Connection) -> None:
        """Make the connection a monitor: it gets lines by offer(), and may send no more requests."""
        connection.monitor()
        self.monitors.append(connection)

    def offer(self, connection: Connection, line: bytes) -> None:
        """Send a line to a monitor, in a later turn(). If its user has used up the CPU time, the monitor misses the
        line."""
        if self._users[connection.uid].paused:
            connection.skip()
            return
        was_idle = connection.interest == 0
        connection.offer(line)
        if was_idle:
            self.mind(connection)

    def reply(self, connection: Connection, reply: Json) -> None:
        """Reply to a request that was deferred: see Connection.defer()."""
        if not connection.closed:
            connection.send(reply)
            self.mind(connection)

    def _accept(self, now: float) -> bool:
        """Accept a connection. Returns whether there was one."""
        try:
            sock, _ = self.socket.accept()
        except OSError:
            return False  # none waits, the client is gone, or this process has no descriptors left
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
            return True
        user = known or self._new_user(connection)
        user.connections[connection.fileno()] = connection
        user.epoll.register(connection.fileno(), connection.interest)
        return True

    def _new_user(self, connection: Connection) -> User:
        user = User(privileged=connection.privileged)
        self._users[connection.uid] = user
        self._by_epoll[user.epoll.fileno()] = user
        self._epoll.register(user.epoll.fileno(), select.EPOLLIN)
        return user

    def prune(self, now: float) -> None:
        """Close the connections that have sent and taken nothing for a minute, and forget users without connections.
        `now` is CLOCK_MONOTONIC in seconds."""
        self._pruned = now
        for uid, user in list(self._users.items()):
            for descriptor, connection in list(user.connections.items()):
                if not connection.waits_for_us and now - connection.active > _IDLE_SECONDS:
                    connection.close()
                    self.mind(connection, descriptor)
            # A user who has spent CPU time is remembered. Else a new connection would have a new budget.
            if not user.connections and (user.budget.full(now) or len(self._users) > _CLIENTS):
                del self._users[uid], self._by_epoll[user.epoll.fileno()]
                user.epoll.close()

    def close(self) -> None:
        """Close all connections and the socket, and remove its file."""
        for user in self._users.values():
            for connection in user.connections.values():
                connection.close()
            user.epoll.close()
        self._epoll.close()
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
