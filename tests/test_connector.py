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


def reading(*answers: bytes | OSError, asked: list[str] | None = None) -> c.Connector:
    """A connector whose socket gives these; for each time that it is asked, `asked` has whether it was to wait, and
    between them the naps."""
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
    connector._sleep = lambda _: asked.append("nap")
    connector.lost, connector._losing_ns, connector._awaited, connector.seen = False, 0, None, 0
    connector._storm, connector._storm_seen_ns, connector._seen_before = False, LONG_AGO, 0
    return connector


def nothing() -> OSError:
    return BlockingIOError()


def overrun() -> OSError:
    return OSError(errno.ENOBUFS, "")


def exec_at(timestamp: int) -> bytes:
    return datagram(c.PROC_EVENT_EXEC, 10, 10, timestamp=timestamp)


LONG_AGO, BEFORE, LONG_AFTER = -(1 << 62), 7, 1 << 62


# Storms

MS = 1_000_000


def execs(count: int, apart_ns: int, after_ns: int = 0) -> list[bytes]:
    return [exec_at(after_ns + i * apart_ns) for i in range(1, count + 1)]


STORM = execs(32, MS // 2)
"""The first 16 are one after long rest."""


def asked_for(*answers: bytes | OSError, wait: bool = True, gather: bool = True) -> list[str]:
    """How next() asks for these, and at the end for one more."""
    asked: list[str] = []
    assert reading(*answers, asked=asked).next(wait, gather, lambda _: False, LONG_AFTER) is None
    return asked


def test_each_event_is_waited_for() -> None:
    assert asked_for(*execs(48, MS)) == ["wait"] * 49


def test_in_a_storm_events_gather() -> None:
    asked = asked_for(*STORM, nothing(), *execs(3, MS), nothing(), *execs(2, MS), nothing(), nothing())

    after = ["now", "nap", *["now"] * 4, "nap", *["now"] * 3, "nap", "now", "wait"]
    assert asked == ["wait"] * 32 + after


def test_one_event_in_the_time_of_gathering_is_no_storm() -> None:
    asked = asked_for(*STORM, nothing(), *execs(1, MS), nothing(), *execs(1, MS))

    assert asked[32:] == ["now", "nap", "now", "now", "wait", "wait"]


def test_a_storm_ends_with_events_that_are_further_apart() -> None:
    asked = asked_for(*STORM, *execs(16, 2 * MS, after_ns=16 * MS))

    assert asked[32:] == ["now"] * 16 + ["wait"]


def test_in_a_storm_what_concerns_a_rule_is_told_of_when_it_is_read() -> None:
    asked: list[str] = []
    connector = reading(*STORM, nothing(), datagram(c.PROC_EVENT_EXEC, 11, 11), *execs(3, MS), asked=asked)

    event = connector.next(True, True, lambda pid: pid == 11, LONG_AFTER)

    assert event is not None
    assert event[2] == 11
    assert asked[32:] == ["now", "nap", "now"]


@pytest.mark.parametrize(("wait", "gather"), [(False, True), (True, False), (False, False)])
def test_nothing_gathers_without_waiting_nor_where_it_may_not(wait: bool, gather: bool) -> None:
    assert asked_for(*STORM, wait=wait, gather=gather) == ["wait" if wait else "now"] * 33


def test_births_between_execs_make_a_storm_too() -> None:
    asked: list[str] = []
    connector = reading(*[FORK] * 32, asked=asked)

    for _ in range(32):
        assert connector.next(True, True, lambda _: False, LONG_AFTER) is not None
    assert connector.next(True, True, lambda _: False, LONG_AFTER) is None

    assert asked[32:] == ["now", "nap", "now", "wait"]
    assert connector.seen == 32


def test_acks_without_end_do_not_keep_it() -> None:
    ack = bytearray(ACK)
    struct.pack_into("=Q", ack, 44, LONG_AFTER)
    asked: list[str] = []
    connector = reading(bytes(ack), exec_at(BEFORE), asked=asked)

    assert connector.next(True, True, lambda _: True, BEFORE) is None
    assert asked == ["wait"]
    assert connector.seen == 0


# Losses


def test_a_loss_goes_on_until_what_was_queued_is_read() -> None:
    connector = reading(overrun(), exec_at(BEFORE))

    assert connector.next(False, True, lambda _: True, LONG_AFTER) is not None
    assert not connector.lost
    assert connector.next(False, True, lambda _: True, LONG_AFTER) is None
    assert connector.lost


@pytest.mark.parametrize("concerns", [True, False])
def test_a_loss_is_over_when_something_comes_that_happened_since(concerns: bool) -> None:
    connector = reading(overrun(), exec_at(BEFORE), exec_at(LONG_AFTER))
    connector.next(False, True, lambda _: True, LONG_AFTER)
    assert not connector.lost

    connector.next(False, True, lambda _: concerns, LONG_AFTER)

    assert connector.lost


def test_a_second_loss_ends_the_first() -> None:
    connector = reading(overrun(), exec_at(BEFORE), overrun(), exec_at(BEFORE))
    connector.next(False, True, lambda _: True, LONG_AFTER)

    connector.next(False, True, lambda _: True, LONG_AFTER)

    assert connector.lost


def test_births_are_read_over_a_loss() -> None:
    connector = reading(FORK[:68], overrun(), ACK[:68], FORK[:68])

    assert connector.births() == [(7, 10, 11)] * 2
    assert connector.lost
