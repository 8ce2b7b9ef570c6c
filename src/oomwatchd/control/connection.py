"""One client of the control socket, at the daemon's end."""

import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator

from oomwatchd.control.protocol import REQUEST_BYTES, Json

BACKLOG_BYTES = 256 << 10
"""A monitor whose reader lets more than this pile up misses what comes."""

Handler = Callable[["Connection", Json], None]
"""Called with each request. It replies by send() or stream(), or calls defer() and has the reply sent later."""


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
        self.closed = False
        self._deferred = False
        """Its reply will come when something is done."""
        self._monitoring = False
        self._missed = 0
        """So many lines a monitor was not told since the last one that it was."""
        self._ended = False
        self._input = bytearray()
        self._output = bytearray()
        self._pieces: Iterator[bytes] = iter(())
        self._more = False
        """Whether `_pieces` may have more."""

    @property
    def privileged(self) -> bool:
        """Whether it may send admin requests: root, and the user that runs the daemon."""
        return self.uid in (0, os.geteuid())

    @property
    def waits_for_us(self) -> bool:
        """Whether it is silent because it waits for the daemon: for a reply that was deferred, or for news."""
        return self._deferred or self._monitoring

    @property
    def interest(self) -> int:
        """What to wake up for, epoll_ctl(2)."""
        if self._output or self._more:
            return select.EPOLLOUT
        if self.waits_for_us:
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
        """The reply will come later, by send()."""
        self._deferred = True

    def monitor(self) -> None:
        """From now on it gets lines by offer(), and may ask no more."""
        self._monitoring = True

    def send(self, reply: Json) -> None:
        """Reply with one line, a small one."""
        self._deferred = False
        self._output += json.dumps(reply).encode() + b"\n"

    def stream(self, pieces: Iterator[bytes]) -> None:
        """Reply with one line in pieces, each made when the client has taken the one before it."""
        self._pieces, self._more = pieces, True

    def offer(self, line: bytes) -> None:
        """Send one line to a monitor, or leave it out if its reader is too slow."""
        if len(self._output) > BACKLOG_BYTES:
            self.skip()
            return
        self._tell_missed()
        self._output += line

    def skip(self) -> None:
        """Leave one line out. A monitor is told how many it has missed."""
        self._missed += 1

    def _tell_missed(self) -> None:
        if self._missed > 0:
            self._output += b'{"event": "dropped", "count": %d}\n' % self._missed
            self._missed = 0

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
        self._tell_missed()
