"""A daemon that is killed at any time, while programs start and end, loses nothing: neither a process, nor its value,
nor what it had before. OOMWATCHD_CRASHES says how often it is killed."""

import contextlib
import os
import random
import subprocess
import threading
import time
from pathlib import Path

from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, oom_score_adj, rule, wait_until

CRASHES = int(os.environ.get("OOMWATCHD_CRASHES", "8"))
STARTS = min(CRASHES * 120, 3000)
PAUSE_US = CRASHES * 900_000 // STARTS


def test_kills_at_random_times(daemon: Daemon, compiled: Compiler, target: Path) -> None:
    chance = random.Random(CRASHES)
    daemon.write(rule(target, scan="200ms"))
    command: list[str | Path] = [compiled("stream"), target, str(PAUSE_US), str(STARTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        started: dict[int, int] = {}
        reader = threading.Thread(target=read, args=(stream, started))
        reader.start()
        try:
            for _ in range(CRASHES):
                daemon.spawn()
                time.sleep(chance.uniform(0.05, 1.0))  # the time of the crash, not one to wait for something
                daemon.kill()
            daemon.start()
            wait_until(lambda: not reader.is_alive(), "all were started")
            daemon.wait_for_scan()
            alive = {pid: value for pid, value in started.items() if is_target(pid, target)}
            assert len(alive) > STARTS // 2
            assert {pid: shown for pid in alive if (shown := oom_score_adj(pid)) != 500} == {}
            originals = {pid: pin["original"] for pid, pin in daemon.pins().items()}
            assert {
                pid: (value, originals.get(pid)) for pid, value in alive.items() if originals.get(pid) != value
            } == {}
            assert daemon.ask("restore")["ok"]
            assert {pid: (v, shown) for pid, v in alive.items() if (shown := oom_score_adj(pid)) != v} == {}
            assert "Internal error" not in daemon.log()
            assert "damaged" not in daemon.log()
            print(f"{CRASHES} crashes, {len(started)} starts, {len(alive)} alive, none wrong")
        finally:
            stream.kill()
            reader.join()


def read(stream: "subprocess.Popen[str]", started: dict[int, int]) -> None:
    assert stream.stdout is not None
    for line in stream.stdout:
        if line == "done\n":
            return
        pid, value = line.split()
        started[int(pid)] = int(value)


def is_target(pid: int, target: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe") == str(target)
    return False
