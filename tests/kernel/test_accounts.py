"""Users by name: followed when they change, and never waited for. With an /etc and a name service of the test's own."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.asking import oomwatchctl
from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, public_directory, wait_for_value, wait_until

REMOTE, LOCAL, OTHER = 64_301, 64_302, 64_303


@dataclass(frozen=True)
class Etc:
    """A daemon with an /etc of its own, and a name service that answers unless `gate` is there."""

    daemon: Daemon
    path: Path
    gate: Path
    program: Path
    libraries: Path

    def set_users(self, **users: int) -> None:
        """Put another passwd file in the place of the present one, as usermod(8) does."""
        lines = [f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in {"root": 0, **users}.items()]
        temporary = self.path / "passwd+"
        temporary.write_text("".join(lines))
        temporary.rename(self.path / "passwd")

    def spawn(self, config: str) -> None:
        mount = f'mount --bind {self.path} /etc && exec "$@"'
        environment = [f"LD_LIBRARY_PATH={self.libraries}", f"NSS_SLOW_GATE={self.gate}"]
        self.daemon.spawn(config, prefix=["unshare", "-m", "sh", "-c", mount, "sh", "env", *environment])

    def start(self, config: str) -> None:
        self.spawn(config)
        wait_until(self.daemon._ready, f"ready; its log: {self.daemon.log()}")

    def user_rule(self, user: str, value: int) -> str:
        return f'[[rule]]\nname = "{user}"\nexe = "{self.program}"\nuser = "{user}"\noom_score_adj = {value}\n'


@pytest.fixture
def etc(daemon: Daemon, compiled: Compiler, tmp_path: Path) -> Iterator[Etc]:
    with public_directory() as directory:
        program = directory / "sleep"
        shutil.copy("/bin/sleep", program)
        path = tmp_path / "etc"
        path.mkdir()
        for name in ("ld.so.cache", "ld.so.conf", "group"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), path / name)
        (path / "nsswitch.conf").write_text("passwd: files slow\ngroup: files\n")
        libraries = tmp_path / "lib"
        libraries.mkdir()
        shutil.copy(compiled("nss_slow", ("-shared", "-fPIC")), libraries / "libnss_slow.so.2")
        here = Etc(daemon, path, tmp_path / "gate", program, libraries)
        here.set_users()
        yield here


def as_user(uid: int, program: Path) -> list[str]:
    return ["setpriv", f"--reuid={uid}", "--clear-groups", str(program), "1000"]


def test_account_that_moves(etc: Etc, processes: Processes) -> None:
    """Who gets the number that another had before gets nothing else of it."""
    etc.set_users(service=LOCAL)
    etc.start('[daemon]\nscan_interval = "1h"\n' + etc.user_rule("service", 500))
    first, second = (processes.start(*as_user(uid, etc.program)) for uid in (LOCAL, OTHER))
    wait_for_value(first, 500)
    assert oom_score_adj(second) == 0

    etc.set_users(service=OTHER, somebody=LOCAL)

    wait_for_value(first, 0)
    wait_for_value(second, 500)
    assert f"user 'service' is {OTHER}, was {LOCAL}" in etc.daemon.log()
    third, fourth = (processes.start(*as_user(uid, etc.program)) for uid in (LOCAL, OTHER))
    wait_for_value(fourth, 500)
    assert oom_score_adj(third) == 0


def test_account_that_comes_and_goes(etc: Etc, processes: Processes) -> None:
    etc.start('[daemon]\nscan_interval = "1h"\n' + etc.user_rule("service", 500))
    assert "user 'service' doesn't exist (yet)" in etc.daemon.log()
    pid = processes.start(*as_user(LOCAL, etc.program))

    etc.set_users(service=LOCAL)
    wait_for_value(pid, 500)
    etc.set_users()
    wait_for_value(pid, 0)
    assert f"user 'service' is unknown, was {LOCAL}" in etc.daemon.log()


def test_name_service_that_hangs(etc: Etc, processes: Processes, target: Path) -> None:
    """Neither start, nor reload, nor scan, nor pin waits for it."""
    etc.gate.touch()
    innocent = f'[[rule]]\nname = "innocent"\nexe = "{target}"\noom_score_adj = 400\n'
    remote = etc.user_rule(f"remote-{REMOTE}", 500)
    started = time.monotonic()
    etc.start(f'[daemon]\nscan_interval = "100ms"\n{remote}{innocent}')
    print(f"start beside a name service that hangs: {time.monotonic() - started:.2f} s")
    assert f"user 'remote-{REMOTE}' isn't known (yet): no name service has answered" in etc.daemon.log()
    waiting = processes.start(*as_user(REMOTE, etc.program))
    for _ in range(50):
        wait_for_value(processes.start(target, "1000"), 400)
    etc.daemon.wait_for_scan()
    assert oomwatchctl(etc.daemon, "reload").returncode == 0
    wait_for_value(processes.start(target, "1000"), 400)
    latency = etc.daemon.ask("metrics")["latency"]
    print(dict(zip(latency["bounds_us"], latency["counts"], strict=False)))
    assert oom_score_adj(waiting) == 0

    etc.gate.unlink()

    wait_for_value(waiting, 500)
    etc.gate.touch()
    assert etc.daemon.stop() == 0


def test_name_service_that_answers_is_heard_before_the_first_scan(etc: Etc, processes: Processes) -> None:
    pid = processes.start(*as_user(REMOTE, etc.program))
    wait_until(lambda: os.readlink(f"/proc/{pid}/exe") == str(etc.program), "executed")

    etc.start(etc.user_rule(f"remote-{REMOTE}", 500))

    assert oom_score_adj(pid) == 500
    assert "exist" not in etc.daemon.log()
    etc.daemon.write(etc.user_rule(f"remote-{REMOTE}", 600) + etc.user_rule("nobody-there", 1))
    wait_for_value(pid, 600)
    assert "user 'nobody-there' doesn't exist (yet)" in etc.daemon.log()
