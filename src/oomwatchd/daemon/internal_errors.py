"""Limits the log of unexpected exceptions: the first of a kind is logged, further ones are counted."""

import os

from oomwatchd.daemon.log_records import ERR, Record

_AGAIN_SECONDS = 60.0
"""How often the count of a kind is logged."""
_KINDS = 64
"""The most kinds that are told apart; all others count as one more kind. A limit is needed, since a process may be able
to cause many kinds."""


class InternalErrors:
    """Decides which exceptions are logged. Exceptions of one class from one place in the code are of one kind. `now` is
    CLOCK_MONOTONIC in seconds."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, int, str]] = {}
        """By kind: when it was logged last, how often it has come since, and its last message."""

    def record_or_count(self, error: Exception, now: float, doing: str = "") -> Record | None:
        """The record to log of an exception; None: its kind was logged before, so it is only counted. `doing`: during
        what it was raised, as the end of a phrase, such as " in answering a client"."""
        kind = f"{_place(error)}{doing}: {type(error).__name__}"
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            kind = "others"
        message = f"Internal error{_place(error)}{doing}, going on: {type(error).__name__}: {str(error)!a}"
        told = self._kinds.get(kind)
        if told is None:
            self._kinds[kind] = now, 0, message
            return Record("pin-failed", ERR, message)
        self._kinds[kind] = told[0], told[1] + 1, message
        return None

    def summaries(self, now: float, *, final: bool = False) -> list[Record]:
        """The records to log of exceptions that came again, once a minute for each kind. `final`: there will be no
        later call."""
        records = []
        for kind, (told, count, message) in list(self._kinds.items()):
            if now - told < _AGAIN_SECONDS and not final:
                continue
            if count == 0:
                del self._kinds[kind]
                continue
            self._kinds[kind] = now, 0, message
            again = "once more" if count == 1 else f"{count} times more"
            records.append(Record("pin-failed", ERR, f"{message} ({again})"))
        return records


def _place(error: Exception) -> str:
    """Where the exception was raised, as the end of a phrase: " at FILE:LINE"; empty: not known."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return ""
    return f" at {os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
