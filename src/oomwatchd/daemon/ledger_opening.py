"""The daemon's ledger: where it is, and what to say where it can't be read or written."""

import os
from collections.abc import Callable

from oomwatchd.daemon.failure import Failure
from oomwatchd.kernel import procfs
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.pinner import Pinner


def new_ledger(directory: str, *, dry_run: bool) -> Ledger:
    """An empty ledger in the runtime directory. What a dry run holds is made up, so its ledger has no file."""
    return Ledger(None if dry_run else f"{directory}/ledger.json", procfs.read_boot_id())


def open_ledger(pinner: Pinner, note: Callable[[str], None]) -> None:
    """Read the pinner's ledger back from its file. `note` is called with a warning where that is damaged. Raises
    Failure where it can't be written; for root that is no reason not to start: it is logged, and tried again."""
    ledger = pinner.ledger
    if ledger.path is None:
        return
    damage = ledger.load(procfs.is_alive, procfs.starttime_of)
    if ledger.trouble and os.geteuid() != 0:
        raise Failure(f"Failed to write '{ledger.path}': {ledger.trouble}. Run as root, or --dry-run")
    pinner.tracking.use(pinner.tracking.table)
    if damage is not None:
        note(f"The ledger '{ledger.path}' is damaged: {damage}; going on with what could be read of it")
