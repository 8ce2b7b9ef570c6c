"""Where records go: the journal, stderr, or both. Whoever doesn't read them never keeps the daemon waiting.

sd_journal_sendv(3) waits once journald has left as many datagrams unread as its socket takes
(net.unix.max_dgram_qlen, 512). What it can't take is kept for a while, then dropped and counted."""

import os
import select
import sys
from collections import deque
from collections.abc import Callable

from oomwatchd.base.alarm import Interrupted
from oomwatchd.base.text import decode
from oomwatchd.daemon.journal import DEBUG, MESSAGE_IDS, WARNING, Record

_JOURNAL_SOCKET = "/run/systemd/journal/socket"

_SEND_SECONDS = 0.002
_RETRY_SECONDS, _RETRY_LIMIT_SECONDS = 0.05, 1.0
KEPT_RECORDS = 4096
_KEPT_CHARACTERS = 1 << 20


class Log:
    """Where records go."""

    def write(self, record: Record) -> None:
        """Send a record, or keep it. Never raises: whoever doesn't read us must not stop us."""
        raise NotImplementedError

    def retry_seconds(self) -> float | None:
        """When to call flush(); None: nothing is kept."""
        return None

    def flush(self) -> None:
        """Send what was kept, as far as it is taken."""


class StderrLog(Log):
    """Sentences for whoever sits at the terminal. A terminal that is stopped (^S) and a pipe that nobody reads take
    nothing: what comes meanwhile is dropped."""

    def __init__(self) -> None:
        self._dropped = 0

    def write(self, record: Record) -> None:
        if record.priority == DEBUG:
            return
        lost = f"{self._dropped} messages were dropped while nobody read this\n" if self._dropped else ""
        text = f"{lost}{record.message}\n".encode(errors="surrogateescape")
        try:
            taken = self._write(text)
        except OSError:
            return
        self._dropped = 0 if taken else self._dropped + 1

    def _write(self, text: bytes) -> bool:
        """Whether it was taken. A long text may be cut when the reader stops in the midst of it."""
        descriptor = sys.stderr.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        written = 0
        while written < len(text):
            # What poll(2) finds room for is written at once: a page to a pipe, a line to a terminal.
            if not poll.poll(0):
                return written > 0
            written += os.write(descriptor, text[written : written + select.PIPE_BUF])
        return True


class JournalLog(Log):
    """Native journal records."""

    def __init__(self, sendv: Callable[..., None] | None = None) -> None:
        self._sendv = sendv or _sd_journal_sendv()
        self._kept: deque[list[str]] = deque()
        self._kept_characters = 0
        self._retry_seconds = _RETRY_SECONDS
        self._dropped = 0

    def write(self, record: Record) -> None:
        fields = _native(record)
        try:
            if not self._kept and self._send(fields):
                return
        except OSError:  # a journal that is down; systemd keeps stderr
            StderrLog().write(record)
            return
        size = sum(map(len, fields))
        if len(self._kept) >= KEPT_RECORDS or self._kept_characters + size > _KEPT_CHARACTERS:
            self._dropped += 1
            return
        self._kept.append(fields)
        self._kept_characters += size

    def _send(self, fields: list[str]) -> bool:
        """Whether the journal has taken it. Raises OSError where there is none."""
        try:
            with Interrupted(_SEND_SECONDS):
                self._sendv(*fields)
        except (InterruptedError, BlockingIOError):
            return False
        return True

    def retry_seconds(self) -> float | None:
        return self._retry_seconds if self._kept else None

    def flush(self) -> None:
        try:
            while self._kept and self._send(self._kept[0]):
                self._kept_characters -= sum(map(len, self._kept.popleft()))
        except OSError:
            self._dropped += len(self._kept)
            self._kept.clear()
            self._kept_characters = 0
        if self._kept:
            self._retry_seconds = min(self._retry_seconds * 2, _RETRY_LIMIT_SECONDS)
            return
        self._retry_seconds = _RETRY_SECONDS
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            message = f"{dropped} records were dropped while the journal did not read"
            self.write(Record("summary", WARNING, message, {"OOMWATCHD_COUNT": dropped}))


def _sd_journal_sendv() -> Callable[..., None]:
    # systemd.journal has the same function, and loads a reader and logging besides.
    from systemd._journal import sendv

    return sendv  # type: ignore[no-any-return]


def _native(record: Record) -> list[str]:
    message_id = MESSAGE_IDS.get(record.event)
    fields = [
        f"MESSAGE={decode(record.message)}",  # a path may hold any bytes
        f"PRIORITY={record.priority}",
        f"OOMWATCHD_EVENT={record.event}",
        "SYSLOG_IDENTIFIER=oomwatchd",
    ]
    if message_id is not None:
        fields.append(f"MESSAGE_ID={message_id}")
    fields += [f"{name}={value}" for name, value in record.fields.items()]
    return fields


class BothLogs(Log):
    """Sentences on a stderr that someone has redirected, and the journal besides."""

    def __init__(self) -> None:
        self._stderr, self._journal = StderrLog(), JournalLog()

    def write(self, record: Record) -> None:
        self._stderr.write(record)
        self._journal.write(record)

    def retry_seconds(self) -> float | None:
        return self._journal.retry_seconds()

    def flush(self) -> None:
        self._journal.flush()


def open_log() -> Log:
    """stderr if it is a terminal; the journal if stderr leads there, as under systemd (systemd.exec(5) on
    $JOURNAL_STREAM); else both, where there is a journal."""
    if sys.stderr.isatty():
        return StderrLog()
    if _stderr_is_journal():
        return JournalLog()
    return BothLogs() if os.path.exists(_JOURNAL_SOCKET) else StderrLog()


def _stderr_is_journal() -> bool:
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
