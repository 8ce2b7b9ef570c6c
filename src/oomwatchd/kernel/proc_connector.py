"""The kernel's process events connector: wire format (pure), subscription, the filter in the kernel.

include/uapi/linux/cn_proc.h, drivers/connector/cn_proc.c, netlink(7). Only this module spells its constants."""

import array
import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from itertools import repeat

from oomwatchd.pinning.lineage import Birth

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN = 1
_NO_SUCH_OPERATION = 0x7FFF
"""Answered with an ACK that says EINVAL, if the kernel is sending events at all."""

PROC_EVENT_NONE = 0x0
"""The ACK of a subscription."""
PROC_EVENT_FORK = 0x1
PROC_EVENT_EXEC = 0x2
PROC_EVENT_UID = 0x4
PROC_EVENT_GID = 0x40
PROC_EVENT_COMM = 0x200

NAMES = {
    PROC_EVENT_FORK: "fork",
    PROC_EVENT_EXEC: "exec",
    PROC_EVENT_UID: "uid",
    PROC_EVENT_GID: "gid",
    PROC_EVENT_COMM: "comm",
}

# struct nlmsghdr, struct cn_msg, struct proc_event up to the union, in the host's byte order.
_NLMSGHDR = struct.Struct("=IHHII")
_CN_MSG = struct.Struct("=IIIIHH")
_WORD = struct.Struct("=I")
_HEAD_SIZE = _NLMSGHDR.size + _CN_MSG.size
_ACK_OFFSET = _NLMSGHDR.size + 12
_EVENT = struct.Struct("=IIQIIII")
"""what, CPU, timestamp_ns, and the first four words of the union: for EXEC, COMM, UID and GID pid, tgid; for FORK
parent pid, parent tgid, child pid, child tgid."""
_EXEC = struct.Struct("=IIQ4xI")
"""The same of an EXEC: what, CPU, timestamp_ns, tgid."""
_EVENT_END = _HEAD_SIZE + _EVENT.size
_BIRTH = struct.Struct(f"={_HEAD_SIZE}xI4xQ4xI4xI")
"""A whole datagram of a FORK up to there: what, timestamp_ns, parent tgid, child tgid."""

_WHAT_OFFSET = _HEAD_SIZE
_DATA_OFFSET = _HEAD_SIZE + 16

NLMSG_DONE = 3
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33

RECEIVE_BUFFER_BYTES = 8 << 20
"""Some 10,000 events for each 4 MiB: what the kernel charges for one is far more than its 76 bytes."""

_DATAGRAM_BYTES = 256
_SOON_US = 4000
"""So long next() waits, rounded up to ticks of the kernel."""
_STORM = 16
_STORM_NS = 16_000_000
"""So many events in less than this time, by their own timestamps, are a storm."""
_GATHERING_SECONDS = 0.002
"""In a storm, so long next() lets events gather. To be woken for each, with cold caches, costs more than to deal with
it."""
_BIRTHS = 1 << 15
"""So many births() reads at once; a storm must not keep it for ever."""
_ACK_SECONDS = 0.3
_TRIES = 4

INITIAL_USER_NS = 0xEFFFFFFD
INITIAL_PID_NS = 0xEFFFFFFC
"""include/linux/proc_ns.h: inode numbers of the initial namespaces. Outside them the kernel ignores subscriptions
in silence (cn_proc_mcast_ctl)."""


class Unavailable(Exception):
    """There is no proc connector to be had, and why."""


Event = tuple[int, int, int, int]
"""One process event: its time (CLOCK_MONOTONIC, ns), what it is (of NAMES), the process (thread group) that did it, for
a fork the new one, and for a fork the process (thread group) that forked, else the CPU that it ran on. A plain tuple:
there is one for every exec of the machine, and a named one takes several times as long to make."""


def decode(datagram: bytes) -> Event | None:
    """One datagram as an event; None if it isn't one: an ACK, a thread's event, something too short or unknown."""
    if len(datagram) < _EVENT_END:
        return None
    what, cpu, timestamp_ns, pid, tgid, child_pid, child_tgid = _EVENT.unpack_from(datagram, _HEAD_SIZE)
    if what == PROC_EVENT_FORK:
        return (timestamp_ns, what, child_tgid, tgid) if child_pid == child_tgid else None
    return (timestamp_ns, what, tgid, cpu) if pid == tgid and what in NAMES else None


def encode_request(operation: int, sequence: int) -> bytes:
    """A message to the connector. The answer bears its ack, one higher (cn_proc_ack); its seq is another's."""
    body = _CN_MSG.pack(CN_IDX_PROC, CN_VAL_PROC, sequence, sequence, _WORD.size, 0) + _WORD.pack(operation)
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(body), NLMSG_DONE, 0, 0, os.getpid()) + body


def _random_sequence() -> int:
    """31 bits. Not by `secrets`, which loads OpenSSL."""
    return int.from_bytes(os.urandom(4), "little") >> 1


