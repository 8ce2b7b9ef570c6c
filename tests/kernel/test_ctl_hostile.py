"""Clients that mean ill, against a real daemon: what they may not do, and that they delay and bloat nothing."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oomwatchd.control.client import Client
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value

NOBODY = 65534
FLOOD_PROGRAM = Path(__file__).with_name("flood.py").read_text()
VERBS = ["status", "list", "rules", "loaded", "lineage", "monitor", "metrics", "reload", "restore", "pin", "unpin"]


@pytest.fixture
def open_daemon(daemon: Daemon, target: Path) -> Iterator[Daemon]:
    """A daemon whose socket other users reach, unlike what is in pytest's directories."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        daemon.runtime = Path(directory) / "run"
        daemon.start(rule(target, 300, scan="1h"))
        yield daemon
        daemon.end()


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Whatever connects meanwhile is nobody's."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def ask_as_nobody(daemon: Daemon, request: dict[str, Any]) -> Any:
    with nobody(), Client(str(daemon.runtime)) as client:
        return client.ask(request)


@pytest.mark.parametrize("verb", ["reload", "restore", "pin", "unpin"])
def test_admin_requests_are_for_root(verb: str, open_daemon: Daemon) -> None:
    reply = ask_as_nobody(open_daemon, {"verb": verb, "pid": os.getpid(), "value": 5})
    assert reply == {"error": f"Only root may ask oomwatchd to {verb}"}
    assert oom_score_adj(os.getpid()) == 0


def test_other_users_see_what_proc_shows_them(open_daemon: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "600")
    wait_for_value(pid, 300)
    (pin,) = ask_as_nobody(open_daemon, {"verb": "list"})["pins"]
    assert (pin["pid"], pin["comm"], pin["exe"]) == (pid, "target", None)
    (lineage,) = ask_as_nobody(open_daemon, {"verb": "lineage", "pids": [pid]})["processes"]
    assert (lineage["rule"], lineage["exe_verified"]) == ("target", None)


def test_a_monitor_of_another_user_sees_no_executables(open_daemon: Daemon, processes: Processes, target: Path) -> None:
    if open_daemon.status()["proc_events"] != "on":
        pytest.skip("without process events nothing is told between scans")
    with nobody(), Client(str(open_daemon.runtime)) as client:
        assert client.ask({"verb": "monitor"}) == {"event": "monitoring"}
        os.seteuid(0)
        assert open_daemon.reload()["ok"]
        pid = processes.start(target, "600")
        entry = client.receive()
        while entry.get("event") == "seen":
            entry = client.receive()
        # Nothing was told of the reload, whose message may quote files.
        assert (entry["event"], entry["pid"], entry["exe"]) == ("pinned", pid, None)


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_flood_neither_bloats_nor_stops_it(open_daemon: Daemon, processes: Processes, target: Path) -> None:
    """As many clients as a user may have send without end and never read."""
    open_daemon.status()
    before = resident_kib(open_daemon.pid)
    with contextlib.ExitStack() as stack:
        flooding = []
        for _ in range(16):
            with nobody():
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.connect(str(open_daemon.runtime / "control"))
            sock.setblocking(False)
            flooding.append(sock)
        for _ in range(50):
            for sock in flooding:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(b'{"verb": "loaded"}\n{"verb": "list"}\n' * 500)
            pid = processes.start(target, "600")
            wait_for_value(pid, 300)
        assert open_daemon.status()["pinned"] == 50
        assert resident_kib(open_daemon.pid) - before < 16 << 10


FLOODS = ['{"verb": "lineage", "pids": [PIDS]}', '{"verb": "list"}', '{"verb": "\\ud800"}', "[" * 1000]


@pytest.mark.parametrize("line", FLOODS, ids=["lineage", "list", "surrogate", "nested"])
def test_users_that_flood_it_keep_neither_root_nor_programs_waiting(
    line: str, open_daemon: Daemon, processes: Processes, target: Path
) -> None:
    """Four of them, 64 connections full of requests. Without a budget they take all the CPU time that there is."""
    pids = ", ".join([str(os.getpid())] * 32)
    socket_path = open_daemon.runtime / "control"
    for uid in range(60001, 60005):
        request = line.replace("PIDS", pids)
        processes.start(sys.executable, "-c", FLOOD_PROGRAM, socket_path, str(uid), request, stdout=subprocess.PIPE)
        flood = processes.children[-1].stdout
        assert flood is not None
        with flood:
            assert flood.readline() == b"flooding\n"

    for _ in range(20):
        assert open_daemon.status()["proc_events"]
        wait_for_value(processes.start(target, "600"), 300)
    assert open_daemon.log().count("Internal error") == 0


def arguments(chance: random.Random) -> dict[str, object]:
    odd: list[object] = [
        *(None, True, -1, 0, 1, 2, 2**31, 2**64, 10**400, 0.5, 1e308, float("nan"), float("inf")),
        *("", "x", "\ud800", "\0", [], [[]], {}, [1] * 1000, ["x"], [True], {"verb": "x"}, os.getpid()),
    ]
    keys = ["pid", "pids", "value", "seconds", "x"]
    return {key: chance.choice(odd) for key in keys if chance.random() < 0.6}


def test_odd_requests(open_daemon: Daemon) -> None:
    """Each gets an answer, and nothing breaks. Our own PID is among the arguments, and no more than raised."""
    chance = random.Random(1)
    with Client(str(open_daemon.runtime)) as client:
        for _ in range(2000):
            verb = chance.choice([verb for verb in VERBS if verb != "monitor"])
            request = {"verb": verb, **arguments(chance)}
            if request.get("pid") in (os.getpid(), True):
                request["pid"] = -1
            assert isinstance(client.ask(request), dict), request
    assert open_daemon.status()["counters"]["failures"] == 0


def test_raw_bytes(open_daemon: Daemon) -> None:
    chance = random.Random(2)
    valid = [json.dumps({"verb": verb}).encode() + b"\n" for verb in VERBS]
    for _ in range(200):
        data = bytearray(b"".join(chance.choices(valid, k=3)))
        for _ in range(chance.randrange(8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(open_daemon.runtime / "control"))
            sock.sendall(data)
            if chance.random() < 0.5:
                sock.shutdown(socket.SHUT_WR)
    assert open_daemon.status()["version"]


def test_more_requests_after_one_that_waits(open_daemon: Daemon) -> None:
    """Each reload is answered, however many are sent at once, and in order."""
    with Client(str(open_daemon.runtime)) as client:
        client.socket.sendall(b'{"verb": "reload"}\n{"verb": "status"}\n' * 5)
        for _ in range(5):
            assert client.receive()["ok"]
            assert "version" in client.receive()
