"""The kernel's process events connector: its wire format (pure), the subscription, and a filter by kind of event.
It has some more than 300 lines, so that one module has the whole of this kernel interface.

Sources: include/uapi/linux/cn_proc.h, drivers/connector/cn_proc.c, netlink(7). The constants are the kernel's."""

import array
import contextlib
import errno
import os
import select
import socket
import struct
import time

from oomwatchd.base.uapi import INITIAL_PID_NS, INITIAL_USER_NS

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN = 1
_NO_SUCH_OPERATION = 0x7FFF
"""The kernel answers this operation with an ACK that says EINVAL, provided that it sends events at all."""

PROC_EVENT_NONE = 0x0
"""The kind of an ACK."""
PROC_EVENT_FORK = 0x1
PROC_EVENT_EXEC = 0x2
PROC_EVENT_UID = 0x4
PROC_EVENT_GID = 0x40
PROC_EVENT_COMM = 0x200
PROC_EVENT_EXIT = 0x80000000

NAMES = {
    PROC_EVENT_FORK: "fork",
    PROC_EVENT_EXEC: "exec",
    PROC_EVENT_UID: "uid",
    PROC_EVENT_GID: "gid",
    PROC_EVENT_COMM: "comm",
    PROC_EVENT_EXIT: "exit",
}

# struct nlmsghdr, struct cn_msg, struct proc_event up to the union, in the host's byte order.
_NLMSGHDR = struct.Struct("=IHHII")
_CN_MSG = struct.Struct("=IIIIHH")
_WORD = struct.Struct("=I")
_TIMESTAMP = struct.Struct("=Q")
_HEAD_SIZE = _NLMSGHDR.size + _CN_MSG.size
_ACK_OFFSET = _NLMSGHDR.size + 12
_EVENT = struct.Struct("=I4xQIIII")
"""what, timestamp_ns (the CPU between them is left out), and the first four words of the union. FORK: parent pid,
parent tgid, child pid, child tgid. All others: pid, tgid, and two words that aren't used here."""
_unpack_event = _EVENT.unpack_from
_EVENT_END = _HEAD_SIZE + _EVENT.size

_WHAT_OFFSET = _HEAD_SIZE
_TIMESTAMP_OFFSET = _HEAD_SIZE + 8
_DATA_OFFSET = _HEAD_SIZE + 16

NLMSG_DONE = 3
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33

RECEIVE_BUFFER_BYTES = 32 << 20
"""Room for some 80,000 events: for one, the kernel counts far more than its 76 bytes, so that 4 MiB hold some 10,000. A
program makes three events, so this is what a busy machine starts in some seconds. The kernel takes the memory only
while events wait."""

_DATAGRAM_BYTES = 256  # more than any event has
SOON_US = 4000
"""How long next() waits for an event, rounded up to ticks of the kernel. The exec and the exit of a short program
follow its fork closely, and waiting here takes half the CPU time of going through the loop."""
_DONT_WAIT = int(socket.MSG_DONTWAIT)
_ACK_SECONDS, _TRIES = 0.3, 4  # how long a subscription waits for its ACK, and how often it is tried


class EventsUnavailable(Exception):
    """The proc connector can't be used. The message says why."""


Event = tuple[int, int, int, int]
"""One process event: time (CLOCK_MONOTONIC, ns), kind (a key of NAMES), PID (of a fork: the child's), parent PID (of a
fork; else 0). PIDs are those of processes, not of threads.

It is a plain tuple since a named one takes several times as long to make. Without the eBPF filter there are three
events for every program that the machine starts."""


def decode(datagram: bytes) -> Event | None:
    """Parse one datagram. None: it is an ACK, too short, of an unknown kind, or a thread's event.

    The exit events of all threads are returned: a process ends with its last thread, which may be any of them."""
    if len(datagram) < _EVENT_END:
        return None
    what, timestamp_ns, pid, tgid, child_pid, child_tgid = _unpack_event(datagram, _HEAD_SIZE)
    if what == PROC_EVENT_EXEC:
        return timestamp_ns, what, tgid, 0
    if what == PROC_EVENT_FORK:
        return (timestamp_ns, what, child_tgid, tgid) if child_pid == child_tgid else None
    if what == PROC_EVENT_EXIT:
        return timestamp_ns, what, tgid, 0
    return (timestamp_ns, what, tgid, 0) if pid == tgid and what in NAMES else None


