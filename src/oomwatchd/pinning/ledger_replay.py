"""Reads the lines of the ledger's file back: the last one of a process counts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from oomwatchd.base.clock import boottime_as_epoch
from oomwatchd.pinning import ledger_codec as codec
from oomwatchd.pinning.ledger_codec import Damaged, EarlyPinEntry, NodeEntry, PinEntry, RuntimePin
from oomwatchd.pinning.lineage import Node

_MOST_NODES = 1 << 17
"""A file that tells of more processes isn't believed further: each takes about 600 bytes of memory."""


class Replay:
    """What the lines tell of. `share` gives one text for all that are equal to it."""

    def __init__(self, share: Callable[[str], str]) -> None:
        self.nodes: dict[int, Node] = {}
        """Of processes that live, by PID."""
        self.died_unseen: dict[int, Node] = {}
        """Of processes that were pinned, and have ended without the file telling of it."""
        self.runtime_pins: dict[int, RuntimePin] = {}
        self._share = share
        self._known: dict[tuple[int, int], Node] = {}
        self._early_pins: dict[int, EarlyPinEntry] = {}
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
        except Damaged as damaged:
            return str(damaged)
        boot_epoch = boottime_as_epoch(0.0)
        for line in filter(None, lines):
            try:
                self._take(codec.decode(line, boot_epoch))
            except Damaged:
                self._bad += 1
        self._identify_early_pins(starttime_of)
        self._part_by_life(is_alive)
        self._bad += _break_circles(self._known.values())
        return f"{self._bad} of its lines can't be read" if self._bad else None

    def _take(self, entry: NodeEntry | EarlyPinEntry | PinEntry) -> None:
        """Raises Damaged."""
        self._early_pins.pop(entry.pid, None)
        if isinstance(entry, EarlyPinEntry):
            self._early_pins[entry.pid] = entry
        elif isinstance(entry, PinEntry):
            self.runtime_pins.pop(entry.pid, None)
            if not entry.ended:
                self.runtime_pins[entry.pid] = entry.pin
        else:
            self._take_node(entry)

    def _take_node(self, entry: NodeEntry) -> None:
        """Raises Damaged."""
        node = self._node(entry.pid, entry.starttime)
        node.dead = entry.gone
        if entry.gone:
            return
        node.parent = None
        if entry.parent is not None:
            node.parent = self._node(*entry.parent)  # its own line may come later
            node.parent.has_children = True
        node.settled_ns = entry.settled_ns
        node.left_to = self._share(entry.left_to)
        pin = entry.pin
        node.pin = pin and replace(pin, rule=self._share(pin.rule), source=self._share(pin.source))
        node.verified_exe = entry.verified_exe

    def _node(self, pid: int, starttime: int) -> Node:
        node = self._known.get((pid, starttime))
        if node is None:
            if len(self._known) >= _MOST_NODES:
                raise Damaged("more processes than there can be")
            node = self._known[pid, starttime] = Node(pid, starttime, None)
        return node

    def _identify_early_pins(self, starttime_of: Callable[[int], int | None]) -> None:
        """Newcomers whose start time no later line has: who has their PID now is that process, if he isn't younger."""
        for early in self._early_pins.values():
            starttime = starttime_of(early.pid)
            if early.pin is None or starttime is None or starttime > early.started_by:
                continue
            try:
                self._take_node(NodeEntry(early.pid, starttime, pin=early.pin))
            except Damaged:
                self._bad += 1

    def _part_by_life(self, is_alive: Callable[[int, int], bool]) -> None:
        for (pid, starttime), node in self._known.items():
            node.recorded = True
            gone = node.dead
            node.dead = gone or not is_alive(pid, starttime)
            if not node.dead:
                self.nodes[pid] = node
            elif not gone and node.pin is not None:
                self.died_unseen[pid] = node
        self.runtime_pins = {pid: pin for pid, pin in self.runtime_pins.items() if is_alive(pin.pid, pin.starttime)}


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
