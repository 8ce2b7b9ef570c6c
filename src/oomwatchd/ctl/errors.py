"""How a verb ends early."""

from collections.abc import Iterable


class CommandError(Exception):
    """Ends the program with an exit status, and a message on standard error. `details` follow it, one a line."""

    def __init__(self, status: int, message: str, details: Iterable[object] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.details = tuple(map(str, details))
