"""Reads the memory of the whole machine."""

import os

from oomwatchd.oom.badness import Machine
from oomwatchd.oom.small_files import kib, pages_of_kib, parse_fields, read_file, read_number

_USUAL_SWAPPINESS = 60


def read_machine(proc: str = "/proc") -> Machine:
    """The machine's memory by /proc/meminfo, proc_meminfo(5), and vm.swappiness. Raises OSError where the former can't
    be read."""
    raw = read_file(os.path.join(proc, "meminfo"))
    fields = parse_fields(raw or b"")
    ram = kib(fields, b"MemTotal")
    if ram is None:
        raise FileNotFoundError(f"'{proc}/meminfo' can't be read or has no MemTotal; is /proc mounted?")
    available = kib(fields, b"MemAvailable")
    swappiness = read_number(os.path.join(proc, "sys/vm/swappiness"))
    return Machine(
        ram=pages_of_kib(ram),
        swap_total=pages_of_kib(kib(fields, b"SwapTotal")),
        available=None if available is None else pages_of_kib(available),
        swap_free=pages_of_kib(kib(fields, b"SwapFree")),
        swappiness=_USUAL_SWAPPINESS if swappiness is None else swappiness,
    )
