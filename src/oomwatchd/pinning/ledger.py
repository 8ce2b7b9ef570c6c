"""The ledger: what the kernel forgets of processes. It has the original value of each pinned process, and the lineage
of each descendant.

The ledger is also saved in a file. Before each write of a value, a line is added to the file, and the last line of a
process counts. A process is identified by PID and start time. Names and executables aren't in the file, because the
kernel shows them."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from oomwatchd.base.clock import ticks_since_boot
from oomwatchd.pinning import ledger_codec as codec
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.ledger_file import LedgerFile
from oomwatchd.pinning.ledger_reader import LedgerReader
from oomwatchd.pinning.lineage import Node

_DEPARTED = 1024
"""The most dead pinned processes that are remembered."""
_LATELY_SECONDS = 10.0
"""How long a dead pinned process is found by its PID. Later, the PID is more likely another process's."""
_RETRY_SECONDS = 10.0
"""How long after a failure the file is written again."""
_SHARED_TEXTS = 1024


class Ledger:
    """The nodes by PID, and their file. `path` None: nothing is saved (a dry run).

    It has more public methods than other classes. Each kind of change of a node has one, so that no change misses the
    file. The file itself is in ledger_file.py, ledger_codec.py and ledger_reader.py."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self.nodes: dict[int, Node] = {}
        self.runtime_pins: dict[int, RuntimePin] = {}
        self._died_unseen: dict[int, Node] = {}
        self._departed: deque[tuple[float, Node]] = deque(maxlen=_DEPARTED)
        """The last pinned processes that have died, each with the time (CLOCK_MONOTONIC, seconds)."""
        self._untaken = 0
        """How many of them take_departed() hasn't returned yet."""
        self.boot_id = boot_id
        self._file = None if path is None else LedgerFile(path)
        self._retry_at = 0.0
        self._pending: list[str] = []
        self._texts: dict[str, str] = {}

    @property
    def path(self) -> str | None:
        """The path of the file; None: nothing is saved."""
        return None if self._file is None else self._file.path

    @property
    def trouble(self) -> str:
        """Why changes can't be saved now; empty: they are saved."""
        return "" if self._file is None else self._file.trouble

    # What is pinned

    def pinned(self) -> list[Node]:
        """The nodes of all pinned processes."""
        return [node for node in self.nodes.values() if node.pin is not None]

    def share(self, text: str) -> str:
        """A copy of `text` that all nodes share, because most processes that a rule fits have the same texts."""
        if len(self._texts) >= _SHARED_TEXTS:
            self._texts.clear()
        return self._texts.setdefault(text, text)

    def add(self, node: Node) -> None:
        """Add the node. It isn't saved by that: see record() and enter()."""
        self.nodes[node.pid] = node

    def enter(self, node: Node) -> None:
        """Add the node, and save it at once. This is called before a value is written, so that no crash loses the
        original."""
        self.nodes[node.pid] = node
        self.record(node)
        self.flush()

    def died(self, pid: int) -> None:
        """Note that the process is gone. Its node stays reachable from the nodes of its descendants."""
        node = self.nodes.pop(pid, None)
        if node is not None:
            node.dead = True
            if node.pin is not None:
                self._departed.append((time.monotonic(), node))
                self._untaken += 1
            self._log_removal(node)
        self.runtime_pins.pop(pid, None)

    def take_departed(self) -> list[Node]:
        """The pinned processes that have died since the last call, the last 1,024 of them."""
        count, self._untaken = min(self._untaken, len(self._departed)), 0
        return [node for _, node in self._departed][len(self._departed) - count :]

    def lately(self, pid: int) -> Node | None:
        """The node of the process, also if it was pinned and has died in the last ten seconds. None: there is none."""
        if pid in self.nodes:
            return self.nodes[pid]
        earliest = time.monotonic() - _LATELY_SECONDS
        return next((node for died, node in reversed(self._departed) if node.pid == pid and died > earliest), None)

    def take_died_unseen(self) -> dict[int, Node]:
        """The pinned processes that had died before the file was read, by PID. Only the first call returns them."""
        taken, self._died_unseen = self._died_unseen, {}
        return taken

    def forget(self, node: Node) -> None:
        """Remove a living process that needn't be tracked any more."""
        del self.nodes[node.pid]
        self._log_removal(node)

    def enter_early_pin(self, pid: int, template: bytes) -> None:
        """Save an early pin: the start time of the process isn't known yet. This is called before the value is written;
        add() follows. `template`: the result of early_pin_template()."""
        self.flush()
        if self._file is not None:
            self._file.append(template % (pid, ticks_since_boot(time.monotonic_ns()), int(time.time())))

    def cancel_early_pin(self, pid: int) -> None:
        """Note that the process of enter_early_pin() isn't pinned after all."""
        self._pending.append(codec.encode_early_pin(Node(pid, None, None)))

    def dead_origins(self) -> list[Node]:
        """The dead processes that were pinned, and that have living descendants."""
        found: list[Node] = []
        seen: set[int] = set()
        for node in self.nodes.values():
            above = node.parent
            while above is not None and above.number not in seen:
                seen.add(above.number)
                if above.dead and above.pin is not None:
                    found.append(above)
                above = above.parent
        return found

    # The file

    def load(
        self, is_alive: Callable[[int, int], bool], starttime_of: Callable[[int], int | None] = lambda _pid: None
    ) -> str | None:
        """Read the file, and open it for further changes. Returns what is damaged in it, for a warning; None: nothing.
        `trouble` says whether it can be written. `is_alive` is called with a PID and a start time. `starttime_of` is
        called with a PID; None: no process has it."""
        if self._file is None:
            return None
        damage = None
        try:
            reader = LedgerReader(self.share)
            damage = reader.read(self._file.read(), self.boot_id, is_alive, starttime_of)
            self.nodes, self.runtime_pins = reader.nodes, reader.runtime_pins
            self._died_unseen = reader.died_unseen
        except FileNotFoundError:
            pass
        except OSError as error:
            damage = error.strerror
        self.rewrite()
        return damage

    def record(self, node: Node) -> None:
        """Note the node as it is now. The next flush() saves it."""
        node.recorded = node.starttime is not None
        if node.recorded:
            self._pending.append(codec.encode_node(node, _recorded_above(node)))
        elif node.pin is not None:
            self._pending.append(codec.encode_early_pin(node))

    def add_pin(self, pin: RuntimePin) -> None:
        """Add a runtime pin. The next flush() saves it."""
        self.runtime_pins[pin.pid] = pin
        self._pending.append(codec.encode_pin(pin))

    def remove_pin(self, pin: RuntimePin) -> None:
        """Remove a runtime pin. The next flush() saves that."""
        self.runtime_pins.pop(pin.pid, None)
        self._pending.append(codec.encode_pin(pin, ended=True))

    def _log_removal(self, node: Node) -> None:
        if node.recorded:
            self._pending.append(codec.encode_gone(node))

    def flush(self) -> None:
        """Save what was recorded. `trouble` says whether that has failed."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        if self._file is not None:
            self._file.append("\n".join([*pending, ""]).encode())

    def tidying(self, now: float) -> Iterator[None]:
        """Write the file anew if most of its lines are superseded, if someone has changed it, or if it could not be
        written and it is time to try again. It yields now and then, so that the caller may pause. `now`:
        CLOCK_MONOTONIC, in seconds."""
        if self._file is None:
            return
        if self._file.trouble:
            if now < self._retry_at:
                return
            self._retry_at = now + _RETRY_SECONDS
        elif not (self._file.wasteful or self._file.was_changed):
            return
        yield from self._rewriting()

    def rewrite(self) -> None:
        """Write the file anew, at once. `trouble` says whether that has failed."""
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
        """All nodes, and their dead ancestors. Each comes after its ancestors."""
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
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _recorded_above(node: Node) -> Node | None:
    """The nearest ancestor that is in the file and affects its descendants."""
    above = node.parent
    while above is not None and (not above.recorded or (above.dead and not above.affects_descendants)):
        above = above.parent
    return above
