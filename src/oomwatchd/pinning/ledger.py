"""What we hold, and what the kernel forgets: per pinned process the value it had before, per descendant its lineage.

Kept in a file that is appended to before each write of oom_score_adj, so that a crash at any point forgets
nothing: one line of JSON a change, the last one of a process counts. Identity is pid and start time."""

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quote

from oomwatchd.pinning.lineage import Birth, Hold, Node

_FORMAT = 1
_SLACK_LINES = 512
"""So many superseded lines may stand in the file besides one for each live entry."""
_DEPARTED = 1024
"""So many held processes that have died are remembered until somebody asks."""


@dataclass(frozen=True, slots=True)
class RuntimePin:
    """A rule for one process, made by `oomwatchctl pin`."""

    pid: int
    starttime: int
    value: int
    until: float | None = None
    """Seconds since the epoch."""

    @property
    def rule(self) -> str:
        return f"pin {self.pid}"


class Ledger:
    """All nodes by pid, and the file. `path` None: nothing is saved (a dry run)."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self.nodes: dict[int, Node] = {}
        self.runtime_pins: dict[int, RuntimePin] = {}
        self._departed: deque[Node] = deque(maxlen=_DEPARTED)
        self._ghosts: dict[int, Node] = {}
        self._older_ghosts: dict[int, Node] = {}
        self.path = path
        self.boot_id = boot_id
        self._descriptor = -1
        self._lines = 0
        self._pending: list[str] = []

    # What is held

    def held(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.hold is not None]

    def add(self, node: Node) -> None:
        self.nodes[node.pid] = node

    def parent(self, pid: int) -> Node | None:
        """The node of a process, also of one that has died so recently that births of its children may be unread."""
        return self.nodes.get(pid) or self._ghosts.get(pid) or self._older_ghosts.get(pid)

    def knows(self, pid: int) -> bool:
        """Whether something is remembered of the PID, be it of a process before."""
        return pid in self.nodes or pid in self._ghosts or pid in self._older_ghosts or pid in self.runtime_pins

    def knows_any(self, births: Sequence[Birth]) -> bool:
        """Whether that is so of a parent or a child among `births`."""
        pids = {pid for _, parent, child in births for pid in (parent, child)}
        return not (
            self.nodes.keys().isdisjoint(pids)
            and self._ghosts.keys().isdisjoint(pids)
            and self._older_ghosts.keys().isdisjoint(pids)
            and self.runtime_pins.keys().isdisjoint(pids)
        )

    def died(self, pid: int) -> None:
        """The process is gone. Its node lives on in those of its descendants."""
        node = self.nodes.pop(pid, None)
        if node is not None:
            node.dead = True
            if node.hold is not None:
                self._departed.append(node)
            self._ghosts[pid] = node
            self._log_removal(node)
        self.runtime_pins.pop(pid, None)

    def take_departed(self) -> list[Node]:
        """The held processes that were found to be dead since the last call, the last ones if they are many."""
        departed = list(self._departed)
        self._departed.clear()
        return departed

    def reborn(self, pid: int) -> None:
        """The PID is that of a new process now."""
        self.died(pid)
        self._ghosts.pop(pid, None)
        self._older_ghosts.pop(pid, None)

    def lay_ghosts(self) -> None:
        """To be called when all events have been dealt with that the kernel had sent. Those who were dead before that
        have no unread births; those whose death was found meanwhile wait for the next time."""
        self._older_ghosts, self._ghosts = self._ghosts, {}

    def forget(self, node: Node) -> None:
        """The process lives, but is nothing to us any more."""
        del self.nodes[node.pid]
        self._log_removal(node)

    def dead_origins(self) -> list[Node]:
        """Dead processes that were held and have descendants that live."""
        found: dict[int, Node] = {}
        for node in self.nodes.values():
            for above in node.ancestors():
                if above.dead and above.hold is not None:
                    found[id(above)] = above
        return list(found.values())

    # The file

    def load(self, is_alive: Callable[[int, int], bool]) -> str | None:
        """Read the file back, and open it for what comes. Returns what was wrong with it, for a warning."""
        if self.path is None:
            return None
        trouble = None
        try:
            with open(self.path, "rb") as file:
                trouble = self._replay(file.read(), is_alive)
        except FileNotFoundError:
            pass
        except OSError as error:
            trouble = error.strerror
        self.rewrite()
        return trouble

    def _replay(self, raw: bytes, is_alive: Callable[[int, int], bool]) -> str | None:
        lines = raw.split(b"\n")
        try:
            header = json.loads(lines[0])
            if header["oomwatchd_ledger"] != _FORMAT:
                return "it is of another version"
            if header["boot_id"] != self.boot_id:
                return None  # another boot's processes: nothing is wrong, nothing is left
        except (ValueError, KeyError, TypeError):
            return "its first line isn't that of a ledger"
        nodes: dict[tuple[int, int], Node] = {}
        bad = 0
        for line in lines[1:]:
            if not line:
                continue
            try:
                self._replay_line(json.loads(line), nodes)
            except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                bad += 1
        for (pid, starttime), node in nodes.items():
            node.recorded = True
            node.dead = node.dead or not is_alive(pid, starttime)
            if not node.dead:
                self.nodes[pid] = node
            if _is_its_own_ancestor(node):
                node.parent = None
                bad += 1
        self.runtime_pins = {pid: pin for pid, pin in self.runtime_pins.items() if is_alive(pin.pid, pin.starttime)}
        return f"{bad} of its lines can't be read" if bad else None

    def _replay_line(self, entry: dict[str, object], nodes: dict[tuple[int, int], Node]) -> None:
        pid, starttime = _integer(entry["pid"]), _integer(entry["starttime"])
        if "pin" in entry:
            until = entry.get("until")
            self.runtime_pins.pop(pid, None)
            if entry["pin"] is not None:
                limit = float(until) if isinstance(until, (int, float)) else None
                self.runtime_pins[pid] = RuntimePin(pid, starttime, _score(entry["pin"]), limit)
            return
        node = _node(nodes, pid, starttime)
        if entry.get("gone"):
            node.dead = True
            return
        node.dead = False
        above = entry.get("parent")
        node.parent = None
        if isinstance(above, list):
            node.parent = _node(nodes, _integer(above[0]), _integer(above[1]))  # its own line may come later
            node.parent.has_children = True
        node.settled_ns = _integer(entry.get("settled_ns", 0))
        node.comm, node.exe, node.unit = (str(entry.get(key, "")) for key in ("comm", "exe", "unit"))
        node.left_to = str(entry.get("left_to", ""))
        uid = entry.get("uid")
        node.uid = int(uid) if isinstance(uid, int) else None
        hold = entry.get("hold")
        node.hold = _hold(hold) if isinstance(hold, dict) else None

    def record(self, node: Node) -> None:
        """Note the node as it is now; saved by the next flush()."""
        if node.starttime is None:
            return
        node.recorded = True
        if self.path is None:
            return
        above = node.parent
        while above is not None and (not above.recorded or (above.dead and not above.matters)):
            above = above.parent
        # Put together by hand, since each pin waits for it: the encoder takes five times as long.
        line = f'{{"pid":{node.pid},"starttime":{node.starttime}'
        if above is not None:
            line += f',"parent":[{above.pid},{above.starttime}]'
        if node.left_to:
            line += f',"left_to":{_quote(node.left_to)}'
        if node.settled_ns > 0:
            line += f',"settled_ns":{node.settled_ns}'
        hold = node.hold
        if hold is not None:
            uid = "null" if node.uid is None else node.uid
            line += (
                f',"hold":{{"rule":{_quote(hold.rule)},"first":{hold.first},"value":{hold.value},'
                f'"child_value":{hold.child_value},"since":{hold.since!r},"source":{_quote(hold.source)}}},'
                f'"comm":{_quote(node.comm)},"exe":{_quote(node.exe)},"uid":{uid},"unit":{_quote(node.unit)}'
            )
        self._pending.append(line + "}")

    def add_pin(self, pin: RuntimePin) -> None:
        self.runtime_pins[pin.pid] = pin
        self.record_pin(pin)

    def remove_pin(self, pin: RuntimePin) -> None:
        self.runtime_pins.pop(pin.pid, None)
        self.record_pin(pin, ended=True)

    def record_pin(self, pin: RuntimePin, *, ended: bool = False) -> None:
        """Note that a runtime pin began or ended."""
        if self.path is None:
            return
        value = None if ended else pin.value
        entry = {"pid": pin.pid, "starttime": pin.starttime, "pin": value, "until": pin.until}
        self._pending.append(json.dumps(entry))

    def _log_removal(self, node: Node) -> None:
        if self.path is not None and node.recorded and node.starttime is not None:
            self._pending.append(f'{{"pid":{node.pid},"starttime":{node.starttime},"gone":true}}')

    def flush(self) -> None:
        """Append what was recorded. Raises OSError."""
        if not self._pending or self._descriptor < 0:
            self._pending.clear()
            return
        data = ("\n".join(self._pending) + "\n").encode()
        self._lines += len(self._pending)
        self._pending.clear()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def compact(self) -> None:
        """Rewrite the file if most of it is superseded. Raises OSError."""
        if self._lines > 2 * len(self.nodes) + _SLACK_LINES:
            self.rewrite()

    def rewrite(self) -> None:
        """Write the file anew, whole. Raises OSError."""
        if self.path is None:
            return
        self._pending.clear()
        members = list(self._with_ancestors())
        for node in members:
            node.recorded = node.starttime is not None
        for node in members:
            self.record(node)
        for pin in self.runtime_pins.values():
            self.record_pin(pin)
        header = json.dumps({"oomwatchd_ledger": _FORMAT, "boot_id": self.boot_id})
        content = "\n".join([header, *self._pending]) + "\n"
        self._lines = len(self._pending)
        self._pending.clear()
        temporary = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            data = content.encode()
            while data:
                data = data[os.write(descriptor, data) :]
            os.rename(temporary, self.path)
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor = descriptor

    def _with_ancestors(self) -> Iterator[Node]:
        """Every node, and the dead ones that they descend from."""
        seen: set[int] = set()
        for node in self.nodes.values():
            for member in reversed([node, *(above for above in node.ancestors() if above.dead)]):
                if id(member) not in seen:
                    seen.add(id(member))
                    yield member

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _node(nodes: dict[tuple[int, int], Node], pid: int, starttime: int) -> Node:
    if (pid, starttime) not in nodes:
        nodes[pid, starttime] = Node(pid, starttime, None)
    return nodes[pid, starttime]


def _is_its_own_ancestor(node: Node) -> bool:
    """Whether walking up from `node` never ends, which only a damaged file can bring about."""
    fast: Node | None = node
    slow: Node | None = node
    while fast is not None and slow is not None:
        slow, fast = slow.parent, None if fast.parent is None else fast.parent.parent
        if slow is not None and slow is fast:
            return True
    return False


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value


def _score(value: object) -> int:
    score = _integer(value)
    if not -1000 <= score <= 1000:
        raise ValueError(value)
    return score


def _hold(entry: dict[str, object]) -> Hold:
    first, value, child_value = (_score(entry[key]) for key in ("first", "value", "child_value"))
    since = entry["since"]
    if not isinstance(since, (int, float)):
        raise TypeError(since)
    return Hold(
        str(entry["rule"]), first, value, child_value, since if math.isfinite(since) else 0.0, str(entry["source"])
    )
