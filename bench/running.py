"""Programs under measurement, and what they have used."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import oomwatchd
from oomwatchd.control.client import Client
from oomwatchd.control.protocol import Json

HERE = Path(__file__).parent
VALUE = 500


def build(directory: Path) -> None:
    for source in HERE.glob("*.c"):
        flags = ["-nostdlib", "-fno-builtin"] if source.stem == "instant" else []
        subprocess.run(["cc", "-O2", "-Wall", "-static", *flags, "-o", directory / source.stem, source], check=True)


def compile_package() -> None:
    """Have byte code of oomwatchd, as an installed one has, also where the environment says that none is to be kept.
    Without it each start would compile some hundred modules, and keep what memory that took."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path("build/pycache").absolute())
    package = Path(oomwatchd.__file__).parent
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], check=True)


def with_instant_target(directory: Path) -> Path:
    """A directory with the same programs, but `target` is the one that has no C library."""
    other = directory / "instantly"
    other.mkdir()
    for program in ("load", "reference"):
        os.link(directory / program, other / program)
    os.link(directory / "instant", other / "target")
    return other


def cpu_ns(pid: int) -> int:
    """CPU time of a process with one thread, proc_pid_schedstat."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def settled_cpu_ns(pid: int) -> int:
    """The same, once it has come to rest."""
    before = cpu_ns(pid)
    while True:
        time.sleep(0.01)
        now = cpu_ns(pid)
        if now - before < 200_000:
            return now
        before = now


def forks() -> int:
    """On the whole machine since boot. Each process that is started costs the same, whoever starts it."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))


