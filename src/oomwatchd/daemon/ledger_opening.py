"""Opens the daemon's ledger, and reports where it is damaged or can't be written."""

import os
from collections.abc import Callable

from oomwatchd.daemon.failure import Failure
from oomwatchd.kernel import procfs
from oomwatchd.pinning.decisions import SCAN
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.pinner import Pinner


def new_ledger(directory: str, *, dry_run: bool) -> Ledger:
    """Make an empty ledger, for the file in the runtime directory. The ledger of a dry run has no file, since its pins
    were never written."""
    return Ledger(None if dry_run else f"{directory}/ledger.json", procfs.read_boot_id())


def open_ledger(pinner: Pinner, warn: Callable[[str], None]) -> None:
    """Read the pinner's ledger from its file. `warn` is called with a message if the file is damaged. Raises Failure if
    the file can't be written and this isn't root. As root, the daemon starts all the same, and tries again."""
    ledger = pinner.ledger
    if ledger.path is None:
        return
    damage = ledger.load(
        lambda pid, starttime: procfs.is_alive(pid, starttime, pinner.proc),
        lambda pid: procfs.starttime_of(pid, pinner.proc),
    )
    if ledger.trouble and os.geteuid() != 0:
        raise Failure(f"Failed to write '{ledger.path}': {ledger.trouble}. Run as root, or --dry-run")
    pinner.tracking.use(pinner.tracking.table)
    for descent in pinner.descendants.unfinished():
        pinner.agenda.add(descent, SCAN)
    if damage is not None:
        warn(f"The ledger '{ledger.path}' is damaged: {damage}; going on with what could be read of it")
