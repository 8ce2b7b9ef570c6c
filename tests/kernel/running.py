"""What the tests on the real kernel have in common: a daemon, processes, and waiting for what they do."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from oomwatchd.control.client import Client, NotRunning
from oomwatchd.control.protocol import Json

DEADLINE_SECONDS = 120.0
"""For what comes at once on a machine at rest. Only a test that fails waits for so long."""

_WITH_OTHER_CONSTANTS = """
import importlib, sys
for place, value in {!r}.items():
    module, _, name = place.rpartition(".")
    assert hasattr(importlib.import_module(module), name), place
    setattr(sys.modules[module], name, value)
from oomwatchd.daemon.main import main
sys.exit(main())
"""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Wait for a condition to become true, and return what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.005)


def oom_score_adj(pid: int) -> int:
    # By one read(2): a second one, after the value has changed, would add the end of the new value to the old.
    descriptor = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 64))
    finally:
        os.close(descriptor)


def descendants(pid: int) -> Iterator[int]:
    """The children of a process, their children, and so on. Who has lost its parent isn't among them."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, path.read_text().split()):
                yield child
                yield from descendants(child)


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, which is the same on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def set_oom_score_adj(pid: int, value: int) -> None:
    Path(f"/proc/{pid}/oom_score_adj").write_text(str(value))


def wait_for_value(pids: int | Iterable[int], value: int) -> None:
    """Wait until all of `pids` show `value`."""
    wanted = [pids] if isinstance(pids, int) else list(pids)

    def wrong() -> dict[int, int]:
        return {pid: shown for pid in wanted if (shown := oom_score_adj(pid)) != value}

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not wrong(), "")
    assert wrong() == {}, f"should all be {value}"