def encode_request(operation: int, sequence: int) -> bytes:
    """A message to the connector. The ACK has the acknowledgement number of the message plus one, cn_proc_ack(). Its
    sequence number is the kernel's own."""
    body = _CN_MSG.pack(CN_IDX_PROC, CN_VAL_PROC, sequence, sequence, _WORD.size, 0) + _WORD.pack(operation)
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(body), NLMSG_DONE, 0, 0, os.getpid()) + body


def _random_sequence() -> int:
    """A random number of 31 bits. The module `secrets` isn't used because it loads OpenSSL."""
    return int.from_bytes(os.urandom(4), "little") >> 1


def is_ack(datagram: bytes, sequence: int) -> bool:
    """Whether `datagram` confirms the request with the number `sequence`. ACKs for other listeners come too."""
    if len(datagram) < _HEAD_SIZE + 4 or _WORD.unpack_from(datagram, _WHAT_OFFSET)[0] != PROC_EVENT_NONE:
        return False
    return bool(_WORD.unpack_from(datagram, _ACK_OFFSET)[0] == sequence + 1)


# Instructions of classic BPF, linux/filter.h: LD W ABS, JEQ K, JEQ X, RET K, TAX.
_LD, _JEQ_K, _JEQ_X, _RET, _TAX = 0x20, 0x15, 0x1D, 0x06, 0x07
_PASS, _DROP = 0xFFFFFFFF, 0


def filter_program(kinds: frozenset[int]) -> list[tuple[int, int, int, int]]:
    """A socket filter that lets ACKs and these kinds of events through, and drops the events of single threads, as
    instructions (code, jt, jf, k).

    The filter loads words in network byte order, but the connector writes them in the byte order of the host."""
    places = [(PROC_EVENT_NONE, "pass"), *((kind, "pass") for kind in sorted(kinds & {PROC_EVENT_EXEC}))]
    places += [(kind, "fork") for kind in sorted(kinds & {PROC_EVENT_FORK})]
    places += [(kind, "leader") for kind in sorted(kinds - {PROC_EVENT_EXEC, PROC_EVENT_FORK})]
    # Each comparison jumps forward, over the ones after it, to the place where its kind is dealt with.
    child = _same_words(_DATA_OFFSET + 8, _DATA_OFFSET + 12)  # child pid, child tgid
    leader = _same_words(_DATA_OFFSET, _DATA_OFFSET + 4)  # pid, tgid
    fork_at = len(places) + 2
    at = {"fork": fork_at, "leader": fork_at + len(child) + 1, "pass": fork_at + len(child) + 1 + len(leader)}
    program = [(_LD, 0, 0, _WHAT_OFFSET)]
    program += [(_JEQ_K, at[place] - i - 2, 0, socket.htonl(kind)) for i, (kind, place) in enumerate(places)]
    return [*program, (_RET, 0, 0, _DROP), *child, (_RET, 0, 0, _PASS), *leader, (_RET, 0, 0, _PASS)]


def _same_words(first: int, second: int) -> list[tuple[int, int, int, int]]:
    return [(_LD, 0, 0, first), (_TAX, 0, 0, 0), (_LD, 0, 0, second), (_JEQ_X, 1, 0, 0), (_RET, 0, 0, _DROP)]


