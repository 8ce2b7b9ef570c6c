"""The client's end of the control socket, for oomwatchctl."""

import json
import os
import select
import socket
import struct
import time

from oomwatchd.control.protocol import SOCKET_NAME, Json, address, runtime_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.control.replies import Shape


class NotRunning(Exception):
    """There is no daemon that answers. The message says why."""


class NoAnswer(NotRunning):
    """A daemon runs, but it doesn't answer this client. The message says why."""


class OtherVersion(KeyError):
    """A reply has no such key, or `wrong`: one of another type. So the daemon is of another version."""

    def __init__(self, key: str, *, wrong: bool = False) -> None:
        super().__init__(key)
        self.wrong = wrong

    def __str__(self) -> str:
        has = f"has a '{self.args[0]}' of a wrong kind" if self.wrong else f"has no '{self.args[0]}'"
        return f"The answer of oomwatchd {has}: it is of another version than oomwatchctl"


class _Reply(dict[str, object]):
    """A JSON object of a reply. Reading a key that is missing raises OtherVersion."""

    def __missing__(self, key: str) -> object:
        raise OtherVersion(key)


_REPLY_BYTES = 256 << 20
"""No reply is longer: the files of a configuration are 4 MiB at most each, a process takes some 300 bytes."""
_RECEIVED_AT_ONCE = 1 << 18
"""Bytes that one recv(2) takes at most."""
_SHORTEST_SECONDS = 0.001
"""How long recv(2) waits at least: with a time limit of 0 it wouldn't wait at all."""


def shape_of(request: Json) -> "Shape":
    """The types that a reply to a request has."""
    from oomwatchd.control.replies import REPLIES

    return REPLIES.get(str(request.get("verb")))


class Client:
    """A connection to the daemon. A context manager. Raises NotRunning where no daemon answers.

    `directory`: the daemon's runtime directory. `seconds`: how long connecting and each reply may take."""

    def __init__(self, directory: str | None = None, seconds: float = 30.0) -> None:
        self.path = os.path.join(directory or runtime_directory(), SOCKET_NAME)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # settimeout() would make the socket non-blocking. Then connect(2) fails at once where many clients wait to be
        # accepted, unix(7).
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        )
        try:
            with address(self.path) as short:
                self.socket.connect(short)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            self.socket.close()
            raise NotRunning(f"oomwatchd isn't running: nobody listens at {self.path}") from None
        except BlockingIOError:
            self.socket.close()
            raise NoAnswer("oomwatchd doesn't answer") from None
        except OSError as error:
            self.socket.close()
            raise NotRunning(f"Failed to reach oomwatchd at {self.path}: {error.strerror or error}") from None
        self.socket.settimeout(seconds)
        self._held = bytearray()
        """What was received beyond the last reply."""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, request: Json) -> None:
        """Send a request. Raises OSError."""
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self, shape: "Shape" = None) -> Json:
        """The next reply. Raises NoAnswer if the daemon doesn't reply in time, hangs up, or sends no JSON object, and
        OtherVersion if the reply hasn't this shape. Reading a missing key of the reply raises OtherVersion."""
        try:
            line = self._line()
        except TimeoutError:
            raise NoAnswer("oomwatchd doesn't answer") from None
        if not line.endswith(b"\n") and len(line) < _REPLY_BYTES:
            raise NoAnswer("oomwatchd hung up")
        try:
            reply = json.loads(line, object_hook=_Reply)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise NoAnswer("oomwatchd gave an answer that isn't one")
        if shape is not None and not (len(reply) == 1 and isinstance(reply.get("error"), str)):
            from oomwatchd.control.replies import misfit  # the daemon imports this module, and receives nothing

            wrong = misfit(reply, shape)
            if wrong is not None:
                raise OtherVersion(wrong, wrong=True)
        return reply

    def _line(self) -> bytes:
        """The next line, or what there is of it where the daemon hangs up or sends more than a reply can be. The time
        limit is for the whole line: a peer may send one byte at a time. Raises TimeoutError."""
        limit = self.socket.gettimeout()
        deadline = None if limit is None else time.monotonic() + limit
        start = 0
        try:
            while (end := self._held.find(b"\n", start)) < 0 and len(self._held) < _REPLY_BYTES:
                start = len(self._held)
                if deadline is not None:
                    self.socket.settimeout(max(_SHORTEST_SECONDS, deadline - time.monotonic()))
                try:
                    more = self.socket.recv(_RECEIVED_AT_ONCE)
                except ConnectionResetError:
                    more = b""
                if not more:
                    break
                self._held += more
                if deadline is not None and time.monotonic() >= deadline and b"\n" not in more:
                    raise TimeoutError
        finally:
            self.socket.settimeout(limit)
        end = end + 1 if end >= 0 else min(len(self._held), _REPLY_BYTES)
        line = bytes(self._held[:end])
        del self._held[:end]
        return line

    def ask(self, request: Json) -> Json:
        """Send a request, and return its reply. Raises OSError, NoAnswer, and OtherVersion if the reply hasn't the
        types that a reply to this verb has."""
        self.send(request)
        return self.receive(shape_of(request))

    def wait(self, seconds: float) -> bool:
        """Wait for data for at most `seconds`. Returns whether some has come."""
        return b"\n" in self._held or bool(select.select([self.socket], [], [], seconds)[0])