@contextlib.contextmanager
def straced(pid: int, *options: str) -> Iterator[None]:
    """Have strace(1) attached to a process. The test is skipped where it may not."""
    strace = subprocess.Popen(["strace", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    status = Path(f"/proc/{pid}/status")
    try:
        wait_until(lambda: "TracerPid:\t0\n" not in status.read_text() or strace.poll() is not None, "strace attached")
        if strace.poll() is not None:
            assert strace.stderr is not None
            pytest.skip(f"strace may not attach: {strace.stderr.read().strip()}")
        yield
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait()


@contextlib.contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that other users reach. Not below tmp_path: each run of pytest closes what is above that, also for
    other runs at the same time."""
    with tempfile.TemporaryDirectory(prefix="oomwatchd-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Processes:
    """Processes that a test starts."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.pids: list[int] = []

    def start(self, *command: str | bytes | Path, **options: object) -> int:
        """Start a program, and return its PID."""
        child = subprocess.Popen(command, **{"stdin": subprocess.DEVNULL, **options})  # type: ignore[call-overload]
        self.children.append(child)
        return int(child.pid)

    def adopt(self, pid: int) -> int:
        """End this one too after the test."""
        self.pids.append(pid)
        return pid

    def end(self) -> None:
        """End them, and what descends from them."""
        for pid in [child.pid for child in self.children if child.poll() is None] + self.pids:
            for each in (pid, *descendants(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        for child in self.children:
            child.wait()
        for pid in self.pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


class Commanded:
    """A test program that does what each line of its standard input says, and answers "ok" (chameleon.c)."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.process: subprocess.Popen[str] | None = None

    def start(self, *prefix: str) -> int:
        """Start the program, behind the command `prefix`. Returns its PID once it takes lines."""
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*prefix, str(self.program)], stdin=pipe, stdout=pipe, text=True)
        self._hear()
        return self.process.pid

    def tell(self, line: str) -> None:
        """Send a line, and wait for no answer."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def change(self, line: str) -> None:
        """Send a line, and wait until the program has done what it says."""
        self.tell(line)
        self._hear()

    def end(self) -> None:
        """End the program, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def _hear(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        assert self.process.stdout.readline() == "ok\n"


class Daemon:
    """oomwatchd with a configuration and a runtime directory of its own."""

    def __init__(self, directory: Path, *, filtered: bool = True) -> None:
        self.filtered = filtered
        """Whether it may have the eBPF filter. Without, it does the same, and hears of every program."""
        self.constants: dict[str, str | float] = {}
        """Values for constants of oomwatchd's modules, by module and name; the daemon is started with them."""
        self.config = directory / "oomwatchd.toml"
        self.runtime = directory / "run"
        self.log_file = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "RUNTIME_DIRECTORY": str(self.runtime)}

    def place(self) -> list[str]:
        """The arguments that say where its configuration is."""
        return ["-c", str(self.config)]

    def write(self, text: str) -> None:
        """Save the configuration as editors do: a new file in the place of the old one."""
        temporary = self.config.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.rename(self.config)

    def start(self, config: str | None = None, *arguments: str, prefix: Sequence[str] = ()) -> None:
        """Start, and wait until it is ready."""
        self.spawn(config, *arguments, prefix=prefix)
        wait_until(self._ready, f"oomwatchd ready; its log: {self.log()}")

    def spawn(self, config: str | None = None, *arguments: str, prefix: Sequence[str] = ()) -> None:
        """Start, and don't wait."""
        if config is not None:
            self.write(config)
        constants = dict(self.constants)
        if not self.filtered:
            constants["oomwatchd.kernel.exec_filter.LIBRARY"] = "none.so"  # as where libbpf isn't installed
        program = ["-c", _WITH_OTHER_CONSTANTS.format(constants)] if constants else ["-m", "oomwatchd"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, *program, *self.place(), *arguments],
                env=self.environment,
                stderr=log,
            )

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"oomwatchd has exited with {self.process.returncode}: {self.log()}"
        try:
            return "version" in self.ask("status")
        except NotRunning:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def ask(self, verb: str, **request: object) -> Json:
        with Client(str(self.runtime)) as client:
            return client.ask({"verb": verb, **request})

    def status(self) -> Json:
        return self.ask("status")

    def pins(self) -> dict[int, Json]:
        return {pin["pid"]: pin for pin in self.ask("list")["pins"]}

    def reload(self) -> Json:
        """Reload, and wait until the rules are in force everywhere."""
        return self.ask("reload")

    def wait_for_scan(self) -> None:
        """Wait for a scan that begins from now on."""
        before = self.status()["counters"]["scans"]
        wait_until(lambda: self.status()["counters"]["scans"] >= before + 2, "two more scans")

    def dropped(self) -> int:
        """How many events the kernel could not deliver to it, since nobody read the earlier ones (netlink(7))."""
        descriptors = [Path(f"/proc/{self.pid}/fd/{name}") for name in os.listdir(f"/proc/{self.pid}/fd")]
        sockets = {os.readlink(path) for path in descriptors if path.is_symlink()}
        lines = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:]]
        return sum(int(drops) for *_, drops, inode in lines if f"socket:[{inode}]" in sockets)

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def stop(self) -> int:
        """SIGTERM, and wait for the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_SECONDS)

    def end(self) -> None:
        """End it as systemd does, if it still runs. It must exit with 0, and its log must tell of no internal error."""
        try:
            if self.process is not None and self.process.poll() is None:
                assert self.stop() == 0, f"oomwatchd ended with an error: {self.log()}"
        finally:
            self.kill()
        assert "Internal error" not in self.log(), self.log()

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start_with_journal(daemon: Daemon, records: Path) -> None:
    """Start the daemon with journal_receiver.py in the place of journald, which writes the records to the file
    `records`. `daemon.process` is the receiver; it ends with the daemon, and with the daemon's exit status."""
    oomwatchd = f"{sys.executable} -m oomwatchd -c {daemon.config}"
    receiver = f"{sys.executable} -m tests.kernel.journal_receiver"
    with records.open("wb") as out, daemon.log_file.open("wb") as log:
        daemon.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none /run && exec {receiver} {oomwatchd}"],
            env=daemon.environment,
            stdout=out,
            stderr=log,
        )
    wait_until(daemon._ready, "ready")


def rule(exe: Path | str, value: object = 500, *, name: str = "target", scan: str = "5s", more: str = "") -> str:
    """A configuration with one rule over an executable."""
    return f"""
[daemon]
scan_interval = "{scan}"

[[rule]]
name = "{name}"
exe = "{exe}"
oom_score_adj = {value}
{more}
"""
