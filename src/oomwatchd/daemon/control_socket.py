"""The control socket as a part of the daemon's loop."""

import os
import time
from collections.abc import Callable, Sequence

from oomwatchd.control.client import Client, NotRunning
from oomwatchd.control.connection import Connection, Handler
from oomwatchd.control.protocol import SOCKET_NAME, Json
from oomwatchd.control.server import Server
from oomwatchd.daemon.loop import Loop


class ControlSocket:
    """The control socket. Where it isn't open, its methods do nothing.

    `handle` answers each request. `failed` is called with each exception that `handle` raises, and with a phrase that
    says during what. `watching` is called with whether anybody monitors, after each step."""

    def __init__(
        self,
        loop: Loop,
        directory: str,
        handle: Handler,
        failed: Callable[[Exception, str], None],
        watching: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._directory = directory
        self._handle = handle
        self._failed = failed
        self._watching = watching
        self._server: Server | None = None

    def open(self) -> None:
        """Open the socket, also in the place of one that was removed, and make its directory if there is none. Raises
        OSError."""
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        if self._server is None:
            self._server = Server(f"{self._directory}/{SOCKET_NAME}")
        else:
            self._server.bind_again(time.monotonic())

    @property
    def removed(self) -> bool:
        """Whether the socket was open, and its file is gone."""
        return self._server is not None and not os.path.lexists(self._server.path)

    def listen(self) -> None:
        """Deal with requests from now on, if the socket is open."""
        if self._server is not None and self._server.fileno() not in self._loop:
            self._loop.add(self._server.fileno(), self._on_client)

    def _on_client(self) -> None:
        if self._server is not None:
            self._resume_after(self._server.turn(self._handle, self._client_failed, time.monotonic()))
            self._watching(bool(self._server.monitors))

    def _resume(self) -> None:
        if self._server is not None:
            self._resume_after(self._server.resume(time.monotonic()))

    def _resume_after(self, seconds: float | None) -> None:
        if seconds is not None:
            self._loop.later(seconds, self._resume)

    def _client_failed(self, connection: Connection, error: Exception) -> None:
        self._failed(error, f" in answering a client of uid {connection.uid}")

    # Clients

    @property
    def monitors(self) -> Sequence[Connection]:
        """The clients that monitor."""
        return () if self._server is None else self._server.monitors

    def monitor(self, connection: Connection) -> None:
        """Make the client a monitor: it gets lines by offer(), and may send no more requests."""
        if self._server is not None:
            self._server.monitor(connection)

    def offer(self, connection: Connection, line: bytes) -> None:
        """Send a line to a monitor. A monitor that reads too slowly misses it."""
        if self._server is not None:
            self._server.offer(connection, line)

    def reply(self, connection: Connection, reply: Json) -> None:
        """Reply to a request that was deferred."""
        if self._server is not None:
            self._server.reply(connection, reply)

    def prune(self, now: float) -> None:
        """Close the connections that have been idle for long. `now` is CLOCK_MONOTONIC in seconds."""
        if self._server is not None:
            self._server.prune(now)
            self._watching(bool(self._server.monitors))

    def close(self) -> None:
        """Stop listening, if the socket was open."""
        if self._server is not None:
            self._server.close()


def another_listens(directory: str) -> bool:
    """Whether another daemon answers at the control socket in this runtime directory."""
    try:
        with Client(directory):
            return True
    except NotRunning:
        return False
