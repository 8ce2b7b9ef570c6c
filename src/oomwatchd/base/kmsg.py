"""Reads records of the kernel's log: Documentation/ABI/testing/dev-kmsg."""

import os
from collections.abc import Iterator

_RECORD_BYTES = 8192
"""The kernel's longest record. A read(2) with a smaller buffer than the record fails."""


def waiting_records(descriptor: int, most: int) -> Iterator[bytes]:
    """The records that wait in `descriptor`, which is /dev/kmsg opened with O_NONBLOCK. At most `most` reads are made.
    Records that were overwritten before they could be read are left out. Raises OSError."""
    for _ in range(most):
        try:
            record = os.read(descriptor, _RECORD_BYTES)
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # records were overwritten: the next read returns the oldest one that is left
        if not record:
            return
        yield record
