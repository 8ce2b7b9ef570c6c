"""`make` in this checkout, for the tests that call it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


@contextmanager
def alone() -> Iterator[None]:
    """While no other test has this: two that run `make` at the same time would write the same files below build/."""
    with (REPOSITORY / "Makefile").open() as makefile:
        fcntl.flock(makefile, fcntl.LOCK_EX)
        yield
