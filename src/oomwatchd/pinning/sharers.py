"""Parents that get the value of a pin although no rule fits them, because they share the memory of the pinned process.

The kernel gives one value to all processes that share their memory, __set_oom_adj() of fs/proc/base.c. Those are made
by clone(2) with CLONE_VM, and neither CLONE_THREAD nor CLONE_VFORK. Such a parent is pinned by the same rule, until one
of the two has left the memory. Then it is released."""

import contextlib
import time
from dataclasses import dataclass

from oomwatchd.base.uapi import PF_FORKNOEXEC
from oomwatchd.kernel.exec_filter import ALL_KINDS
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.family import Family
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Pin
from oomwatchd.pinning.look import Look, Written
from oomwatchd.pinning.tracking import Tracking
from oomwatchd.pinning.writer import Writer


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent of a process that is about to be pinned, and its value."""

    pid: int
    starttime: int
    """Clock ticks since boot."""
    value: int


class Sharers:
    """Finds the parents of pinned processes that share their memory and that no rule fits, and pins them."""

    def __init__(self, ledger: Ledger, family: Family, tracking: Tracking, writer: Writer, proc: str) -> None:
        self._ledger = ledger
        self._family = family
        self._tracking = tracking
        self._writer = writer
        self._proc = proc

    def parent_of(self, look: Look, stat: Stat) -> Parent | None:
        """The parent of a process, if the process may share its memory and no rule fits it. This is called before a pin
        is written. None: there is no such parent. `stat`: of the process."""
        if not stat.flags & PF_FORKNOEXEC or stat.ppid <= 1:
            return None
        above = self._ledger.nodes.get(stat.ppid)
        if above is not None and above.pin is not None and above.memory_of is not look.node:
            return None
        with contextlib.suppress(Vanished, OSError), ProcessDir(stat.ppid, self._proc) as directory:
            return Parent(stat.ppid, directory.read_stat().starttime, directory.read_oom_score_adj())
        return None

    def note_write(self, look: Look, parent: Parent) -> None:
        """After a pin was written: if that has changed the value of the parent, too, pin the parent. `parent`: what
        parent_of() has returned."""
        written = look.written
        if written is None or written.was != parent.value or written.target == parent.value:
            return
        with contextlib.suppress(Vanished, OSError), ProcessDir(parent.pid, self._proc) as directory:
            stat = directory.read_stat()
            if stat.starttime == parent.starttime and directory.read_oom_score_adj() == written.target:
                self._pin(Look(directory, self._family.node_of(parent.pid, stat), look.trigger, stat), look, written)

    def _pin(self, parent: Look, look: Look, written: Written) -> None:
        """Pin the parent, which has the value already."""
        node, before = parent.node, parent.node.pin
        original = written.was if before is None else before.original
        node.change_pin(Pin(written.rule, original, written.target, original, time.time(), look.trigger.source))
        node.memory_of = look.node
        self._ledger.enter(node)
        self._tracking.hear(node, ALL_KINDS)
        if before is None:
            self._writer.tell_pin(parent, Written(written.rule, written.was, written.target, False, None))
