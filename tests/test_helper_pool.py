"""Who is served by helpers when many ask, and some of the helpers hang; with helpers that the tests answer for."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from oomwatchd.base.helper import HelperError
from oomwatchd.daemon.helper_pool import Call, HelperPool
from oomwatchd.daemon.loop import Loop

ROOT, ALICE, BOB = 0, 1000, 1001


class MadeUpHelper:
    """In the place of base.helper.Helper. `hangs`: it doesn't end when it is killed."""

    def __init__(self, server: "MadeUpServer") -> None:
        self._ours, self._theirs = socket.socketpair()
        self._server = server
        self.asked: list[object] = []
        self.ended = False

    def fileno(self) -> int:
        return self._ours.fileno()

    def send(self, _name: str, arguments: tuple[object, ...]) -> None:
        self.asked.append(arguments[0])

    def answer(self) -> None:
        self._theirs.send(b"x")

    def receive(self, _seconds: float) -> object:
        if not self._ours.recv(1):
            raise HelperError("ended")
        return self.asked.pop()

    def kill(self) -> None:
        self.ended = not self._server.hanging

    def has_ended(self) -> bool:
        return self.ended

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class MadeUpServer:
    """In the place of base.helper.ForkServer."""

    def __init__(self) -> None:
        self.helpers: list[MadeUpHelper] = []
        self.hanging = False
        self.full = False
        """Whether no process can be started."""

    def start(self) -> MadeUpHelper:
        if self.full:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.helpers.append(MadeUpHelper(self))
        return self.helpers[-1]

    def busy(self) -> list[object]:
        """What living helpers are asked for now."""
        return [each for helper in self.helpers for each in helper.asked]


class Asking:
    """A pool, and the answers that came."""

    def __init__(self, server: MadeUpServer, size: int, per_owner: int, for_root: int = 0) -> None:
        def fail(error: Exception) -> None:
            raise error

        self.loop = Loop(fail)
        self.server = server
        self.pool = HelperPool(self.loop, server, size, per_owner, for_root)  # type: ignore[arg-type]
        self.answers: list[tuple[str, object]] = []

    def ask(self, owner: int, *names: str, seconds: float | None = None) -> None:
        for name in names:
            done = lambda answer, name=name: self.answers.append((name, answer))  # noqa: E731
            assert self.pool.submit(Call("f", (name,), done, owner, seconds))

    def overdue(self, count: int) -> None:
        """Let the time of so many calls end."""
        for _ in range(count):
            next(worker for worker in self.pool._workers if worker.call is not None)._overdue()


@pytest.fixture
def server() -> Iterator[MadeUpServer]:
    made = MadeUpServer()
    yield made
    for helper in made.helpers:
        helper.close()


def test_one_owner_leaves_places_to_others(server: MadeUpServer) -> None:
    asking = Asking(server, 4, 2)

    asking.ask(ALICE, "a1", "a2", "a3", "a4")
    asking.ask(BOB, "b1")

    assert server.busy() == ["a1", "a2", "b1"]
    server.helpers[0].answer()
    asking.loop.turn(wait=False)
    assert asking.answers == [("a1", "a1")]
    assert sorted(map(str, server.busy())) == ["a2", "a3", "b1"]


def test_owners_take_turns_where_all_places_are_taken(server: MadeUpServer) -> None:
    asking = Asking(server, 1, 2)
    asking.ask(ALICE, "a1", "a2", "a3")
    asking.ask(BOB, "b1", "b2")

    for _ in range(5):
        server.helpers[0].answer()
        asking.loop.turn(wait=False)

    assert [name for name, _ in asking.answers] == ["a1", "a2", "b1", "a3", "b2"]


def test_an_owner_whose_helpers_hang_takes_no_further_ones(server: MadeUpServer) -> None:
    """All calls came before it was known that they hang."""
    asking = Asking(server, 4, 2)
    asking.ask(ALICE, *(f"a{i}" for i in range(9)))
    server.hanging = True

    asking.overdue(2)
    asking.loop.turn(wait=False)
    asking.ask(ALICE, "a9")
    asking.loop.turn(wait=False)
    server.hanging = False
    asking.ask(BOB, "b1", "b2")

    assert [answer for _, answer in asking.answers] == [None] * 10
    assert [helper.asked for helper in server.helpers[2:]] == [["b1"], ["b2"]]


def test_an_owner_is_served_again_when_its_helpers_have_ended(server: MadeUpServer) -> None:
    asking = Asking(server, 4, 1)
    asking.ask(ALICE, "a1", "a2")
    server.hanging = True
    asking.overdue(1)
    asking.loop.turn(wait=False)
    assert asking.answers == [("a1", None), ("a2", None)]

    server.helpers[0].ended = True
    asking.ask(ALICE, "a3")

    assert server.helpers[1].asked == ["a3"]


def test_users_who_make_helpers_hang_leave_some_to_root(server: MadeUpServer) -> None:
    """One user may have many uids: newuidmap(1)."""
    asking = Asking(server, 4, 2, for_root=2)
    server.hanging = True
    for uid in range(ALICE, ALICE + 4):
        asking.ask(uid, f"of {uid}")
    asking.overdue(2)
    asking.ask(ROOT, "r1", "r2", "r3")

    assert server.busy()[2:] == ["r1", "r2"]
    assert asking.answers == [("of 1000", None), ("of 1001", None)]


@pytest.mark.parametrize("why", ["no process can be started", "all helpers hang"])
def test_calls_that_wait_are_made_when_there_is_room_again(server: MadeUpServer, why: str) -> None:
    asking = Asking(server, 1, 2)
    if why == "all helpers hang":
        server.hanging = True
        asking.ask(ALICE, "a1")
        asking.overdue(1)
    else:
        server.full = True
    asking.ask(BOB, "b1")
    assert "b1" not in server.busy()

    server.full = False
    for helper in server.helpers:
        helper.ended = True
    assert asking.loop.awaits(asking.pool._start_waiting)
    asking.loop.turn(wait=True)

    assert server.busy()[-1] == "b1"
