"""What becomes of a configuration that is saved, cut, emptied, deleted, or changed where nothing tells of it."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oomwatchd.control.client import Client
from tests.kernel.asking import answer, oomwatchctl
from tests.kernel.running import Daemon, Processes, rule, wait_for_value, wait_until


class Machine(Daemon):
    """A daemon with an /etc of its own, below `root`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.root = directory / "root"
        self.drop_ins = self.root / "etc/oomwatchd.d"
        self.drop_ins.mkdir(parents=True)
        self.config = self.root / "etc/oomwatchd.toml"

    def place(self) -> list[str]:
        return ["--root", str(self.root)]

    def error(self) -> str:
        return str(self.status()["config"]["error"])

    def rules(self) -> list[str]:
        return [entry["rule"] for entry in self.ask("rules")["rules"]]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def held(machine: Machine, processes: Processes, target: Path) -> int:
    """A process that the main file's rule holds at 500."""
    machine.start(rule(target, scan="100ms"))
    pid = processes.start(target, "600")
    wait_for_value(pid, 500)
    return pid


def replace_by(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


HEAD = '[daemon]\nscan_interval = "100ms"\n'
CHANGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_text(""),
    "emptied by a new file": lambda path: replace_by(path, ""),
    "cut before its first rule": lambda path: path.write_text(HEAD),
    "comments alone": lambda path: path.write_text("# nothing\n"),
    "deleted": lambda path: path.unlink(),
    "moved away": lambda path: path.rename(path.with_suffix(".bak")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_incomplete_main_file_is_taken_at_a_requested_reload(
    machine: Machine, held: int, change: Callable[[Path], object]
) -> None:
    change(machine.config)

    wait_until(lambda: str(machine.config) in machine.error(), "it says so")
    machine.wait_for_scan()
    wait_for_value(held, 500)
    assert machine.log().count("it looks incomplete") == 1
    assert machine.error() in oomwatchctl(machine, "status").stdout

    assert machine.reload()["ok"]
    wait_for_value(held, 0)
    assert machine.status()["config"]["error"] is None


@pytest.mark.parametrize("confirm", ["SIGHUP", "restart"])
def test_other_ways_to_say_so(machine: Machine, held: int, confirm: str) -> None:
    machine.config.unlink()
    wait_until(lambda: "is gone" in machine.error(), "it says so")
    if confirm == "SIGHUP":
        os.kill(machine.pid, signal.SIGHUP)
    else:
        assert machine.stop() == 0
        machine.start()
    wait_for_value(held, 0)


def test_a_file_that_is_emptied_and_written_later(machine: Machine, held: int, target: Path) -> None:
    """As a shell does it: `program > file`, where the program takes its time."""
    with machine.config.open("w") as file:
        wait_until(lambda: "rules any more" in machine.error() or "is empty" in machine.error(), "it says so")
        wait_for_value(held, 500)
        file.write(rule(target, 600, scan="100ms"))
    wait_for_value(held, 600)
    assert machine.status()["config"]["error"] is None


def test_what_was_there_before_comes_back(machine: Machine, held: int) -> None:
    text = machine.config.read_text()
    machine.config.unlink()
    wait_until(lambda: "is gone" in machine.error(), "it says so")
    machine.write(text)
    wait_until(lambda: machine.status()["config"]["error"] is None, "all is well")
    wait_for_value(held, 500)


def only_rule(target: Path) -> str:
    text = rule(target)
    return text[text.index("[[rule]]") :]


@pytest.fixture
def by_drop_in(machine: Machine, processes: Processes, target: Path) -> int:
    """A process that a drop-in's rule holds at 500."""
    machine.write(HEAD)
    (machine.drop_ins / "a.toml").write_text(only_rule(target))
    machine.start()
    pid = processes.start(target, "600")
    wait_for_value(pid, 500)
    return pid


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_incomplete_drop_in(machine: Machine, by_drop_in: int, text: str) -> None:
    (machine.drop_ins / "a.toml").write_text(text)
    wait_until(lambda: "a.toml" in machine.error(), "it says so")
    machine.wait_for_scan()
    wait_for_value(by_drop_in, 500)
    assert machine.reload()["ok"]
    wait_for_value(by_drop_in, 0)


def test_a_drop_in_that_is_deleted_is_gone(machine: Machine, by_drop_in: int) -> None:
    (machine.drop_ins / "a.toml").unlink()
    wait_for_value(by_drop_in, 0)
    assert machine.status()["config"]["error"] is None


def test_a_drop_in_that_is_masked_is_gone(machine: Machine, by_drop_in: int) -> None:
    (machine.drop_ins / "null").symlink_to("/dev/null")
    (machine.drop_ins / "null").rename(machine.drop_ins / "a.toml")
    wait_for_value(by_drop_in, 0)
    assert machine.status()["config"]["error"] is None


def test_a_vendor_drop_in_that_an_empty_file_masks_is_gone(
    machine: Machine, processes: Processes, target: Path
) -> None:
    machine.write(HEAD)
    vendor = machine.root / "usr/lib/oomwatchd.d"
    vendor.mkdir(parents=True)
    (vendor / "a.toml").write_text(only_rule(target))
    machine.start()
    pid = processes.start(target, "600")
    wait_for_value(pid, 500)

    (machine.drop_ins / "a.toml").touch()

    wait_for_value(pid, 0)


# Where nothing tells of a change


def test_a_file_behind_a_bind_mount(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    daemon.write(rule(target, scan="100ms"))
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "oomwatchd.toml").touch()
    command = ["mount", "--bind", str(daemon.config), str(mounted / "oomwatchd.toml")]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted here")
    real, daemon.config = daemon.config, mounted / "oomwatchd.toml"
    try:
        daemon.start()
        pid = processes.start(target, "600")
        wait_for_value(pid, 500)
        real.write_text(rule(target, 600, scan="100ms"))
        wait_for_value(pid, 600)
    finally:
        subprocess.run(["umount", "-l", mounted / "oomwatchd.toml"], check=True)


def test_what_is_saved_while_memory_is_refused(daemon: Daemon, processes: Processes, target: Path) -> None:
    """As with vm.overcommit_memory=2."""
    daemon.start(rule(target, scan="100ms"))
    pid = processes.start(target, "600")
    wait_for_value(pid, 500)

    before = resource.prlimit(daemon.pid, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
    daemon.write(rule(target, 400, scan="100ms"))
    wait_until(lambda: "there is no memory for it" in daemon.log(), "told")
    resource.prlimit(daemon.pid, resource.RLIMIT_AS, before)

    wait_for_value(pid, 400)
    assert daemon.log().count("Configuration not reloaded") == 1


@pytest.fixture
def no_watches(daemon: Daemon) -> Iterator[list[str]]:
    """A prefix for the daemon's command: a user namespace of its own, whose share of watches is set apart, so that
    nobody else goes without."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1)")
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    limit = "echo 0 > /proc/sys/user/max_inotify_watches"
    if subprocess.run([*prefix, limit], check=False, capture_output=True).returncode != 0:
        pytest.skip("no user namespace with limits of its own may be made here")
    yield [*prefix, f'{limit}; exec "$@"', "sh"]


def test_no_watches_are_left(daemon: Daemon, no_watches: list[str], target: Path) -> None:
    daemon.start(rule(target, scan="100ms"), prefix=no_watches)
    wait_until(lambda: "max_user_watches" in str(daemon.status()["watch_error"]), "it says so")
    assert "can't be watched" in daemon.log()
    assert "pyinotify" not in daemon.log()

    daemon.write(rule(target, name="renamed", scan="100ms"))

    wait_until(lambda: daemon.ask("rules")["rules"][0]["rule"] == "renamed", "found by a scan")
    assert daemon.log().count("can't be watched") == 1
    assert "config-not-watched" in [finding["id"] for finding in answer(daemon, "doctor", status=1)["findings"]]


# While the daemon starts

SAVED_MEANWHILE = """
import os, sys
from oomwatchd.config import load as config
from oomwatchd.daemon import main

read = config.load

def read_and_save(*arguments):
    loaded = read(*arguments)
    if os.path.exists(sys.argv[2] + ".new"):
        os.rename(sys.argv[2] + ".new", sys.argv[2])
    return loaded

config.load = read_and_save
sys.exit(main.main())
"""
"""A daemon whose configuration is replaced as soon as it has been read, by the file beside it that ends in .new."""


@pytest.mark.parametrize(("text", "found"), [(rule("/x", name="later"), ["later"]), ("# cut\n", ["target"])])
def test_what_is_saved_while_it_starts(daemon: Daemon, target: Path, text: str, found: list[str]) -> None:
    daemon.write(rule(target, scan="1h"))
    Path(f"{daemon.config}.new").write_text(text)
    with daemon.log_file.open("ab") as log:
        command = [sys.executable, "-c", SAVED_MEANWHILE, *daemon.place()]
        daemon.process = subprocess.Popen(command, env=daemon.environment, stderr=log)
    wait_until(daemon._ready, "ready")

    def known() -> bool:
        rules = [entry["rule"] for entry in daemon.ask("rules")["rules"]]
        return rules == found and (found == ["later"] or "no rules" in str(daemon.status()["config"]["error"]))

    wait_until(known, "the new file is in force, or known to be incomplete")


# Bursts


def test_many_who_ask_for_a_reload_at_once_get_one(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target, scan="1h"))
    before = daemon.status()["counters"]["scans"]
    with contextlib.ExitStack() as stack:
        asking = [stack.enter_context(Client(str(daemon.runtime))) for _ in range(20)]
        os.kill(daemon.pid, signal.SIGSTOP)  # so that it finds all of them at once
        for client in asking:
            client.socket.sendall(b'{"verb": "reload"}\n')
        os.kill(daemon.pid, signal.SIGCONT)
        assert [client.receive()["ok"] for client in asking] == [True] * 20
    assert 1 <= daemon.status()["counters"]["scans"] - before < 20


def test_each_of_many_learns_what_is_wrong(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target, scan="1h"))
    daemon.write("rubbish")
    for _ in range(5):
        verdict = daemon.reload()
        assert not verdict["ok"]
        assert verdict["errors"]
    daemon.write(rule(target, name="renamed", scan="1h"))
    assert daemon.reload()["ok"]
    assert daemon.ask("rules")["rules"][0]["rule"] == "renamed"
