"""Reads the ledger's file. The last line of a process counts."""

from collections.abc import Callable, Iterable, Iterator

from oomwatchd.base.clock import boottime_as_epoch
from oomwatchd.pinning import ledger_codec as codec
from oomwatchd.pinning.ledger_codec import DamagedLedger, NodeLine, RuntimePin
from oomwatchd.pinning.lineage import Node

_MOST_NODES = 1 << 17
"""The most processes that are taken from a file, because each takes about 600 bytes of memory. Lines about further ones
count as damaged."""


class LedgerReader:
    """The processes and pins in the lines of a file. `share`: as Ledger.share()."""

    def __init__(self, share: Callable[[str], str]) -> None:
        self.nodes: dict[int, Node] = {}
        """The living processes, by PID."""
        self.died_unseen: dict[int, Node] = {}
        """Processes that were pinned, and have ended without a line about that, by PID."""
        self.runtime_pins: dict[int, RuntimePin] = {}
        self._share = share
        self._known: dict[tuple[int, int], NodeLine] = {}
        self._early: dict[int, Node] = {}
        self._bad = 0

    def read(
        self,
        lines: Iterator[bytes],
        boot_id: str,
        is_alive: Callable[[int, int], bool],
        starttime_of: Callable[[int], int | None],
    ) -> str | None:
        """Read the lines, if they are of this boot. Returns what is wrong with them; None: nothing is. `is_alive`:
        whether a process with this PID and start time lives. `starttime_of`: the start time of the process with this
        PID; None: there is no such process."""
        try:
            if codec.decode_header(next(lines, b"")) != boot_id:
                return None  # the file is of another boot: its processes are gone
        except DamagedLedger as damaged:
            return str(damaged)
        boot_epoch = boottime_as_epoch(0.0)
        for line in filter(None, lines):
            try:
                self._take(codec.decode(line, boot_epoch))
            except DamagedLedger:
                self._bad += 1
        self._identify_early_pins(starttime_of)
        self._find_parents()
        self._part_by_life(is_alive)
        self._bad += _break_circles(node for node, _ in self._known.values())
        return f"{self._bad} of its lines can't be read" if self._bad else None

    def _take(self, entry: NodeLine | RuntimePin) -> None:
        """Raises DamagedLedger."""
        if isinstance(entry, RuntimePin):
            self.runtime_pins[entry.pid] = entry
            return
        node, _ = entry
        self._early.pop(node.pid, None)
        if node.starttime is None:
            self._early[node.pid] = node
        elif not node.dead:
            self._know(node.starttime, entry)
        elif (node.pid, node.starttime) in self._known:  # the line before has the node as it was when it ended
            self._known[node.pid, node.starttime][0].dead = True

    def _know(self, starttime: int, entry: NodeLine) -> None:
        """Raises DamagedLedger."""
        node, _ = entry
        if len(self._known) >= _MOST_NODES and (node.pid, starttime) not in self._known:
            raise DamagedLedger("more processes than there can be")
        node.left_to = self._share(node.left_to)
        for pin in (node.pin, node.former):
            if pin is not None:
                pin.rule, pin.source = self._share(pin.rule), self._share(pin.source)
        self._known[node.pid, starttime] = entry

    def _identify_early_pins(self, starttime_of: Callable[[int], int | None]) -> None:
        """Find the processes of early pins for which no later line has the start time. The process that has the PID now
        is the pinned one, unless it has started later."""
        for node in self._early.values():
            node.starttime = starttime_of(node.pid)
            if node.pin is not None and node.starttime is not None and node.starttime <= (node.started_by or 0):
                try:
                    self._know(node.starttime, (node, None))
                except DamagedLedger:
                    self._bad += 1

    def _find_parents(self) -> None:
        """Connect the nodes to their parents. This comes last, because the line of a parent may come after those of its
        children."""
        for node, identity in self._known.values():
            if identity is not None and identity in self._known:
                node.parent = self._known[identity][0]
                node.parent.has_children = True

    def _part_by_life(self, is_alive: Callable[[int, int], bool]) -> None:
        for (pid, starttime), (node, _) in self._known.items():
            node.recorded = True
            gone = node.dead
            node.dead = gone or not is_alive(pid, starttime)
            if not node.dead:
                self.nodes[pid] = node
            elif not gone and (node.pin is not None or node.former is not None):
                self.died_unseen[pid] = node
        pins = self.runtime_pins.values()
        self.runtime_pins = {pin.pid: pin for pin in pins if pin.ends != 0.0 and is_alive(pin.pid, pin.starttime)}


def _break_circles(nodes: Iterable[Node]) -> int:
    """Cut the lineage of nodes that would be their own ancestors. Only a damaged file has such nodes. Returns how many
    there were."""
    sound: set[int] = set()
    broken = 0
    for node in nodes:
        walked = set[int]()
        above: Node | None = node
        while above is not None and id(above) not in sound and id(above) not in walked:
            walked.add(id(above))
            last, above = above, above.parent
        if above is not None and id(above) in walked:
            last.parent = None
            broken += 1
        sound.update(walked)
    return broken
