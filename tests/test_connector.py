"""The connector's wire format and filter, without a kernel."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd import connector as c

HEAD = bytes(36)


def datagram(what: int, *words: int, timestamp: int = 7) -> bytes:
    return HEAD + struct.pack("=IIQ", what, 3, timestamp) + struct.pack("=6I", *words, *[0] * (6 - len(words)))


def run(program: list[tuple[int, int, int, int]], packet: bytes) -> bool:
    """The kernel's interpreter for what the filter uses: whether the packet passes."""
    a = x = at = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == 0x20:
            if len(packet) < k + 4:
                return False
            (a,) = struct.unpack_from("!I", packet, k)
        elif code == 0x07:
            x = a
        elif code == 0x15:
            at += jt if a == k else jf
        elif code == 0x1D:
            at += jt if a == x else jf
        else:
            assert code == 0x06
            return k != 0


EXEC = datagram(c.PROC_EVENT_EXEC, 10, 10)
FORK = datagram(c.PROC_EVENT_FORK, 10, 10, 11, 11)
THREAD = datagram(c.PROC_EVENT_FORK, 10, 10, 11, 10)
COMM = datagram(c.PROC_EVENT_COMM, 10, 10)
THREAD_COMM = datagram(c.PROC_EVENT_COMM, 11, 10)
UID = datagram(c.PROC_EVENT_UID, 10, 10)
ACK = datagram(c.PROC_EVENT_NONE)
EXIT = datagram(0x80000000, 10, 10)


def test_decode() -> None:
    assert c.decode(EXEC) == (7, c.PROC_EVENT_EXEC, 10, 3)
    assert c.decode(FORK) == (7, c.PROC_EVENT_FORK, 11, 10)
    assert c.decode(COMM) == (7, c.PROC_EVENT_COMM, 10, 3)
    for ignored in (THREAD, THREAD_COMM, ACK, EXIT, b"", EXEC[:59]):
        assert c.decode(ignored) is None


@given(st.binary(max_size=200))
def test_decode_takes_any_bytes(raw: bytes) -> None:
    c.decode(raw)
    c.is_ack(raw, 1)


@given(st.binary(min_size=76, max_size=76), st.sampled_from([0, 1, 2, 4, 0x40, 0x200, 0x80000000]))
def test_decode_takes_any_event(raw: bytes, what: int) -> None:
    c.decode(raw[:36] + struct.pack("=I", what) + raw[40:])


@pytest.mark.parametrize(
    ("events", "passing"),
    [
        ({c.PROC_EVENT_EXEC}, [EXEC, ACK]),
        ({c.PROC_EVENT_FORK}, [FORK, ACK]),
        ({c.PROC_EVENT_EXEC, c.PROC_EVENT_COMM}, [EXEC, COMM, ACK]),
        ({c.PROC_EVENT_EXEC, c.PROC_EVENT_UID, c.PROC_EVENT_GID}, [EXEC, UID, ACK]),
    ],
)
def test_filter(events: set[int], passing: list[bytes]) -> None:
    program = c.filter_program(frozenset(events))

    for packet in (EXEC, FORK, THREAD, COMM, THREAD_COMM, UID, ACK, EXIT):
        assert run(program, packet) is (packet in passing)


def test_filter_compares_in_network_order() -> None:
    program = c.filter_program(frozenset({c.PROC_EVENT_EXEC}))

    assert any(k == socket.htonl(2) for code, _, _, k in program if code == 0x15)


def test_request() -> None:
    request = c.encode_request(c.PROC_CN_MCAST_LISTEN, 77)

    assert len(request) == 40
    assert struct.unpack_from("=I", request)[0] == 40
    assert struct.unpack_from("=IIIIHHI", request, 16) == (1, 1, 77, 77, 4, 0, 1)


def test_ack_is_recognised_by_its_number() -> None:
    ack = bytearray(ACK)
    struct.pack_into("=I", ack, 28, 78)

    assert c.is_ack(bytes(ack), 77)
    assert not c.is_ack(bytes(ack), 78)
    assert not c.is_ack(EXEC, 0)


# Reading


