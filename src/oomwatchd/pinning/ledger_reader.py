"""Reads the lines of the ledger's file back: the last one of a process counts."""

from collections.abc import Callable, Iterable, Iterator

from oomwatchd.base.clock import boottime_as_epoch
from oomwatchd.pinning import ledger_codec as codec
from oomwatchd.pinning.ledger_codec import DamagedLedger, NodeLine, RuntimePin
from oomwatchd.pinning.lineage import Node

_MOST_NODES = 1 << 17
"""A file that tells of more processes isn't believed further: each takes about 600 bytes of memory."""


class LedgerReader:
    """What the lines tell of. `share` gives one text for all that are equal to it."""

    def __init__(self, share: Callable[[str], str]) -> None:
        self.nodes: dict[int, Node] = {}
        """Of processes that live, by PID."""
        self.died_unseen: dict[int, Node] = {}
        """Of processes that were pinned, and have ended without the file telling of it."""
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
        """Take over what the lines say, if they are about this boot. Returns what is wrong with them. `is_alive` is
        asked about a PID and a start time, `starttime_of` about a PID alone (None: it is nobody's)."""
        try:
            if codec.decode_header(next(lines, b"")) != boot_id:
                return None  # another boot's processes: nothing is wrong, nothing is left
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
        elif (node.pid, node.starttime) in self._known:  # as it was when it ended
            self._known[node.pid, node.starttime][0].dead = True

    def _know(self, starttime: int, entry: NodeLine) -> None:
        """Raises DamagedLedger."""
        node, _ = entry
        if len(self._known) >= _MOST_NODES and (node.pid, starttime) not in self._known:
            raise DamagedLedger("more processes than there can be")
        node.left_to = self._share(node.left_to)
        if node.pin is not None:
            node.pin.rule, node.pin.source = self._share(node.pin.rule), self._share(node.pin.source)
        self._known[node.pid, starttime] = entry

    def _identify_early_pins(self, starttime_of: Callable[[int], int | None]) -> None:
        """Early pins whose start time no later line has: who has their PID now is that process, if he isn't younger."""
        for node in self._early.values():
            node.starttime = starttime_of(node.pid)
            if node.pin is not None and node.starttime is not None and node.starttime <= (node.started_by or 0):
                try:
                    self._know(node.starttime, (node, None))
                except DamagedLedger:
                    self._bad += 1

    def _find_parents(self) -> None:
        """Parents come last, since the line of a parent may come after those of its children."""
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
            elif not gone and node.pin is not None:
                self.died_unseen[pid] = node
        pins = self.runtime_pins.values()
        self.runtime_pins = {pin.pid: pin for pin in pins if pin.ends != 0.0 and is_alive(pin.pid, pin.starttime)}


def _break_circles(nodes: Iterable[Node]) -> int:
    """Let nobody descend from itself, which only a damaged file can bring about. Returns how many would."""
    sound: set[int] = set()
    broken = 0
    for node in nodes:
        walked: dict[int, Node] = {}
        above: Node | None = node
        while above is not None and id(above) not in sound and id(above) not in walked:
            walked[id(above)] = above
            last, above = above, above.parent
        if above is not None and id(above) in walked:
            last.parent = None
            broken += 1
        sound.update(walked)
    return broken