class Connector:
    """A subscription to process events that the kernel has confirmed. Raises EventsUnavailable if it can't be made.

    close() closes the socket and sends no PROC_CN_MCAST_IGNORE: up to Linux 6.5 the kernel only counts subscribers, and
    one IGNORE too many ends the events for all."""

    def __init__(self, kinds: frozenset[int]) -> None:
        self._check_namespaces()
        self._awaited: int | None = None  # the number of the request whose ACK is awaited
        self._losing_ns = 0
        """When the kernel reported the loss that may still go on (CLOCK_MONOTONIC); 0: there is none."""
        self._last_ns = 0
        """The time of the last event that was read (CLOCK_MONOTONIC); 0: none was."""
        self._lost_from_ns: int | None = None  # what take_loss() returns
        self.socket = _netlink_socket()
        self._receive = self.socket.recv
        self._prober = _netlink_socket()
        try:
            self._open(kinds)
        except BaseException:
            self.close()
            raise

    def _check_namespaces(self) -> None:
        # In other namespaces the kernel ignores subscriptions without an error (cn_proc_mcast_ctl()).
        for kind, initial in (("user", INITIAL_USER_NS), ("pid", INITIAL_PID_NS)):
            if os.stat(f"/proc/self/ns/{kind}").st_ino != initial:
                raise EventsUnavailable(f"not in the initial {kind.replace('pid', 'PID')} namespace (a container?)")

    def _open(self, kinds: frozenset[int]) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, SOON_US))
        try:
            self.socket.bind((0, CN_IDX_PROC))
        except PermissionError:
            raise EventsUnavailable("CAP_NET_ADMIN is missing") from None
        except OSError as error:
            raise EventsUnavailable(f"failed to bind the netlink connector socket ({error.strerror})") from None
        self._enlarge_buffer()
        self.listen(kinds)
        self.subscribe()

    def _enlarge_buffer(self) -> None:
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    def fileno(self) -> int:
        """The descriptor that is readable when events wait."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close()
        self._prober.close()

    def listen(self, kinds: frozenset[int]) -> None:
        """Let these kinds of events through from now on, and drop the rest in the kernel."""
        instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in filter_program(kinds))
        program = array.array("B", instructions)
        # struct sock_fprog: how many instructions, and where they are.
        address, size = program.buffer_info()
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", size // 8, address))

    def subscribe(self) -> None:
        """Ask for events until the kernel confirms that it sends them. Raises EventsUnavailable."""
        for _ in range(_TRIES):
            if self._ask(PROC_CN_MCAST_LISTEN, _ACK_SECONDS):
                return
        raise EventsUnavailable("the kernel doesn't confirm the subscription (CONFIG_PROC_EVENTS?)")

    def probe(self) -> None:
        """Ask the kernel for an ACK, which next() takes note of; see `silent`. Up to Linux 6.5, another program's
        PROC_CN_MCAST_IGNORE can end the events for this socket too, and then there is no ACK.

        The request goes through a socket of its own, since from Linux 6.6 on the kernel remembers the last operation of
        each socket."""
        self._awaited = _random_sequence()
        with contextlib.suppress(OSError):  # a failure shows in `silent`
            self._prober.send(encode_request(_NO_SUCH_OPERATION, self._awaited))

    @property
    def silent(self) -> bool:
        """Whether no ACK of the last probe() has come yet."""
        return self._awaited is not None

    def _ask(self, operation: int, seconds: float) -> bool:
        sequence = _random_sequence()
        try:
            self.socket.send(encode_request(operation, sequence))
        except ConnectionRefusedError:
            raise EventsUnavailable("not in the initial network namespace") from None
        except OSError as error:
            raise EventsUnavailable(f"failed to ask for process events ({error.strerror})") from None
        self._awaited = sequence
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while self._awaited is not None and (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            # Events from before the ACK aren't needed: a scan follows, and sees their outcome.
            while self.next(time.monotonic_ns(), False) is not None:
                pass
        return self._awaited is None

    def next(self, until_ns: int, wait: bool) -> Event | None:
        """The next event; None: none waits, or a datagram that is no event was sent after `until_ns` (CLOCK_MONOTONIC).
        `wait`: wait some milliseconds for an event."""
        flags = 0 if wait else _DONT_WAIT
        while True:
            try:
                datagram = self._receive(_DATAGRAM_BYTES, flags)
            except BlockingIOError:
                self._end_loss()
                return None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._end_loss()  # the loss before this one, if there was one
                self._losing_ns = time.monotonic_ns()
                continue
            event = decode(datagram)
            if event is None:
                if len(datagram) < _EVENT_END:
                    continue
                if self._awaited is not None and is_ack(datagram, self._awaited):
                    self._awaited = None
                if _TIMESTAMP.unpack_from(datagram, _TIMESTAMP_OFFSET)[0] >= until_ns:
                    return None  # any program may ask for ACKs without end
                continue
            if self._losing_ns and event[0] > self._losing_ns:
                self._end_loss()  # an event from after the report is queued only when the loss is over
            self._last_ns = event[0]
            return event

    def comes_within(self, seconds: float) -> bool:
        """Wait for a datagram for at most `seconds`. Returns whether one waits."""
        return bool(select.select((self.socket,), (), (), seconds)[0])

    def _end_loss(self) -> None:
        """The loss that was reported is over. The kernel reports a loss when it begins, ahead of the events that are
        queued. Until these are read, it drops further events without another report: netlink_overrun() and
        netlink_rcv_wake() of net/netlink/af_netlink.c."""
        if self._losing_ns and self._lost_from_ns is None:
            self._lost_from_ns = min(self._losing_ns, self._last_ns)
        self._losing_ns = 0

    def take_loss(self) -> int | None:
        """Whether the kernel has dropped events since the last call because the socket's buffer was full. Returns the
        time (CLOCK_MONOTONIC, ns) before which none was dropped; None: none was, or the loss isn't over."""
        lost_from, self._lost_from_ns = self._lost_from_ns, None
        return lost_from


def _netlink_socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
    except OSError as error:
        raise EventsUnavailable(f"no netlink connector in this kernel ({error.strerror})") from None
