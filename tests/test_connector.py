"""The connector's wire format and filter, without a kernel."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.kernel import proc_connector as c

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
EXIT = datagram(c.PROC_EVENT_EXIT, 10, 10)
THREAD_EXIT = datagram(c.PROC_EVENT_EXIT, 11, 10)


def test_decode() -> None:
    assert c.decode(EXEC) == (7, c.PROC_EVENT_EXEC, 10, 0)
    assert c.decode(FORK) == (7, c.PROC_EVENT_FORK, 11, 10)
    assert c.decode(COMM) == (7, c.PROC_EVENT_COMM, 10, 0)
    assert c.decode(EXIT) == (7, c.PROC_EVENT_EXIT, 10, 0)
    for ignored in (THREAD, THREAD_COMM, ACK, b"", EXEC[:59]):
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
        ({c.PROC_EVENT_EXEC, c.PROC_EVENT_FORK, c.PROC_EVENT_EXIT}, [EXEC, FORK, EXIT, ACK]),
    ],
)
def test_filter(events: set[int], passing: list[bytes]) -> None:
    program = c.filter_program(frozenset(events))

    for packet in (EXEC, FORK, THREAD, COMM, THREAD_COMM, UID, ACK, EXIT, THREAD_EXIT):
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


def reading(*answers: bytes | OSError, asked: list[str] | None = None) -> c.Connector:
    """A connector whose socket gives these; for each time that it is asked, `asked` has whether it was to wait."""
    connector = object.__new__(c.Connector)
    left = list(answers)
    asked = [] if asked is None else asked

    def receive(_: int, flags: int = 0) -> bytes:
        asked.append("now" if flags else "wait")
        answer = left.pop(0) if left else BlockingIOError()
        if isinstance(answer, OSError):
            raise answer
        return answer

    connector._receive = receive
    connector._losing_ns, connector._last_ns, connector._lost_from_ns, connector._awaited = 0, 0, None, None
    return connector


def overrun() -> OSError:
    return OSError(errno.ENOBUFS, "")


def exec_at(timestamp: int) -> bytes:
    return datagram(c.PROC_EVENT_EXEC, 10, 10, timestamp=timestamp)


BEFORE, LONG_AFTER = 7, 1 << 62


@pytest.mark.parametrize("wait", [True, False])
def test_it_waits_if_it_shall(wait: bool) -> None:
    asked: list[str] = []
    assert reading(asked=asked).next(LONG_AFTER, wait) is None
    assert asked == ["wait" if wait else "now"]


def test_acks_without_end_do_not_keep_it() -> None:
    ack = bytearray(ACK)
    struct.pack_into("=Q", ack, 44, LONG_AFTER)
    asked: list[str] = []
    connector = reading(bytes(ack), exec_at(BEFORE), asked=asked)

    assert connector.next(BEFORE, True) is None
    assert asked == ["wait"]


# Losses


def test_a_loss_goes_on_until_what_was_queued_is_read() -> None:
    connector = reading(overrun(), exec_at(BEFORE))

    assert connector.next(LONG_AFTER, False) is not None
    assert connector.take_loss() is None
    assert connector.next(LONG_AFTER, False) is None
    assert connector.take_loss() == BEFORE
    assert connector.take_loss() is None


def test_a_loss_is_over_when_something_comes_that_happened_since() -> None:
    connector = reading(overrun(), exec_at(BEFORE), exec_at(LONG_AFTER))
    connector.next(LONG_AFTER, False)
    assert connector.take_loss() is None

    connector.next(LONG_AFTER, False)

    assert connector.take_loss() == BEFORE


def test_a_second_loss_ends_the_first() -> None:
    connector = reading(overrun(), exec_at(BEFORE), overrun(), exec_at(BEFORE))
    connector.next(LONG_AFTER, False)

    connector.next(LONG_AFTER, False)

    assert connector.take_loss() == BEFORE
