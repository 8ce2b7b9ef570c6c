"""The control socket against slow, silent, huge and hostile clients. No daemon: a server, and a handler that echoes."""

import contextlib
import json
import os
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.control.budget import Budget
from oomwatchd.control.client import Client, NotRunning
from oomwatchd.control.connection import BACKLOG_BYTES, Connection
from oomwatchd.control.protocol import REQUEST_BYTES, Json
from oomwatchd.control.server import Server
from oomwatchd.ctl import main
from oomwatchd.daemon.internal_errors import InternalErrors


class Served:
    """A server whose turns the test takes itself, so that nothing depends on time."""

    def __init__(self, path: Path) -> None:
        self.cpu = 0.0
        """CPU time of this thread, as the server sees it."""
        self.server = Server(str(path), lambda: self.cpu)
        self.path = str(path)
        self.errors: list[Exception] = []
        self.now = 0.0
        self.resumes_after: float | None = None
        self.requests: list[Json] = []
        self.answer: Callable[[Connection, Json], None] = lambda connection, request: connection.send(request)

    def handle(self, connection: Connection, request: Json) -> None:
        self.requests.append(request)
        self.answer(connection, request)

    def turn(self) -> bool:
        """One turn, if there is something to do."""
        if not select.select([self.server], [], [], 0)[0]:
            return False
        self.resumes_after = self.server.turn(self.handle, lambda _, error: self.errors.append(error), self.now)
        return True

    def settle(self, most: int = 100_000) -> int:
        """Turns until there is nothing to do."""
        for count in range(most):
            if not self.turn():
                return count
        raise AssertionError("it never comes to rest")

    def wait(self) -> bool:
        """Let the time pass until somebody has CPU time again who had used it up; False: there is nobody."""
        if self.resumes_after is None:
            return False
        self.now += self.resumes_after
        self.resumes_after = self.server.resume(self.now)
        self.settle()
        return True

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        sock.setblocking(False)
        self.settle()
        return sock


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "control")
    yield made
    made.server.close()


def received(sock: socket.socket) -> bytes:
    data = b""
    # A reset: it was closed before it had read all that we sent.
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while part := sock.recv(1 << 16):
            data += part
    return data


def replies(sock: socket.socket) -> list[Any]:
    return [json.loads(line) for line in received(sock).splitlines()]


def test_a_request_and_its_reply(served: Served) -> None:
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n')
        served.settle()
        assert replies(sock) == [{"verb": "x"}]


def test_a_client_that_waits_while_the_socket_is_made_anew(served: Served) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(served.path)
        sock.send(b'{"verb": "x"}\n')
        sock.setblocking(False)

        served.server.bind_again(0.0)
        served.settle()

        assert replies(sock) == [{"verb": "x"}]


def test_a_request_in_pieces(served: Served) -> None:
    with served.connect() as sock:
        for byte in b'{"verb": "x"}\n':
            sock.send(bytes([byte]))
            served.settle()
        assert replies(sock) == [{"verb": "x"}]


def test_many_requests_at_once_are_dealt_with_one_a_turn(served: Served) -> None:
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n' * 1000)
        for expected in range(1, 6):
            assert served.turn()
            assert len(served.requests) == expected
        answered = 0
        while served.settle() or answered == 0:
            answered += len(replies(sock))
        assert answered == 1000


def test_a_client_that_half_closes_gets_all_replies_first(served: Served) -> None:
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n{"verb": "y"}\n')
        sock.shutdown(socket.SHUT_WR)
        served.settle()
        assert replies(sock) == [{"verb": "x"}, {"verb": "y"}]
        assert sock.recv(1) == b""
    assert not served.server.connections


def test_a_client_that_half_closes_gets_a_deferred_reply_too(served: Served) -> None:
    waiting: list[Connection] = []

    def later(connection: Connection, request: Json) -> None:
        connection.defer()
        waiting.append(connection)

    served.answer = later
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n')
        sock.shutdown(socket.SHUT_WR)
        served.settle()
        assert received(sock) == b""
        served.server.reply(waiting[0], {"done": True})
        served.settle()
        assert replies(sock) == [{"done": True}]
    assert not served.server.connections