def is_ack(datagram: bytes, sequence: int) -> bool:
    """Whether `datagram` answers the request that bore `sequence`. ACKs go to all listeners, so others' come too."""
    if len(datagram) < _HEAD_SIZE + 4 or _WORD.unpack_from(datagram, _WHAT_OFFSET)[0] != PROC_EVENT_NONE:
        return False
    return bool(_WORD.unpack_from(datagram, _ACK_OFFSET)[0] == sequence + 1)


# Classic BPF, linux/filter.h: LD W ABS, JEQ K, RET K, and X for comparing two words.
_LD, _JEQ_K, _JEQ_X, _RET, _TAX = 0x20, 0x15, 0x1D, 0x06, 0x07
_PASS, _DROP = 0xFFFFFFFF, 0


def filter_program(events: frozenset[int]) -> list[tuple[int, int, int, int]]:
    """A socket filter that lets ACKs and `events` through, of threads nothing: instructions (code, jt, jf, k).

    It loads words in network byte order, but the connector writes the host's."""
    wanted = sorted({PROC_EVENT_NONE, *events} - {PROC_EVENT_FORK})
    program = [(_LD, 0, 0, _WHAT_OFFSET)]
    # Each comparison jumps forward, over the ones after it, to the place where its kind is dealt with.
    kinds = [(PROC_EVENT_NONE, "pass"), (PROC_EVENT_EXEC, "pass"), (PROC_EVENT_FORK, "fork")]
    kinds += [(what, "leader") for what in wanted if what not in (PROC_EVENT_NONE, PROC_EVENT_EXEC)]
    kinds = [(what, place) for what, place in kinds if what == PROC_EVENT_NONE or what in events]
    length = len(kinds)
    fork, leader = 1 + length + 1, 1 + length + 1 + 5
    pass_at = 1 + length + 1 + 5 + 5
    places = {"fork": fork, "leader": leader, "pass": pass_at}
    for i, (what, place) in enumerate(kinds):
        program.append((_JEQ_K, places[place] - (1 + i) - 1, 0, socket.htonl(what)))
    program.append((_RET, 0, 0, _DROP))
    program += _same_words(_DATA_OFFSET + 8, _DATA_OFFSET + 12)  # child pid, child tgid
    program += _same_words(_DATA_OFFSET, _DATA_OFFSET + 4)  # pid, tgid
    program.append((_RET, 0, 0, _PASS))
    return program


def _same_words(first: int, second: int) -> list[tuple[int, int, int, int]]:
    return [(_LD, 0, 0, first), (_TAX, 0, 0, 0), (_LD, 0, 0, second), (_JEQ_X, 1, 0, 0), (_RET, 0, 0, _DROP)]


