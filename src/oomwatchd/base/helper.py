"""Helper processes for calls that may never return. A helper can be killed without harm to the daemon.

Threads can't be used instead. A thread that waits for a file system keeps the whole process from ending. A thread at
normal priority that holds the interpreter's lock makes a thread at real-time priority wait.

Helpers are forked by a fork server, which is itself a fork of this process, so that nothing has to be loaded. This
process doesn't fork them itself, for two reasons: each fork would copy its page tables; and while a helper still had
its descriptors, closing one would not remove it from an epoll set.

All of them run at normal priority (SCHED_RESET_ON_FORK), and end with this process."""

import atexit
import contextlib
import ctypes
import gc
import marshal
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping

Function = Callable[..., object]
"""A function whose arguments and result marshal can write: None, numbers, strings, bytes, and tuples, lists and
dictionaries of these."""

_MESSAGE_BYTES = 320 << 10
"""The longest message. The longest ones have a command line of up to 256 KiB and regular expressions."""
_BUFFER_BYTES = 208 << 10
"""The size of a socket's send buffer, which the kernel doubles. It is the default of net.core.wmem_max, which is the
most that a process can get."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_START, _KILL, _READY = b"s", b"k", b"r"
"""Messages to the fork server: start a helper, kill one. Message from it: it is ready."""
_START_SECONDS = 0.2
"""How long to wait until the fork server is ready."""


class HelperError(Exception):
    """The helper has ended, or was too slow: no answer will come."""


class ForkServer:
    """Starts helpers that can call `functions`, each by its name. The fork server starts with the first helper, because
    most machines never need one."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        self._socket: socket.socket | None = None
        self._pid = 0
        self._started = 0

    def _open(self) -> socket.socket:
        """Start the fork server. Raises OSError if no process can be started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if self._pid == 0:
            _never_return(lambda: _serve_starts(theirs.detach(), self._functions))
        theirs.close()
        # Wait until the fork server has closed its copies of our descriptors: until then, close(2) of one of ours would
        # not remove it from an epoll set.
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        if poll.poll(_START_SECONDS * 1000):
            ours.recv(1)
        ours.setblocking(False)
        return ours

    def start(self) -> "Helper":
        """A new helper. Raises HelperError if the fork server has ended or has too many requests waiting, and OSError
        if no process can be started."""
        if self._socket is None:
            self._socket = self._open()
        self._started += 1
        token = b"%d" % self._started
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        try:
            socket.send_fds(self._socket, [_START + token], [theirs.fileno()])
        except BlockingIOError as error:
            ours.close()
            raise HelperError(str(error)) from None
        except OSError as error:
            ours.close()
            self.close()  # the next call starts another fork server
            raise HelperError(str(error)) from None
        finally:
            theirs.close()
        return Helper(self, token, ours)

    def kill(self, token: bytes) -> None:
        """Kill the helper with this token."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the fork server has ended, and its helpers with it
                self._socket.send(_KILL + token)

    def close(self) -> None:
        """End the fork server and its helpers. This doesn't wait for helpers that can't be killed now, such as one that
        waits for a file system."""
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