def test_a_deferred_reply_to_someone_who_left(served: Served) -> None:
    waiting: list[Connection] = []

    def later(connection: Connection, request: Json) -> None:
        connection.defer()
        waiting.append(connection)

    served.answer = later
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n')
        served.settle()
    served.settle()
    served.server.reply(waiting[0], {"done": True})
    assert not served.server.connections


@pytest.mark.parametrize("size", [REQUEST_BYTES + 1, 3 * REQUEST_BYTES])
def test_a_request_without_end(size: int, served: Served) -> None:
    with served.connect() as sock:
        left = b"x" * size
        while left:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                left = left[sock.send(left) :]
                served.settle()
                continue
            break
        served.settle()
        (reply,) = replies(sock)
        assert "longer than" in reply["error"]
    assert not served.server.connections


def test_a_client_that_does_not_read_is_not_read_from(served: Served) -> None:
    served.answer = lambda connection, request: connection.send({"long": "x" * 100_000})
    with served.connect() as sock:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += sock.send(b'{"verb": "x"}\n')
                served.settle()
        (connection,) = served.server.connections
        assert len(connection._output) < 100_100
        assert len(connection._input) <= REQUEST_BYTES
        answered = len(served.requests)
        assert answered < sent // len(b'{"verb": "x"}\n')
        served.now = 61.0
        served.server.prune(served.now)
        assert not served.server.connections


def test_a_long_reply_is_made_as_it_is_taken(served: Served) -> None:
    made = []

    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            made.append(number)
            yield b"x" * 10_000
        yield b"\n"

    served.answer = lambda connection, request: connection.stream(pieces())
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n{"verb": "y"}\n')
        served.settle()
        assert len(made) < 100
        taken = [b""]
        while b"\n" not in taken[-1]:
            taken.append(received(sock))
            served.settle()
        assert b"".join(taken).startswith(b"x" * 10_000_000 + b"\n")
        assert len(served.requests) == 2


def test_the_silent_are_dropped_and_monitors_are_not(served: Served) -> None:
    silent, monitoring = served.connect(), served.connect()
    served.answer = lambda connection, request: served.server.monitor(connection)
    monitoring.send(b'{"verb": "x"}\n')
    served.settle()
    served.now = 61.0
    served.server.prune(served.now)
    served.settle()
    assert silent.recv(1) == b""
    assert [connection.waits_for_us for connection in served.server.connections] == [True]
    silent.close()
    monitoring.close()
    served.settle()
    assert not served.server.monitors
    assert not served.server.connections


def test_a_slow_monitor_gets_the_number_of_missed_events(served: Served) -> None:
    served.answer = lambda connection, request: served.server.monitor(connection)
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n')
        served.settle()
        (connection,) = served.server.monitors
        line = b'"' + b"x" * 98 + b'"\n'
        for _ in range(20_000):
            served.server.offer(connection, line)
            served.turn()
        assert len(connection._output) <= BACKLOG_BYTES + len(line)
        data = received(sock)
        while served.settle():
            data += received(sock)
        shown = [json.loads(line) for line in data.splitlines()]
        gaps = [entry["count"] for entry in shown if isinstance(entry, dict)]
        assert len(shown) - len(gaps) + sum(gaps) == 20_000
        assert gaps


def test_too_many_of_one_user(served: Served) -> None:
    everyone = [served.connect() for _ in range(70)]
    assert len(served.server.connections) <= 64
    assert replies(everyone[-1]) == [{"error": "Too many connections"}]
    for sock in everyone:
        sock.close()
    served.settle()
    assert not served.server.connections


def test_they_take_turns(served: Served) -> None:
    busy, quiet = served.connect(), served.connect()
    busy.send(b'{"verb": "busy"}\n' * 3000)
    served.turn()
    quiet.send(b'{"verb": "quiet"}\n')
    for _ in range(6):
        served.turn()
    assert {"verb": "quiet"} in served.requests
    busy.close()
    quiet.close()


