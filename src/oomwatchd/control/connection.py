"""One client's connection to the control socket, at the daemon's end."""

import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator

from oomwatchd.control.protocol import REQUEST_BYTES, Json

BACKLOG_BYTES = 256 << 10
"""A monitor that hasn't read more than this misses further lines."""

Handler = Callable[["Connection", Json], None]
"""Called with each request. It replies by send() or stream(), or it calls defer() and replies later by send()."""


class Connection:
    """One client's connection. It never blocks, and holds at most one request and one piece of a reply: the next
    request waits in the kernel until the client has taken the reply to the one before."""

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid, self.uid, self.gid = struct.unpack("=iII", credentials)
        self.active = now
        """When the client last sent or took something, CLOCK_MONOTONIC seconds."""
        self.closed = False
        self._deferred = False
        """Whether the reply comes later, by send()."""
        self._monitoring = False
        """Whether the client is a monitor, which gets lines by offer()."""
        self._missed = 0
        """How many lines were left out since the last line that was sent to the monitor."""
        self._ended = False
        """Whether the client sends nothing more."""
        self._input = bytearray()
        self._output = bytearray()
        self._pieces: Iterator[bytes] = iter(())
        self._more = False
        """Whether `_pieces` may have more."""

    @property
    def privileged(self) -> bool:
        """Whether the client may send admin requests: root may, and the user that runs the daemon."""
        return self.uid in (0, os.geteuid())

    @property
    def waits_for_us(self) -> bool:
        """Whether the client waits for the daemon: for a deferred reply, or for the next line of the monitor stream."""
        return self._deferred or self._monitoring

    @property
    def interest(self) -> int:
        """The events to wake up for, epoll_ctl(2)."""
        if self._output or self._more:
            return select.EPOLLOUT
        if self.waits_for_us:
            return 0  # EPOLLHUP is reported in any case
        if b"\n" in self._input:
            return select.EPOLLOUT  # at once, for the next request
        return 0 if self._ended else select.EPOLLIN

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        self.socket.close()

    def turn(self, events: int, handle: Handler, now: float) -> None:
        """Do one step: read what has come, or send what waits, and deal with at most one request. `events` are those
        of epoll_wait(2)."""
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self.close()
            return
        if events & select.EPOLLIN:
            self._read(now)
        if events & select.EPOLLOUT:
            self._write(now)
        if self.closed or self._output or self._more or self.waits_for_us:
            return
        end = self._input.find(b"\n")
        if end >= 0:
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            self._request(line, handle)
            self._write(now)
        if self._ended and not (self.closed or self._output or self._more or self._deferred or b"\n" in self._input):
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

    def defer(self) -> None:
        """Note that the reply comes later, by send()."""
        self._deferred = True

    def monitor(self) -> None:
        """Make the client a monitor: from now on it gets lines by offer(), and its requests aren't read any more."""
        self._monitoring = True

    def send(self, reply: Json) -> None:
        """Reply with one short line."""
        self._deferred = False
        self._output += json.dumps(reply).encode() + b"\n"

    def stream(self, pieces: Iterator[bytes]) -> None:
        """Reply with one line in pieces. Each piece is made when the client has taken the one before."""
        self._pieces, self._more = pieces, True

    def offer(self, line: bytes) -> None:
        """Send one line to a monitor. The line is left out if the monitor reads too slowly."""
        if len(self._output) > BACKLOG_BYTES:
            self.skip()
            return
        self._tell_missed()
        self._output += line

    def skip(self) -> None:
        """Count one line that is left out. The monitor is told how many there were."""
        self._missed += 1

    def _tell_missed(self) -> None:
        if self._missed > 0:
            self._output += b'{"event": "dropped", "count": %d}\n' % self._missed
            self._missed = 0

    def _write(self, now: float) -> None:
        """Send what waits, as much as the client takes. At most one more piece is made."""
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
        self._tell_missed()
