"""What each of those who monitor is told, over real sockets: root, a user, and a user where /proc hides processes."""

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from oomwatchd.daemon.control_socket import ControlSocket
from oomwatchd.daemon.hidden_processes import HiddenProcesses
from oomwatchd.daemon.log_records import WARNING, Record
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.monitor_stream import MonitorStream
from oomwatchd.kernel.proc_connector import PROC_EVENT_COMM, PROC_EVENT_EXEC, PROC_EVENT_EXIT, PROC_EVENT_FORK
from oomwatchd.pinning.decisions import Decision
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.lineage import Node, Pin

USER, OTHER = 65534, 65533
PINNED = Decision("pinned", 42, "db", 0, 300, "exec", "a\udcff", exe="/opt/secret\udcff", uid=USER, unit="db.service")


class Hides(HiddenProcesses):
    """A machine whose /proc hides other users' processes, or doesn't."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer

    def hidden(self) -> bool:
        return self.answer


class Watching:
    """A control socket where each request makes its client a monitor, and those clients."""

    def __init__(self, directory: str) -> None:
        def failed(error: Exception, doing: str = "") -> None:
            raise error

        self.loop = Loop(failed)
        self.control = ControlSocket(
            self.loop, directory, lambda connection, _: self.control.monitor(connection), failed, lambda _: None
        )
        self.control.open()
        self.control.listen()
        self.path = f"{directory}/control"
        self.hides = Hides(False)
        self.stream = MonitorStream(self.control, self.hides)
        self.ledger = Ledger(None, "boot")
        self.sockets: list[socket.socket] = []

    def monitor(self, uid: int) -> socket.socket:
        """A client that monitors as this user."""
        client = socket.socket(socket.AF_UNIX)
        self.sockets.append(client)
        client.settimeout(30)
        os.seteuid(uid)
        try:
            client.connect(self.path)
        finally:
            os.seteuid(0)
        client.send(b'{"verb": "monitor"}\n')
        monitors = len(self.control.monitors)
        while len(self.control.monitors) == monitors:
            self.loop.turn(wait=True)
        return client

    def decide(self, *decisions: Decision, events: Sequence[tuple[int, int, int, int]] = ()) -> None:
        self.stream.decisions(decisions, events, self.ledger)

    def heard(self, client: socket.socket) -> list[Any]:
        """All that the client was told."""
        while any(connection._output for connection in self.control.monitors):
            self.loop.turn(wait=True)
        self.control.close()
        data = b""
        while part := client.recv(1 << 16):
            data += part
        return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def watching() -> Iterator[Watching]:
    if os.geteuid() != 0:
        pytest.skip("becoming other users wants root")
    with tempfile.TemporaryDirectory(prefix="oomwatchd-test-") as directory:
        Path(directory).chmod(0o755)
        made = Watching(directory)
        yield made
        made.control.close()
        for client in made.sockets:
            client.close()


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize(
    ("uid", "told", "exe"), [(0, True, "/opt/secret\\xff"), (USER, True, "/opt/secret\\xff"), (OTHER, False, None)]
)
def test_which_users_see_a_decision_and_the_executable(
    uid: int, told: bool, exe: str | None, hides: bool, watching: Watching
) -> None:
    """`told`: also where /proc hides other users' processes."""
    client = watching.monitor(uid)
    watching.hides.answer = hides

    watching.decide(PINNED)

    heard = watching.heard(client)
    assert len(heard) == (told or not hides)
    for entry in heard:
        assert isinstance(entry.pop("time"), float)
        assert entry.pop("exe") == exe
        assert (entry.pop("old"), entry.pop("new"), entry.pop("latency_us"), entry.pop("error")) == (0, 300, None, None)
        assert (entry.pop("unit"), entry.pop("rule"), entry.pop("uid")) == ("db.service", "db", USER)
        assert entry == {"event": "pinned", "source": "exec", "pid": 42, "comm": "a\\xff"}


def test_a_decision_that_changed_no_value_is_not_sent(watching: Watching) -> None:
    client = watching.monitor(0)

    watching.decide(Decision("pinned", 42, "db", 300, 300, "exec", "a", quiet=True))

    assert watching.heard(client) == []


def test_events_that_brought_about_nothing(watching: Watching) -> None:
    """Those of processes that were decided upon, forks and exits are left out."""
    client = watching.monitor(0)
    watching.ledger.nodes[7] = node = Node(7, 1, None)
    node.pin = Pin("db", 0, 300, 300, 0.0, "exec")
    kinds = (PROC_EVENT_FORK, PROC_EVENT_EXIT, PROC_EVENT_EXEC, PROC_EVENT_COMM)

    watching.decide(PINNED, events=[(1, what, pid, 0) for what in kinds for pid in (7, 8, 42)])

    heard = [(entry["event"], entry["source"], entry["pid"], entry["rule"]) for entry in watching.heard(client)]
    assert heard == [
        ("pinned", "exec", 42, "db"),
        *(("seen", source, pid, rule) for source in ("exec", "comm") for pid, rule in ((7, "db"), (8, None))),
    ]


@pytest.mark.parametrize(("uid", "hides", "told"), [(0, True, 1), (USER, True, 0), (USER, False, 1)])
def test_which_users_see_events(uid: int, hides: bool, told: int, watching: Watching) -> None:
    client = watching.monitor(uid)
    watching.hides.answer = hides

    watching.decide(events=[(1, PROC_EVENT_EXEC, 7, 0)])

    assert len(watching.heard(client)) == told


@pytest.mark.parametrize(("uid", "told"), [(0, True), (USER, False)])
def test_root_alone_sees_events_without_a_process(uid: int, told: bool, watching: Watching) -> None:
    client = watching.monitor(uid)

    watching.stream.record(Record("reloaded", WARNING, "Read /etc/\udcff"))
    watching.stream.record(Record("pinned", WARNING, "a decision, told of as such"))

    heard = [(entry["event"], entry["message"]) for entry in watching.heard(client)]
    assert heard == ([("reloaded", "Read /etc/\\xff")] if told else [])


def test_nobody_watches(watching: Watching) -> None:
    assert not watching.stream.watched
    watching.decide(PINNED)
    watching.stream.record(Record("reloaded", WARNING, "x"))
    client = watching.monitor(0)

    assert watching.stream.watched
    assert watching.heard(client) == []