def test_a_handler_that_fails_costs_one_connection(served: Served) -> None:
    def fail(connection: Connection, request: Json) -> None:
        raise ZeroDivisionError

    served.answer = fail
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n')
        served.settle()
        assert [type(error) for error in served.errors] == [ZeroDivisionError]
        assert not served.server.connections
        assert sock.recv(1) == b""


# CPU time


def test_a_budget_is_spent_at_once_and_comes_back_as_a_share() -> None:
    budget = Budget(share=0.125, burst=0.25)

    budget.spend(0.125, 1000.0)
    assert (budget.wait(1000.0), budget.full(1000.0)) == (0.0, False)
    budget.spend(0.125, 1000.0)
    assert budget.wait(1000.0) == pytest.approx(0.04)
    assert budget.wait(1000.05) == 0.0
    assert budget.full(1002.0)


def test_a_budget_gathers_no_more_than_its_burst_and_no_endless_debt() -> None:
    budget = Budget(share=0.125, burst=0.25)

    budget.spend(0.125, 1e6)
    assert budget.wait(1e6) == 0.0
    budget.spend(50.0, 1e6)
    assert budget.wait(1e6) == pytest.approx(2.04)


def test_a_client_over_its_cpu_time_waits_and_loses_nothing(served: Served) -> None:
    def work(connection: Connection, request: Json) -> None:
        served.cpu += 0.3
        connection.send(request)

    served.answer = work
    with served.connect() as sock:
        sock.send(b'{"verb": "x"}\n' * 10)
        served.settle()
        assert len(served.requests) == 4  # 1.2 s of CPU time, where 1 s is allowed at once
        assert served.resumes_after == pytest.approx((0.2 + 0.005) / 0.5)
        served.wait()
        assert len(served.requests) == 5
        while served.wait():
            pass
        assert len(replies(sock)) == 10


def test_accepting_has_a_budget_of_its_own(served: Served) -> None:
    served.server._cpu_clock = lambda: served.now / 1000 + 0.02 * len(served.server.connections)
    socks = []
    for _ in range(10):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(served.path)
        sock.setblocking(False)
        socks.append(sock)

    served.settle()
    assert len(served.server.connections) == 5
    served.answer = lambda connection, request: connection.send(request)
    socks[0].send(b'{"verb": "x"}\n')
    served.settle()
    assert replies(socks[0]) == [{"verb": "x"}]
    while served.wait():
        pass
    assert len(served.server.connections) == 10
    for sock in socks:
        sock.close()


def test_internal_errors_are_logged_once_and_then_counted() -> None:
    errors = InternalErrors()

    def note(error: Exception, now: float, doing: str = "") -> list[str]:
        record = errors.record_or_count(error, now, doing)
        return [] if record is None else [record.message]

    assert note(ValueError("a"), 10.0) == ["Internal error, going on: ValueError: 'a'"]
    assert [note(ValueError("b"), 10.0 + i / 100) for i in range(1000)] == [[]] * 1000
    assert note(ValueError("c"), 11.0, " in answering a client of uid 7") != []
    assert errors.summaries(20.0) == []
    assert [record.message for record in errors.summaries(71.0)] == [
        "Internal error, going on: ValueError: 'b' (1000 times more)"
    ]
    assert note(ValueError("d"), 72.0) == []
    assert len(errors.summaries(72.0, final=True)) == 1
    told = [message for i in range(1000) for message in note(ValueError("e"), 80.0, f" of {i}")]
    assert len(told) <= 65


ODD = [
    b"",
    b"\0",
    b"null",
    b"[]",
    b'"verb"',
    b"{}",
    b'{"verb": 1}',
    b'{"verb": null}',
    b"[" * 60_000,
    b'{"verb": ' + b"9" * 5000 + b"}",
    b"\xff\xfe",
    b'{"verb": "x"',
]


