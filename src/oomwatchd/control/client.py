"""oomwatchctl's end of the control socket."""

import json
import os
import select
import socket
import struct

from oomwatchd.control.protocol import SOCKET_NAME, Json, address, runtime_directory


class NotRunning(Exception):
    """No daemon answers, and why."""


class NoAnswer(NotRunning):
    """One runs, and doesn't answer, or not to us."""


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
            raise NoAnswer("oomwatchd doesn't answer") from None
        except ConnectionResetError:
            line = b""
        if not line.endswith(b"\n"):
            raise NoAnswer("oomwatchd hung up")
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise NoAnswer("oomwatchd gave an answer that isn't one")
        return reply

    def ask(self, request: Json) -> Json:
        """One request and its reply."""
        self.send(request)
        return self.receive()

    def wait(self, seconds: float) -> bool:
        """Whether something comes within `seconds`."""
        return bool(select.select([self.socket], [], [], seconds)[0])
