"""The error with which a start ends."""


class Failure(Exception):
    """The daemon can't start. The message says why, for the log."""
