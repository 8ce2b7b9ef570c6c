"""One process during the transaction, and the facts of it that people want to know."""

import os
from dataclasses import dataclass

from oomwatchd.kernel import procfs
from oomwatchd.kernel.executable import split_deleted
from oomwatchd.kernel.facts import View
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.proc_status import parse_status
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.kernel.systemd_cgroups import parse_cgroup, parse_units
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.rules.criteria import Process

KEPT_PATH = 255
"""A longer path of an executable isn't kept in the node. It is read again when someone asks for it."""


@dataclass(slots=True)
class Written:
    """A value that has been written because a rule fits. Not frozen, as `Process` isn't."""

    rule: str
    was: int
    """What it showed until then."""
    target: int
    same: bool
    """Whether it was pinned so before, and somebody had changed the value."""
    latency_us: int | None
    """From the kernel's timestamp of the event to the end of the write; None: there was no event."""


@dataclass(slots=True)
class Look:
    """One process during the transaction."""

    directory: ProcessDir
    node: Node
    trigger: Trigger
    stat: Stat | None = None
    """None: not read yet."""
    process: Process | None = None
    """None: no more than its executable and name had to be read."""
    exe: str = ""
    """Its executable, if that has been read, however long."""
    tracked: bool = False
    """Whether the ledger had it before."""
    rule_before: str = ""
    """The rule that fitted before; empty: none did."""
    before: Pin | None = None
    """How it was pinned before."""
    changed: bool = False
    """Whether its pin has begun, changed or ended."""
    written: Written | None = None
    """What was written, if a value was, because a rule fits."""

    @property
    def comm(self) -> str:
        """The task's name; for one that was pinned early and is gone already, the name that it got from its
        executable."""
        if self.stat is not None:
            return procfs.text(self.stat.comm)
        return procfs.text(os.fsencode(self.exe).rpartition(b"/")[2][:15])


def describe(look: Look, ledger: Ledger, view: View | None) -> None:
    """Keep in the node what people want to know of the process: the facts that have been read, and, if there is a
    `view`, the others, read now. Called after the write, so that it doesn't wait for this. Equal texts are shared,
    since there may be thousands of nodes."""
    node, process, directory, share = look.node, look.process, look.directory, ledger.share
    exe, uid, unit = (None, None, None) if process is None else (process.exe, process.uid, process.unit)
    exe = exe or look.exe or None
    try:
        if view is not None:
            uid = parse_status(directory.read("status")).uid if uid is None else uid
            exe = procfs.text(split_deleted(directory.read_exe() or b"")[0]) if exe is None else exe
            if unit is None:
                unit = parse_units(procfs.text(parse_cgroup(directory.read("cgroup"), view.hierarchy))).unit
            node.described = True
    except (Vanished, OSError):
        pass  # the node has the facts that could be read
    node.comm = share(look.comm)
    if exe is not None:
        look.exe = exe
        node.exe = share(exe) if len(exe) <= KEPT_PATH else ""
    if uid is not None:
        node.uid = uid
    if unit is not None:
        node.unit = share(unit)