class Connector:
    """A subscription to process events, proven by its ACK. Raises Unavailable if there is none to be had.

    Close it with close(); the kernel counts subscribers, and up to Linux 6.5 an IGNORE too many silences
    everybody, so we send none: closing the socket is enough for us."""

    def __init__(self, events: frozenset[int]) -> None:
        self._check_namespaces()
        self._awaited: int | None = None
        self.lost = False
        """Whether the kernel has lost events for want of room, and loses no more. For the reader to clear."""
        self._losing_ns = 0
        """When a loss was reported (CLOCK_MONOTONIC) that may go on; 0: none."""
        self.seen = 0
        """Events that next() has read, without ACKs."""
        self._storm = False
        """Whether they come so densely that it is better to let some gather."""
        self._storm_seen_ns = 0
        """The time of the last of them that made a number of _STORM full."""
        self._seen_before = 0
        """`seen` when all had been read, the last time."""
        self._sleep = time.sleep
        self.socket = _netlink_socket()
        self._receive = self.socket.recv
        self._prober = _netlink_socket()
        try:
            self._open(events)
        except BaseException:
            self.close()
            raise

    def _check_namespaces(self) -> None:
        for kind, initial in (("user", INITIAL_USER_NS), ("pid", INITIAL_PID_NS)):
            if os.stat(f"/proc/self/ns/{kind}").st_ino != initial:
                raise Unavailable(f"not in the initial {kind.replace('pid', 'PID')} namespace (a container?)")

    def _open(self, events: frozenset[int]) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, _SOON_US))
        try:
            self.socket.bind((0, CN_IDX_PROC))
        except PermissionError:
            raise Unavailable("CAP_NET_ADMIN is missing") from None
        except OSError as error:
            raise Unavailable(f"failed to bind the netlink connector socket ({error.strerror})") from None
        self._enlarge_buffer()
        self.listen(events)
        self.subscribe()

    def _enlarge_buffer(self) -> None:
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()
        self._prober.close()

    def listen(self, events: frozenset[int]) -> None:
        """Let `events` through from now on, and drop the rest in the kernel."""
        instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in filter_program(events))
        program = array.array("B", instructions)
        # struct sock_fprog: how many instructions, and where they are.
        address, size = program.buffer_info()
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", size // 8, address))

    def subscribe(self) -> None:
        """Ask for events until the kernel confirms that it sends them. Raises Unavailable."""
        for _ in range(_TRIES):
            if self._ask(PROC_CN_MCAST_LISTEN, _ACK_SECONDS):
                return
        raise Unavailable("the kernel doesn't confirm the subscription (CONFIG_PROC_EVENTS?)")

    def probe(self) -> None:
        """Ask the kernel for a sign of life, which next() takes note of: up to Linux 6.5 another
        program's IGNORE can have stopped the events for us too, and then there is no answer. The question comes
        from a socket of its own: since 6.6 the kernel remembers the last operation of each."""
        self._awaited = _random_sequence()
        with contextlib.suppress(OSError):  # no answer is an answer
            self._prober.send(encode_request(_NO_SUCH_OPERATION, self._awaited))

    @property
    def silent(self) -> bool:
        """Whether the probe has remained without an answer."""
        return self._awaited is not None

    def _ask(self, operation: int, seconds: float) -> bool:
        sequence = _random_sequence()
        try:
            self.socket.send(encode_request(operation, sequence))
        except ConnectionRefusedError:
            raise Unavailable("not in the initial network namespace") from None
        except OSError as error:
            raise Unavailable(f"failed to ask for process events ({error.strerror})") from None
        self._awaited = sequence
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while self._awaited is not None and (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            # What happened before the ACK is nothing to us: the scan that follows sees what came of it.
            while self.next(False, False, _nobody, time.monotonic_ns()) is not None:
                pass
        return self._awaited is None

    def next(self, wait: bool, gather: bool, concerns: Callable[[int], bool], until_ns: int) -> Event | None:
        """The next event, of execs those of processes that it `concerns`. None: there is none, nor does one come soon,
        for which it waits if it shall; or what didn't count happened after `until_ns` (CLOCK_MONOTONIC). In a storm it
        doesn't wait for each, but lets some gather, if it may."""
        receive, unpack, gather = self._receive, _EXEC.unpack_from, gather and wait
        while True:
            gathering = gather and self._storm
            try:
                datagram = receive(_DATAGRAM_BYTES, 0 if wait and not gathering else socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._all_read()
                if not gathering:
                    return None
                if self._storm:
                    self._sleep(_GATHERING_SECONDS)
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._end_loss()  # of the time before, or this one wouldn't be reported
                self._losing_ns = time.monotonic_ns()
                continue
            if len(datagram) < _EVENT_END:
                continue
            what, cpu, timestamp_ns, tgid = unpack(datagram, _HEAD_SIZE)
            if self._losing_ns and timestamp_ns > self._losing_ns:
                self._end_loss()  # nothing that happened since the report was queued before the end
            if what != PROC_EVENT_NONE:
                self.seen += 1
                if self.seen % _STORM == 0:
                    self._storm = timestamp_ns < self._storm_seen_ns + _STORM_NS
                    self._storm_seen_ns = timestamp_ns
            if what == PROC_EVENT_EXEC:  # far more often than anything else, so this isn't decoded whole
                if concerns(tgid):
                    return timestamp_ns, what, tgid, cpu
            elif (event := decode(datagram)) is not None:
                return event
            elif self._awaited is not None and is_ack(datagram, self._awaited):
                self._awaited = None
            if timestamp_ns >= until_ns:  # of ACKs too: anyone may ask for them without end
                return None

    def _all_read(self) -> None:
        """All that had come has been read: that ends a loss, and a storm, if no more than one event had gathered."""
        self._end_loss()
        self._storm = self._storm and self.seen > self._seen_before + 1
        self._seen_before = self.seen

    def _end_loss(self) -> None:
        """A loss is reported when it begins, before what was queued; all that comes until that is read gets lost in
        silence (netlink_overrun() and netlink_rcv_wake() of net/netlink/af_netlink.c)."""
        self.lost = self.lost or self._losing_ns > 0
        self._losing_ns = 0

    def births(self) -> list[Birth]:
        """What has come up to now on a socket that hears of births alone; not without end."""
        receive, datagrams = self._receive, list[bytes]()
        while True:
            try:  # there is one for every fork of the machine, so the loop is map's
                datagrams.extend(map(receive, repeat(_EVENT_END, _BIRTHS), repeat(socket.MSG_DONTWAIT)))
                break
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost = True
        whole = b"".join([datagram for datagram in datagrams if len(datagram) == _EVENT_END])
        found = _BIRTH.iter_unpack(whole)
        return [(at_ns, parent, child) for what, at_ns, parent, child in found if what == PROC_EVENT_FORK]


def _nobody(_: int) -> bool:
    return False


def _netlink_socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
    except OSError as error:
        raise Unavailable(f"no netlink connector in this kernel ({error.strerror})") from None