class Helper:
    """One helper, which serves one call at a time."""

    __slots__ = ("_server", "_socket", "_token")

    def __init__(self, server: ForkServer, token: bytes, connection: socket.socket) -> None:
        self._server, self._token, self._socket = server, token, connection

    def fileno(self) -> int:
        """The descriptor that is readable when the answer has come, or when none will come."""
        return self._socket.fileno()

    def send(self, name: str, arguments: tuple[object, ...]) -> None:
        """Ask the helper to call the function `name` with `arguments`. Raises HelperError."""
        try:
            self._socket.send(_packed((name, arguments)), socket.MSG_DONTWAIT)
        except (OSError, MemoryError) as error:
            raise HelperError(str(error)) from None

    def receive(self, seconds: float) -> object:
        """The answer. Raises HelperError if none comes within `seconds`, if it is longer than a message may be, or if
        there is no memory for it."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise HelperError(f"no answer in {seconds:g} s")
        try:
            raw, _, flags, _ = self._socket.recvmsg(_MESSAGE_BYTES)
            if flags & socket.MSG_TRUNC:
                raise HelperError(f"the answer is longer than {_MESSAGE_BYTES} bytes")
            if raw:
                return marshal.loads(raw)
        except (OSError, MemoryError) as error:
            raise HelperError(str(error)) from None
        raise HelperError("the helper has ended")

    def kill(self) -> None:
        """Kill the helper. A helper that waits for a file system ends only when the file system answers: see
        has_ended()."""
        self._server.kill(self._token)

    def has_ended(self) -> bool:
        """Whether a helper that was killed has ended. Call this until it returns True: then the helper's descriptor is
        closed."""
        try:
            while self._socket.recv(1, socket.MSG_DONTWAIT):  # of each message, the rest is discarded
                pass
        except BlockingIOError:
            return False
        except OSError:
            pass
        self.close()
        return True

    def close(self) -> None:
        """Close the descriptor. A helper that serves no call ends then."""
        self._socket.close()


_kept: dict[Function, tuple[ForkServer, Helper]] = {}


def call(function: Function, *arguments: object, seconds: float) -> object:
    """Call `function` with `arguments` in a helper, and wait for the result, at most `seconds`. It is for programs that
    have nothing else to do meanwhile. Raises HelperError if no answer comes, and OSError if no process can be
    started."""
    name = function.__name__
    server, helper = _kept.pop(function) if function in _kept else _started(name, function)
    try:
        helper.send(name, arguments)
        answer = helper.receive(seconds)
    except HelperError:
        _end(server, helper)
        raise
    _kept[function] = server, helper  # for the next call of this function
    return answer


def _started(name: str, function: Function) -> tuple[ForkServer, Helper]:
    server = ForkServer({name: function})
    return server, server.start()


def _end(server: ForkServer, helper: Helper) -> None:
    server.close()
    helper.close()


@atexit.register
def _end_kept() -> None:
    while _kept:
        _end(*_kept.popitem()[1])


def _packed(message: object) -> bytes:
    return marshal.dumps(message)  # type: ignore[arg-type]  # the alias Function says what types it may have


def _never_return(do: Callable[[], None]) -> None:
    status = 1
    try:
        do()
        status = 0
    finally:
        os._exit(status)


def _begin(descriptor: int, name: bytes) -> None:
    """Close the descriptors that this process has from the process that forked it, all but `descriptor`. Take the task
    name `name`. End with the parent."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):  # a reader of our output would wait for the end of a helper that hangs
        os.dup2(nothing, standard)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, name, 0, 0, 0)


def _serve_starts(descriptor: int, functions: Mapping[str, Function]) -> None:
    """The loop of the fork server: start a helper for each request, until the daemon ends."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    _begin(descriptor, b"oomwatchd-fork")
    gc.disable()  # a collection would write to memory that is shared with the daemon, and so copy it
    children: dict[bytes, int] = {}

    def reap(_signal: int, _frame: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                for token in [token for token, child in children.items() if child == pid]:
                    del children[token]

    signal.signal(signal.SIGCHLD, reap)
    connection = socket.socket(fileno=descriptor)
    connection.send(_READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 64, 1)
        if not message:
            return
        kind, token = message[:1], message[1:]
        if kind == _KILL and token in children:
            os.kill(children[token], signal.SIGKILL)
        if kind != _START or not descriptors:
            continue
        with contextlib.suppress(OSError):  # no process can be started: the daemon sees the connection end
            children[token] = os.fork()
            if children[token] == 0:
                _never_return(lambda: _serve_calls(descriptors[0], functions))  # noqa: B023 - called at once
        os.close(descriptors[0])


def _serve_calls(descriptor: int, functions: Mapping[str, Function]) -> None:
    """The loop of a helper: call a function for each request, until the connection ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _begin(descriptor, b"oomwatchd-help")
    connection = socket.socket(fileno=descriptor)
    while message := connection.recv(_MESSAGE_BYTES):
        name, arguments = marshal.loads(message)
        connection.send(_packed(functions[name](*arguments)))
