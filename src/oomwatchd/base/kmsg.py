"""Reads records of the kernel's log: Documentation/ABI/testing/dev-kmsg."""

import os
from collections.abc import Iterator

_RECORD_BYTES = 8192
"""A read(2) with less room than the record wants fails."""


def waiting_records(descriptor: int, most: int) -> Iterator[bytes]:
    """The records that wait in `descriptor`, which is /dev/kmsg opened with O_NONBLOCK, after at most `most` reads.
    Records that were overwritten before they could be read are passed over. Raises OSError."""
    for _ in range(most):
        try:
            record = os.read(descriptor, _RECORD_BYTES)
        except BlockingIOError:
            return
        except BrokenPipeError:
            continue  # overwritten: the next read goes on with the oldest that is left
        if not record:
            return
        yield record
