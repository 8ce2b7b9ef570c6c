"""The limit of open files: RLIMIT_NOFILE of getrlimit(2)."""

import os

_ENOUGH = 1024
"""systemd's default for services."""
_LEAST = 128
"""The daemon has some 25 files open, one or two for each helper, and one for each of up to 64 clients."""


class TooFewFiles(Exception):
    """The process may open too few files. The message says how many."""


def raise_limit() -> None:
    """Raise this process's limit to 1,024 open files, or, if it may not be so high, as far as it may be. Raises
    TooFewFiles if that is less than 128."""
    if os.sysconf("SC_OPEN_MAX") >= _ENOUGH:
        return
    from resource import RLIMIT_NOFILE, getrlimit, setrlimit  # seldom needed

    hard = getrlimit(RLIMIT_NOFILE)[1]
    limit = _ENOUGH if hard < 0 else min(hard, _ENOUGH)  # RLIM_INFINITY is -1
    if limit < _LEAST:
        raise TooFewFiles(f"the limit of open files is {limit}, and at least {_LEAST} are needed")
    setrlimit(RLIMIT_NOFILE, (limit, hard))
