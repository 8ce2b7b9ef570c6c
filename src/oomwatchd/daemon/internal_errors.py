"""Exceptions that nobody expected: each kind is told of at once, and when it comes again and again, by its number."""

import os

from oomwatchd.daemon.journal import ERR, Record

_AGAIN_SECONDS = 60.0
_KINDS = 64
"""So many kinds are told of each; what others there are is one more kind. Whoever can cause one can cause many."""


class InternalErrors:
    """Which exceptions are logged. `now` is CLOCK_MONOTONIC in seconds."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, int, str]] = {}
        """By kind: when it was told of, how often it has come since, the last message."""

    def note(self, error: Exception, now: float, doing: str = "") -> Record | None:
        """What to log of an exception; None: it has been told of, and is counted. `doing`: what was being done."""
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
        """How often what has been told of has come again, once a minute."""
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
    """Where in our code it was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return ""
    return f" at {os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