def reading(*answers: bytes | OSError, asked: list[int] | None = None) -> c.Connector:
    """A connector whose socket gives these; the flags with which it was asked come in `asked`."""
    connector = object.__new__(c.Connector)
    left = list(answers)

    def receive(_: int, flags: int) -> bytes:
        if asked is not None:
            asked.append(flags)
        answer = left.pop(0) if left else BlockingIOError()
        if isinstance(answer, OSError):
            raise answer
        return answer

    connector._receive = receive
    connector.lost, connector._losing_ns, connector._awaited, connector.seen = False, 0, None, 0
    connector._storm, connector._storm_seen_ns, connector._gathered = False, 0, 0
    return connector


def nothing() -> OSError:
    return BlockingIOError()


def overrun() -> OSError:
    return OSError(errno.ENOBUFS, "")


def exec_at(timestamp: int) -> bytes:
    return datagram(c.PROC_EVENT_EXEC, 10, 10, timestamp=timestamp)


BEFORE, LONG_AFTER = 7, 1 << 62


# Storms

MS = 1_000_000


def execs(count: int, apart_ns: int) -> list[bytes]:
    return [exec_at(i * apart_ns) for i in range(1, count + 1)]


def waited(*answers: bytes | OSError) -> list[bool]:
    """For which of these next() waits, and at the end for one more."""
    asked: list[int] = []
    assert reading(*answers, asked=asked).next(True, lambda _: False, LONG_AFTER) is None
    return [flags == 0 for flags in asked]


def test_each_event_is_waited_for() -> None:
    assert all(waited(*execs(40, 2 * MS)))


def test_in_a_storm_events_gather() -> None:
    gathered = execs(3, MS)
    asked = waited(*execs(16, MS // 2), nothing(), *gathered, nothing(), nothing())

    assert asked[:16] == [True] * 16
    assert asked[16:-1] == [False] * 6
    assert asked[-1]  # nothing more had gathered, so the storm is over


def test_one_event_in_the_time_of_gathering_is_no_storm() -> None:
    asked = waited(*execs(16, MS // 2), nothing(), *execs(1, MS), nothing(), *execs(1, MS))

    assert asked[16:] == [False, False, False, True, True]


def test_in_a_storm_an_event_that_concerns_a_rule_is_told_of_as_soon_as_it_is_read() -> None:
    connector = reading(*execs(16, MS // 2), datagram(c.PROC_EVENT_EXEC, 11, 11), *execs(3, MS))

    event = connector.next(True, lambda pid: pid == 11, LONG_AFTER)

    assert event is not None
    assert event[2] == 11


def test_without_waiting_nothing_gathers() -> None:
    asked: list[int] = []
    connector = reading(*execs(16, MS // 2), asked=asked)

    assert connector.next(False, lambda _: False, LONG_AFTER) is None
    assert len(asked) == 17


# Losses


def test_a_loss_goes_on_until_what_was_queued_is_read() -> None:
    connector = reading(overrun(), exec_at(BEFORE))

    assert connector.next(False, lambda _: True, LONG_AFTER) is not None
    assert not connector.lost
    assert connector.next(False, lambda _: True, LONG_AFTER) is None
    assert connector.lost


@pytest.mark.parametrize("concerns", [True, False])
def test_a_loss_is_over_when_something_comes_that_happened_since(concerns: bool) -> None:
    connector = reading(overrun(), exec_at(BEFORE), exec_at(LONG_AFTER))
    connector.next(False, lambda _: True, LONG_AFTER)
    assert not connector.lost

    connector.next(False, lambda _: concerns, LONG_AFTER)

    assert connector.lost


def test_a_second_loss_ends_the_first() -> None:
    connector = reading(overrun(), exec_at(BEFORE), overrun(), exec_at(BEFORE))
    connector.next(False, lambda _: True, LONG_AFTER)

    connector.next(False, lambda _: True, LONG_AFTER)

    assert connector.lost


def test_births_are_read_over_a_loss() -> None:
    connector = reading(FORK[:68], overrun(), ACK[:68], FORK[:68])

    assert connector.births() == [(7, 10, 11)] * 2
    assert connector.lost
