"""One process during the transaction, and the facts of it that records show."""

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
from oomwatchd.pinning.lineage import Node
from oomwatchd.rules.criteria import Process

KEPT_PATH = 255
"""The longest path of an executable, in characters, that is kept in the node. A longer one is read again when it is
needed."""


@dataclass(slots=True)
class Written:
    """A value that was written because a rule fits. It isn't frozen, because a frozen one takes four times as long to
    make."""

    rule: str
    was: int
    """The value until then."""
    target: int
    same: bool
    """Whether the process was pinned to the same value by the same rule before, so that the write undid a drift."""
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
    """The facts of the process; None: only its executable and name were needed."""
    exe: str = ""
    """The path of its executable, of any length; empty: it wasn't read."""
    tracked: bool = False
    """Whether the process was in the ledger before."""
    rule_before: str = ""
    """The rule that fitted before; empty: none did."""
    changed: bool = False
    """Whether the pin has begun, changed or ended."""
    written: Written | None = None
    """The value that was written because a rule fits; None: none was."""

    @property
    def comm(self) -> str:
        """The task's name. For a process that was pinned early and has ended, it is made of the path of its
        executable."""
        if self.stat is not None:
            return procfs.text(self.stat.comm)
        return procfs.text(os.fsencode(self.exe).rpartition(b"/")[2][:15])


def describe(look: Look, ledger: Ledger, view: View | None) -> None:
    """Keep in the node the facts that records show: those that have been read, and with `view` also the others, which
    are read now. This is called after the write, so that the write doesn't wait for it. Equal texts are shared, because
    there may be thousands of nodes."""
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
