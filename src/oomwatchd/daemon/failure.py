"""Why the daemon doesn't start."""


class Failure(Exception):
    """The daemon can't start; the message says why, for the log."""