@pytest.mark.parametrize("line", ODD, ids=lambda line: str(line[:20]))
def test_what_is_no_request(line: bytes, served: Served) -> None:
    with served.connect() as sock:
        sock.send(line + b"\n")
        served.settle()
        sock.send(b'{"verb": "x"}\n')
        served.settle()
        refusal, reply = replies(sock)
        assert "A request is one line of JSON" in refusal["error"]
        assert reply == {"verb": "x"}


@given(st.lists(st.binary(max_size=200), max_size=20), st.randoms())
def test_any_bytes_in_any_pieces(chunks: list[bytes], chance: random.Random) -> None:
    """It answers each line once, and comes to rest."""
    path = Path(f"/tmp/oomwatchd-test-{os.getpid()}.socket")
    served = Served(path)
    try:
        data = b"".join(chunks) + b"\n"
        with served.connect() as sock:
            for start in range(0, len(data), 7):
                sock.send(data[start : start + 7])
                if chance.random() < 0.5:
                    served.turn()
            served.settle()
            assert len(replies(sock)) == data.count(b"\n")
    finally:
        served.server.close()


# oomwatchctl's end


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="isn't running"):
        Client(str(tmp_path))
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "control"))
    stale.close()
    with pytest.raises(NotRunning, match="isn't running"):
        Client(str(tmp_path))


def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    server = Server(str(deep / "control"))
    try:
        Client(str(deep)).__exit__()
    finally:
        server.close()


@pytest.mark.parametrize(
    ("said", "complaint"), [(b"", "hung up"), (b"{", "hung up"), (b"[]\n", "isn't one"), (b"x\n", "isn't one")]
)
def test_a_daemon_that_talks_nonsense(said: bytes, complaint: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        with Client(str(tmp_path)) as client:
            peer, _ = listening.accept()
            peer.send(said)
            peer.close()
            with pytest.raises(NotRunning, match=complaint):
                client.receive()


def test_a_daemon_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An upgrade without a restart: the daemon that runs doesn't know all keys that oomwatchctl shows."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()

        def answer() -> None:
            for _ in range(2):
                peer, _ = listening.accept()
                peer.recv(4096)
                peer.send(b'{"version": "0.0", "pid": 1, "config": {"error": null}}\n')
                peer.close()

        daemon = threading.Thread(target=answer)
        daemon.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
            assert main(["status"]) == 1
            assert "has no 'counters'" in capsys.readouterr().err
            assert main(["status", "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["version"] == "0.0"
        daemon.join()


def test_a_daemon_that_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        with Client(str(tmp_path), seconds=0.01) as client, pytest.raises(NotRunning, match="doesn't answer"):
            client.receive()


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_daemon_that_dribbles(end: bytes, tmp_path: Path) -> None:
    """The time limit is for the whole reply, not for each byte."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        ended = threading.Event()

        def dribble() -> None:
            peer, _ = listening.accept()
            with peer, contextlib.suppress(OSError):
                while not ended.wait(0.005):
                    peer.send(b" ")
                peer.send(end)

        daemon = threading.Thread(target=dribble)
        daemon.start()
        with Client(str(tmp_path), seconds=0.1) as client, pytest.raises(NotRunning, match="doesn't answer"):
            client.receive()
        ended.set()
        daemon.join()


def test_replies_that_come_together_and_in_pieces(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        with Client(str(tmp_path)) as client:
            peer, _ = listening.accept()
            with peer:
                peer.send(b'{"a": 1}\n{"a": 2}\n{"a"')
                assert client.receive() == {"a": 1}
                assert client.wait(0)
                assert client.receive() == {"a": 2}
                peer.send(b": 3}\n")
                assert client.receive() == {"a": 3}
                assert not client.wait(0)
            with pytest.raises(NotRunning, match="hung up"):
                client.receive()


def test_client_waits_to_be_accepted(tmp_path: Path) -> None:
    """A full backlog is no reason to give up before the time is over."""
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as stack:
        server.bind(str(tmp_path / "control"))
        server.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(tmp_path / "control"))

        with pytest.raises(NotRunning, match="doesn't answer"):
            Client(str(tmp_path), seconds=0.01)
