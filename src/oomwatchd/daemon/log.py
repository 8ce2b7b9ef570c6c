"""Sends records to the journal, to stderr, or to both, without ever waiting for a reader.

sd_journal_sendv(3) waits while journald has not read as many datagrams as its socket takes (net.unix.max_dgram_qlen,
512). Records that aren't taken are kept for a while. When too many are kept, further ones are dropped and counted."""

import os
import select
import sys
from collections import deque
from collections.abc import Callable

from oomwatchd.base.alarm import Interrupted
from oomwatchd.base.text import decode
from oomwatchd.daemon.log_records import DEBUG, MESSAGE_IDS, WARNING, Record

_JOURNAL_SOCKET = "/run/systemd/journal/socket"

_SEND_SECONDS = 0.002
"""How long sending one record may take."""
_RETRY_SECONDS, _RETRY_LIMIT_SECONDS = 0.05, 1.0
"""In how many seconds to send kept records again: the first time, and the longest interval."""
KEPT_RECORDS = 4096
"""The most records that are kept."""
_KEPT_CHARACTERS = 1 << 20
"""The most characters that all kept records may have together."""


class Log:
    """A place for records."""

    def write(self, record: Record) -> None:
        """Send a record, or keep it for flush(), or drop it. Never raises."""
        raise NotImplementedError

    def retry_seconds(self) -> float | None:
        """In how many seconds to call flush(); None: nothing is kept."""
        return None

    def flush(self) -> None:
        """Send the records that were kept, until the reader takes no more."""


class StderrLog(Log):
    """Messages on standard error. A terminal that is stopped (^S) and a pipe that nobody reads take nothing: messages
    are dropped meanwhile."""

    def __init__(self) -> None:
        self._dropped = 0

    def write(self, record: Record) -> None:
        """Write the message to standard error, unless it is for debugging or nobody reads."""
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
        """Write the text. Returns whether it was taken. A long text may be cut if the reader stops reading."""
        descriptor = sys.stderr.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        written = 0
        while written < len(text):
            # After poll(2), this much can be written without waiting: a page to a pipe, a line to a terminal.
            if not poll.poll(0):
                return written > 0
            written += os.write(descriptor, text[written : written + select.PIPE_BUF])
        return True


class JournalLog(Log):
    """Records with fields, in the journal."""

    def __init__(self, sendv: Callable[..., None] | None = None) -> None:
        self._sendv = sendv or _sd_journal_sendv()
        self._kept: deque[list[str]] = deque()
        self._kept_characters = 0
        self._retry_seconds = _RETRY_SECONDS
        self._dropped = 0

    def write(self, record: Record) -> None:
        """Send the record to journald, or keep it for flush(), or drop it if too much is kept."""
        fields = _native(record)
        try:
            if not self._kept and self._send(fields):
                return
        except OSError:  # journald doesn't run; systemd keeps what is written to stderr
            StderrLog().write(record)
            return
        size = sum(map(len, fields))
        if len(self._kept) >= KEPT_RECORDS or self._kept_characters + size > _KEPT_CHARACTERS:
            self._dropped += 1
            return
        self._kept.append(fields)
        self._kept_characters += size

    def _send(self, fields: list[str]) -> bool:
        """Send one record. Returns whether journald has taken it. Raises OSError where journald doesn't run."""
        try:
            with Interrupted(_SEND_SECONDS):
                self._sendv(*fields)
        except (InterruptedError, BlockingIOError):
            return False
        return True

    def retry_seconds(self) -> float | None:
        """In how many seconds to call flush(); None: nothing is kept."""
        return self._retry_seconds if self._kept else None

    def flush(self) -> None:
        """Send the records that were kept, until journald takes no more."""
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
    # The module systemd.journal has the same function, but also loads a reader and `logging`.
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
    """Messages on standard error, and records in the journal: for a redirected standard error."""

    def __init__(self) -> None:
        self._stderr, self._journal = StderrLog(), JournalLog()

    def write(self, record: Record) -> None:
        """Write the message to standard error, and send the record to journald."""
        self._stderr.write(record)
        self._journal.write(record)

    def retry_seconds(self) -> float | None:
        """In how many seconds to call flush(); None: nothing is kept for journald."""
        return self._journal.retry_seconds()

    def flush(self) -> None:
        """Send the records that were kept for journald, until it takes no more."""
        self._journal.flush()


def open_log() -> Log:
    """Choose the log. It is stderr if that is a terminal; the journal if stderr leads there, as under systemd (see
    $JOURNAL_STREAM in systemd.exec(5)); else both, if there is a journal."""
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
