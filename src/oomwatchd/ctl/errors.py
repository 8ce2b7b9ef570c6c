"""How a verb ends early."""


class CommandError(Exception):
    """Ends the program with an exit status, and a message on standard error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