def context_switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident, and of that private."""
    resident = private = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        label, kib = line.split()[:2]
        resident += int(kib) if label == "Rss:" else 0
        private += int(kib) if label.startswith("Private_") else 0
    return resident / 1024, private / 1024


class Program:
    """Something to be measured, which ends with its context."""

    process: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class Listener(Program):
    """A program that prints a line when it listens."""

    def __init__(self, *command: str | Path) -> None:
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listening\n"


def reference(directory: Path, prefix: Sequence[str] = (), *words: str) -> Listener:
    """The C reference."""
    return Listener(*prefix, directory / "reference", directory / "target", str(VALUE), *words)


def bare_python(directory: Path, prefix: Sequence[str]) -> Listener:
    return Listener(*prefix, sys.executable, HERE / "bare.py", directory / "target", str(VALUE))


_UNFILTERED = """
import sys
from oomwatchd.kernel import exec_filter
exec_filter.LIBRARY = "none.so"  # as where libbpf isn't installed
from oomwatchd.daemon.main import main
sys.exit(main())
"""


class Oomwatchd(Program):
    """oomwatchd, from READY=1 on, in a room of its own, with no scans but those that are asked for."""

    def __init__(
        self, directory: Path, rules: str, prefix: Sequence[str] = (), interval: str = "1h", *, filtered: bool = True
    ) -> None:
        directory = Path(tempfile.mkdtemp(dir=directory))
        # The ledger is in memory, as it is below systemd's /run.
        self.runtime = Path(tempfile.mkdtemp(dir="/dev/shm"))
        config = directory / "oomwatchd.toml"
        config.write_text(f'[daemon]\nscan_interval = "{interval}"\n{rules}')
        config.chmod(0o644)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(directory / "notify"))
            notify.settimeout(30)
            environment = {
                **os.environ,
                "RUNTIME_DIRECTORY": str(self.runtime),
                "NOTIFY_SOCKET": str(directory / "notify"),
            }
            program = ["-m", "oomwatchd"] if filtered else ["-c", _UNFILTERED]
            command = [*prefix, sys.executable, *program, "-c", str(config)]
            self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd="/")
            try:
                while b"READY=1" not in notify.recv(4096):
                    pass
                self.ready_cpu_ns = cpu_ns(self.pid)
            except BaseException:
                self.process.kill()
                raise
            finally:
                (directory / "notify").unlink()

    def __exit__(self, *ended: object) -> None:
        super().__exit__(*ended)
        shutil.rmtree(self.runtime)

    def status(self) -> Json:
        with Client(str(self.runtime)) as client:
            return client.ask({"verb": "status"})


def one_rule(directory: Path) -> str:
    return f'[[rule]]\nname = "target"\nexe = "{directory}/target"\noom_score_adj = {VALUE}\n'


def lowering_rule(directory: Path) -> str:
    """One whose children need a look each."""
    return f'[[rule]]\nname = "low"\nexe = "{directory}/target"\nuser = "root"\noom_score_adj = -{VALUE}\n'


def thousand_literal_rules(directory: Path) -> str:
    """1,001 rules that the kernel can compare."""
    rules = [
        f'[[rule]]\nname = "{i}"\nexe = "{directory}/nowhere/program-{i}"\noom_score_adj = {VALUE}\n'
        for i in range(1000)
    ]
    return "".join([*rules, one_rule(directory)])


@contextlib.contextmanager
def pinned_shell(directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A shell that a rule is to pin, and below it another that starts programs: so many, with such a pause, for each
    line that it reads. It answers with a line."""
    shell = directory / "pinned-shell"
    shutil.copy("/bin/dash", shell)
    below = f"while read n pause; do {directory}/load storm $n {directory}/nothing $pause; echo done; done"
    command = f"exec 3<&0; sh -c '{below}' <&3 & wait"
    with subprocess.Popen(
        [shell, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        yield process
        process.communicate()


def rule_for_shell(directory: Path, children: str | int) -> str:
    policy = f'"{children}"' if isinstance(children, str) else children
    return (
        f'[[rule]]\nname = "shell"\nexe = "{directory}/pinned-shell"\nsession_leader = true\n'
        f"oom_score_adj = {VALUE}\nchildren = {policy}\n"
    )


def thousand_rules(directory: Path) -> str:
    """The same rule, after 999 that fit nothing: by exe, by comm, by globs over both, and 100 by regexes."""
    rules = []
    for i in range(999):
        kind = i % 10
        if kind < 5:
            criterion = f'exe = "{directory}/nowhere/program-{i}"'
        elif kind < 7:
            criterion = f'comm = "nobody-{i}"'
        elif kind < 8:
            criterion = f'exe = "{directory}/nowhere/{i}/*"'
        elif kind < 9:
            criterion = f'comm = "nobody-{i}-*"'
        elif i % 20 < 10:
            criterion = f'comm = {{ regex = "^nobody{i}(-[a-z]+)?$" }}'
        else:
            criterion = f'exe = {{ regex = "/nowhere{i}/(s?bin|libexec)/" }}'
        rules.append(f'[[rule]]\nname = "{i}"\n{criterion}\noom_score_adj = {VALUE}\n')
    return "".join([*rules, one_rule(directory)])


@contextlib.contextmanager
def crowd(directory: Path, count: int) -> Iterator[None]:
    """So many processes that sleep, besides those that there are."""
    missing = count - sum(name.isdigit() for name in os.listdir("/proc"))
    with load(directory, "crowd", str(max(missing, 0))):
        yield


@contextlib.contextmanager
def load(directory: Path, *words: str) -> Iterator[None]:
    """A load that says when it is there, and goes on until its input ends."""
    command = [str(directory / "load"), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        process.stdin.close()


@contextlib.contextmanager
def saturated(directory: Path) -> Iterator[None]:
    """Two programs for each CPU that use up what they get."""
    burning = [
        subprocess.Popen(["taskset", "-c", str(cpu), str(directory / "load"), "burn"])
        for cpu in sorted(os.sched_getaffinity(0)) * 2
    ]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


@contextlib.contextmanager
def storm(directory: Path) -> Iterator[None]:
    """Programs that start one after the other, as fast as they end."""
    with subprocess.Popen([directory / "load", "storm", str(1 << 30), directory / "nothing"]) as process:
        try:
            yield
        finally:
            process.kill()
