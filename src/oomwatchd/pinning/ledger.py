"""What we hold, and what the kernel forgets: per pinned process the value it had before, per descendant its lineage.

Kept in a file too, appended to before each write of a value: one line a change, the last one of a process counts.
Identity is pid and start time. The file doesn't hold what the kernel still tells of a process, its name and program."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from oomwatchd.pinning import ledger_codec as codec
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.ledger_file import LedgerFile
from oomwatchd.pinning.ledger_replay import Replay
from oomwatchd.pinning.lineage import Node

_DEPARTED = 1024
"""So many held processes that have died are remembered until somebody asks."""
_RETRY_SECONDS = 10.0
"""Where the file can't be written, it is tried again after so long."""
_SHARED_TEXTS = 1024


class Ledger:
    """All nodes by PID, and their file. `path` None: nothing is saved (a dry run).

    It has more public methods than other classes, 20: each change of a node is one, so that no change misses the file,
    and the file itself is in ledger_file.py, ledger_codec.py and ledger_replay.py."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self.nodes: dict[int, Node] = {}
        self.runtime_pins: dict[int, RuntimePin] = {}
        self._died_unseen: dict[int, Node] = {}
        self._departed: deque[Node] = deque(maxlen=_DEPARTED)
        self.boot_id = boot_id
        self._file = None if path is None else LedgerFile(path)
        self._retry_at = 0.0
        self._pending: list[str] = []
        self._texts: dict[str, str] = {}

    @property
    def path(self) -> str | None:
        return None if self._file is None else self._file.path

    @property
    def trouble(self) -> str:
        """Why what changes isn't saved at present; empty: it is."""
        return "" if self._file is None else self._file.trouble

    # What is held

    def held(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.hold is not None]

    def share(self, text: str) -> str:
        """A text equal to `text`, one for all nodes: most of those that a rule fits have the same."""
        if len(self._texts) >= _SHARED_TEXTS:
            self._texts.clear()
        return self._texts.setdefault(text, text)

    def add(self, node: Node) -> None:
        self.nodes[node.pid] = node

    def enter(self, node: Node) -> None:
        """Add the node and save it as it is now: before a write of a value, so that no crash loses the one before."""
        self.nodes[node.pid] = node
        self.record(node)
        self.flush()

    def died(self, pid: int) -> None:
        """The process is gone. Its node lives on in those of its descendants."""
        node = self.nodes.pop(pid, None)
        if node is not None:
            node.dead = True
            if node.hold is not None:
                self._departed.append(node)
            self._log_removal(node)
        self.runtime_pins.pop(pid, None)

    def take_departed(self) -> list[Node]:
        """The held processes that were found to be dead since the last call, the last ones if they are many."""
        departed = list(self._departed)
        self._departed.clear()
        return departed

    def take_died_unseen(self) -> dict[int, Node]:
        """Held processes that were found to have died when the file was read, by PID; once."""
        taken, self._died_unseen = self._died_unseen, {}
        return taken

    def forget(self, node: Node) -> None:
        """The process lives, but is nothing to us any more."""
        del self.nodes[node.pid]
        self._log_removal(node)

    def turn_away(self, node: Node) -> None:
        """A newcomer that was entered isn't held after all."""
        del self.nodes[node.pid]
        node.hold = None
        if self._file is not None:
            self._pending.append(codec.encode_newcomer(node))

    def dead_origins(self) -> list[Node]:
        """Dead processes that were held and have descendants that live."""
        found: dict[int, Node] = {}
        for node in self.nodes.values():
            for above in node.ancestors():
                if above.dead and above.hold is not None:
                    found[id(above)] = above
        return list(found.values())

    # The file

    def load(
        self, is_alive: Callable[[int, int], bool], starttime_of: Callable[[int], int | None] = lambda _pid: None
    ) -> str | None:
        """Read the file back, and open it for what comes. Returns what was wrong with what it says, for a warning;
        `trouble` says whether it can be written. `is_alive` is asked about a PID and a start time, `starttime_of` about
        a PID alone (None: it is nobody's)."""
        if self._file is None:
            return None
        damage = None
        try:
            replay = Replay(self.share)
            damage = replay.read(self._file.read(), self.boot_id, is_alive, starttime_of)
            self.nodes, self.runtime_pins = replay.nodes, replay.runtime_pins
            self._died_unseen = replay.died_unseen
        except FileNotFoundError:
            pass
        except OSError as error:
            damage = error.strerror
        self.rewrite()
        return damage

    def record(self, node: Node) -> None:
        """Note the node as it is now; saved by the next flush()."""
        node.recorded = node.starttime is not None
        if self._file is None:
            return
        if node.recorded:
            self._pending.append(codec.encode_node(node, _recorded_above(node)))
        elif node.hold is not None:
            self._pending.append(codec.encode_newcomer(node))

    def add_pin(self, pin: RuntimePin) -> None:
        self.runtime_pins[pin.pid] = pin
        if self._file is not None:
            self._pending.append(codec.encode_pin(pin))

    def remove_pin(self, pin: RuntimePin) -> None:
        self.runtime_pins.pop(pin.pid, None)
        if self._file is not None:
            self._pending.append(codec.encode_pin(pin, ended=True))

    def _log_removal(self, node: Node) -> None:
        if self._file is not None and node.recorded and node.starttime is not None:
            self._pending.append(codec.encode_gone(node))

    def flush(self) -> None:
        """Save what was recorded; `trouble` says whether it could be."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        if self._file is not None:
            self._file.append(pending)

    def tidying(self, now: float) -> Iterator[None]:
        """Write the file anew if most of it is superseded or someone has removed it, or if it could not be written and
        it is time to try again;
        pauses now and then. `now` is CLOCK_MONOTONIC in seconds."""
        if self._file is None:
            return
        if self._file.trouble:
            if now < self._retry_at:
                return
            self._retry_at = now + _RETRY_SECONDS
        elif not (self._file.wasteful or self._file.is_gone):
            return
        yield from self._rewriting()

    def rewrite(self) -> None:
        """Write the file anew, at once; `trouble` says whether it could be."""
        for _ in self._rewriting():
            pass

    def _rewriting(self) -> Iterator[None]:
        if self._file is None:
            return
        self.flush()
        members = list(self._with_ancestors())
        for node in members:
            node.recorded = node.starttime is not None
        yield from self._file.writing_anew(self._lines_of(members, list(self.runtime_pins.values())))

    def _lines_of(self, members: Sequence[Node], pins: Sequence[RuntimePin]) -> Iterator[str]:
        yield codec.encode_header(self.boot_id)
        for node in members:
            if node.recorded:
                yield codec.encode_node(node, _recorded_above(node))
        for pin in pins:
            yield codec.encode_pin(pin)

    def _with_ancestors(self) -> Iterator[Node]:
        """Every node, and the dead ones that they descend from, each after those that it descends from."""
        seen: set[int] = set()
        for node in self.nodes.values():
            line: list[Node] = []
            above: Node | None = node
            while above is not None and id(above) not in seen and (above.dead or above is node):
                seen.add(id(above))
                line.append(above)
                above = above.parent
            yield from (member for member in reversed(line) if member is node or member.affects_descendants)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _recorded_above(node: Node) -> Node | None:
    """The nearest ancestor that the file knows of and that means something."""
    above = node.parent
    while above is not None and (not above.recorded or (above.dead and not above.affects_descendants)):
        above = above.parent
    return above
