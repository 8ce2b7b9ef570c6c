"""Attempts to gain protection unduly, each by an unprivileged user. tests/kernel/hostile.c takes the steps.

Protection is to be pinned below what one has: the attackers have 700, the rules pin to 100."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.conftest import Compiler
from tests.kernel.running import (
    DEADLINE_SECONDS,
    Daemon,
    oom_score_adj,
    public_directory,
    set_oom_score_adj,
    wait_for_value,
    wait_until,
)

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
START, PROTECTED = 700, 100
UNIFIED = Path("/sys/fs/cgroup/unified") if Path("/sys/fs/cgroup/unified").is_dir() else Path("/sys/fs/cgroup")

RULES = """
[daemon]
scan_interval = "100ms"

[[rule]]
name = "root's program"
exe = ["{bin}/guarded", "{bin}/suid", "{bin}/dynamic"]
user = "root"
oom_score_adj = 100

[[rule]]
name = "program of nobody's"
exe = "{bin}/target"
user = 65534
oom_score_adj = 100

[[rule]]
name = "path"
exe = "{bin}/plain*"
oom_score_adj = 100

[[rule]]
name = "name of root's"
comm = "critical-suid"
user = "root"
oom_score_adj = 100

[[rule]]
name = "unit"
unit = "{unit}"
oom_score_adj = 100

[[rule]]
name = "slice"
slice = "{slice}"
oom_score_adj = 100

[[rule]]
name = "arguments of root's"
cmdline = "*critical-arguments*"
user = "root"
oom_score_adj = 100

[[rule]]
name = "name"
comm = "critical-name"
oom_score_adj = 100

[[rule]]
name = "arguments"
cmdline = "*critical-arguments*"
oom_score_adj = 100

[[rule]]
name = "descendant"
cmdline = "*critical-descendant*"
descendant_of = "root's program"
oom_score_adj = 100
"""


@dataclass(frozen=True)
class Place:
    """What is there: `bin` is root's, `own` is the attacker's, with the program `hog` in it."""

    directory: Path
    daemon: Daemon

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    @property
    def own(self) -> Path:
        return self.directory / "own"

    @property
    def hog(self) -> Path:
        return self.own / "hog"

    @property
    def target(self) -> Path:
        return self.bin / "target"

    @property
    def plain(self) -> Path:
        return self.bin / "plain"

    @property
    def guarded(self) -> Path:
        return self.bin / "guarded"

    @property
    def suid(self) -> Path:
        return self.bin / "suid"

    @property
    def preload(self) -> Path:
        """A shared object with the attacker's code."""
        return self.directory / "preload"


UNIT, SLICE = f"oomwatchd-test-{os.getpid()}.service", f"oomwatchd_test_{os.getpid()}.slice"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Programs of root's and of an attacker's, and a daemon whose rules protect the former."""
    with public_directory() as directory:
        yield from _place(directory)


def _place(directory: Path) -> Iterator[Place]:
    compiler = Compiler(directory)
    program = compiler("hostile", ("-static", "-pthread"))
    compiler("preload", ("-shared", "-fPIC", "-Wl,-z,now"))
    (directory / "run").mkdir()
    here = Place(directory, Daemon(directory))
    here.bin.mkdir()
    here.own.mkdir()
    for path in (here.hog, here.target, here.plain, here.guarded, here.suid):
        shutil.copy(program, path)
    for name in ("dynamic", "plain-dynamic"):
        shutil.copy("/bin/sleep", here.bin / name)
    (here.own / "critical-suid").symlink_to(here.suid)
    here.suid.chmod(0o4755)
    for path in (here.own, here.hog):
        os.chown(path, 65534, 65534)
    here.daemon.start(RULES.format(bin=here.bin, unit=UNIT, slice=SLICE))
    yield here
    here.daemon.end()


def start_at_700() -> None:
    set_oom_score_adj(os.getpid(), START)


class Attacker:
    """Starts as nobody at 700, and hears from the process that has taken the last step."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.ours.settimeout(DEADLINE_SECONDS)
        self.started: list[subprocess.Popen[bytes]] = []
        self.pids: list[int] = []

    def start(self, *command: str | Path, privileges: list[str] = NOBODY) -> int:
        """Start, and return the PID of the process that tells that it has got so far."""
        words = [*privileges, *map(str, command)]
        self.started.append(
            subprocess.Popen(words, stdout=self.theirs.fileno(), stdin=subprocess.DEVNULL, preexec_fn=start_at_700)
        )
        return self.hear()

    def hear(self) -> int:
        """The PID, as it is here, of the next process that tells."""
        _, ancillary, _, _ = self.ours.recvmsg(1, socket.CMSG_SPACE(12))
        ((level, kind, credentials),) = ancillary
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        pid = int.from_bytes(credentials[:4], "little")
        self.pids.append(pid)
        return pid

    def end(self) -> None:
        for pid in [*self.pids, *(child.pid for child in self.started)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for child in self.started:
            child.wait()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def attacker() -> Iterator[Attacker]:
    started = Attacker()
    yield started
    started.end()


def gains_nothing(place: Place, *pids: int) -> None:
    """Not now, nor when scans have been over it. Events have been dealt with when a later one has."""
    place.daemon.wait_for_scan()
    shown = {pid: oom_score_adj(pid) for pid in pids}
    assert shown == dict.fromkeys(pids, START)


STAY = ("tell", "stay")

# The steps of a program of the attacker's own, {hog}. Where it executes one of root's, that one turns into the
# attacker's again: a genuine program in the hands of others.
ATTEMPTS = {
    "arguments that name the program": ("exec={hog}", "say=critical-arguments", "say={target}"),
    "a name by prctl": ("name=critical-name",),
    "a name by /proc": ("comm=critical-name",),
    "a name by a thread": ("thread=critical-name",),
    "a name that looks like the rest of a stat file": ("name=a) S 1 1 1 0 -1",),
    "a name that looks like a line of a status file": ("name=x\nUid:\t0\t0\t",),
    "an executable in memory with the path as its name": ("memory={target}",),
    "one in memory that says it were deleted": ("memory={target} (deleted)",),
    "one in memory with an absolute way out": ("memory=/../..{target}",),
    "a name, then a session of its own": ("name=critical-name", "child", "setsid"),
    "an executable of its own, deleted": ("exec={own}/gone", "unlink={own}/gone"),
    "the genuine program, and then another": ("exec={target}", "exec={hog}"),
    "the genuine program, and then another, of the same name": ("exec={target}", "exec={own}/target"),
    "to and fro": ("exec={target}", "exec={hog}") * 10,
    "a child of the genuine program that executes another": ("exec={target}", "child", "exec={hog}"),
    "a grandchild of it": ("exec={target}", "child", "child", "exec={hog}"),
    "an orphan of it": ("exec={target}", "orphan", "exec={hog}"),
    "an orphan's orphan of it": ("exec={target}", "orphan", "orphan", "setsid", "exec={hog}"),
    "an orphan in a session of its own": ("exec={target}", "orphan", "setsid", "orphan", "exec={hog}"),
    "a vfork child of it": ("exec={target}", "vfork={hog}"),
    "a child, after the program has become another": ("exec={target}", "exec={hog}", "child"),
    "an orphan, after the program has become another": ("exec={target}", "exec={hog}", "orphan", "setsid"),
    "a child that was there before the program became another": ("exec={target}", "child", "child", "exec={hog}"),
    "a setuid program that has dropped its privileges": ("exec={suid}", "drop"),
    "a child of a setuid program that is kept waiting": ("exec={suid}", "child", "drop", "exec={hog}"),
    "a child of a setuid program that stays itself": ("exec={suid}", "child", "drop"),
    "root's program in an attacker's hands": ("exec={guarded}", "child", "say=critical-descendant"),
    "a program of root's that a rule knows by its path alone": ("exec={plain}",),
    "the same, traced by its user": ("trace", "exec={plain}"),
    "root's program, traced by its user": ("trace", "exec={guarded}"),
    "a setuid program": ("exec={suid}",),
    "a setuid program under a false name": ("exec={own}/critical-suid",),
    "the same, with a child": ("exec={own}/critical-suid", "child"),
    "a first thread that ends": ("name=critical-name", "leave"),
    "a first thread that ends in root's program": ("exec={guarded}", "leave"),
    "a first thread that ends, and another program": ("exec={target}", "leave", "exec={hog}"),
    "an impostor, opened in a mount namespace": ("smuggle={impostor}:{target}",),
    "an impostor, opened in a mount namespace, and deleted": ("smuggle-deleted={impostor}:{target}",),
    "a directory that shows the path, opened in a mount namespace": ("smuggle={impostor}:{guarded}",),
}  # fmt: skip


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_own_program(place: Place, attacker: Attacker, attempt: str) -> None:
    impostor = place.own / "impostor"
    for path in (impostor, place.own / "gone", place.own / "target"):
        path.unlink(missing_ok=True)
        shutil.copy(place.hog, path)
        os.chown(path, 65534, 65534)
    names = {name: getattr(place, name) for name in ("hog", "own", "target", "plain", "guarded", "suid")}
    steps = [step.format(**names, impostor=impostor) for step in ATTEMPTS[attempt]]

    pid = attacker.start(place.hog, *steps, *STAY)

    gains_nothing(place, pid)


NAMESPACES = {
    "a file mounted over the program": "mount --bind {hog} {target} && exec {target}",
    "a directory mounted over the program's": "mount --bind {own} {bin} && exec {target}",
    "a file system mounted over it": "mount -t tmpfs x {bin} && cp {hog} {target} && exec {target}",
    "an overlay over it": (
        "cd {own} && mkdir -p up work && mount -t overlay x -o lowerdir={bin},upperdir=up,workdir=work {bin} "
        "&& cp {hog} {bin}/new && mv {bin}/new {target} && exec {target}"
    ),
    "another root": "mkdir -p {own}/root{bin} && cp {hog} {own}/root{target} && exec chroot {own}/root {target}",
    "a file mounted over the program, then deleted": (
        "mount --bind {impostor} {target} && exec {target} unlink={impostor}"
    ),
    "a file whose name says that it is deleted": (
        "mount --bind {own} {bin} && cp {hog} '{target} (deleted)' && exec '{target} (deleted)'"
    ),
    "root's program, by the root of a namespace": "exec {guarded}",
    "the genuine program, and then another": "exec {target} exec={hog}",
    "a setuid program": "exec {suid}",
}


@pytest.mark.parametrize("attempt", NAMESPACES)
def test_own_namespaces(place: Place, attacker: Attacker, attempt: str) -> None:
    impostor = place.own / "impostor"
    for path in (impostor, place.own / "target"):
        path.unlink(missing_ok=True)
        shutil.copy(place.hog, path)
        os.chown(path, 65534, 65534)
    names = {name: getattr(place, name) for name in ("hog", "own", "bin", "target", "guarded", "suid")}
    command = NAMESPACES[attempt].format(**names, impostor=impostor)

    pid = attacker.start("unshare", "-Ur", "-m", "sh", "-c", f"{command} {' '.join(STAY)}")

    gains_nothing(place, pid)


def test_own_pid_namespace(place: Place, attacker: Attacker) -> None:
    pid = attacker.start("unshare", "-Urpf", "--kill-child", "--mount-proc", place.target, "child", *STAY)

    gains_nothing(place, pid)


@pytest.mark.parametrize("program", ["dynamic", "plain-dynamic"])
def test_own_code_in_a_genuine_program(place: Place, attacker: Attacker, program: str) -> None:
    """By LD_PRELOAD: the executable is the genuine one in every respect."""
    pid = attacker.start("env", f"LD_PRELOAD={place.preload}", place.bin / program, "100")

    assert os.readlink(f"/proc/{pid}/exe") == str(place.bin / program)
    gains_nothing(place, pid)


@pytest.mark.parametrize("program", ["guarded", "target", "plain"])
def test_another_executable_by_prctl(place: Place, attacker: Attacker, program: str) -> None:
    """In a user namespace, prctl(PR_SET_MM) makes any file that may be executed the executable of a process; the name
    then raises an event. Device and inode are genuine too."""
    path = place.bin / program
    environment = [f"LD_PRELOAD={place.preload}", f"BECOME={path}", "NAME=critical-name"]

    pid = attacker.start("unshare", "-Ur", "env", *environment, "/bin/sleep", "100")

    assert os.readlink(f"/proc/{pid}/exe") == str(path)
    if program != "target":  # that one is nobody's own to protect
        gains_nothing(place, pid)


def test_first_argument(place: Place, attacker: Attacker) -> None:
    pid = attacker.start("bash", "-c", f"exec -a {place.target} {place.hog} {' '.join(STAY)}")

    gains_nothing(place, pid)


def test_name_by_symbolic_link(place: Place, attacker: Attacker) -> None:
    link = place.own / "critical-name"
    link.symlink_to(place.hog)

    pid = attacker.start(link, *STAY)

    link.unlink()
    gains_nothing(place, pid)


def test_script_with_the_name(place: Place, attacker: Attacker) -> None:
    script = place.own / "critical-name"
    script.write_text("#!/bin/sh\necho critical-arguments; while :; do sleep 100; done\n")
    script.chmod(0o755)

    pid = attacker.start(script)

    script.unlink()
    gains_nothing(place, pid)


def test_exec_between_look_and_write(place: Place, attacker: Attacker) -> None:
    """Fifty at once, so that some do."""
    for _ in range(50):
        attacker.start(place.hog, f"exec={place.target}", f"exec={place.hog}", *STAY)

    gains_nothing(place, *attacker.pids)


OWN_SLICE = "user.slice/user-65534.slice"


@contextlib.contextmanager
def cgroup(path: str) -> Iterator[Path]:
    directory = UNIFIED / path
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        for each in missing:
            wait_until(lambda each=each: remove(each), f"{each} is empty")  # type: ignore[misc]


def remove(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        directory.rmdir()
    return not directory.exists()


@pytest.mark.parametrize(
    "path",
    [
        "user@65534.service/{UNIT}",
        "user@65534.service/app.slice/{UNIT}",
        "user@65534.service/{SLICE}/x.service",
        "user@65534.service/{SLICE}",
        "session-9.scope/{UNIT}",
        "user@65534.service/_{UNIT}",
        "user@65534.service/..{UNIT}",
        "user@65534.service/a\r0::/{UNIT}",
        "user@65534.service/a\r1:name=systemd:/{UNIT}",
    ],
)
def test_cgroup_below_the_users_own(place: Place, attacker: Attacker, path: str) -> None:
    """Named as root's unit or slice: there, users name what they like, all but a line feed."""
    with cgroup(f"{OWN_SLICE}/{path.format(UNIT=UNIT, SLICE=SLICE)}") as directory:
        pid = attacker.start(place.hog, *STAY)
        (directory / "cgroup.procs").write_text(str(pid))
        try:
            gains_nothing(place, pid)
        finally:
            attacker.end()


def test_what_is_genuine_gains(place: Place, attacker: Attacker) -> None:
    """So that the attempts fail for their own reasons."""
    genuine = [
        attacker.start(place.guarded, *STAY, privileges=[]),
        attacker.start(place.hog, "say=critical-arguments", *STAY, privileges=[]),
        attacker.start(place.target, *STAY),
        attacker.start(place.suid, *STAY, privileges=[]),
        attacker.start(place.own / "critical-suid", *STAY, privileges=[]),
        attacker.start(place.guarded, "leave", *STAY, privileges=[]),
    ]
    with cgroup(UNIT) as unit, cgroup(f"{SLICE}/x.service") as below:
        for directory in (unit, below):
            pid = attacker.start(place.hog, *STAY)
            (directory / "cgroup.procs").write_text(str(pid))
            genuine.append(pid)
        try:
            wait_for_value(genuine, PROTECTED)
        finally:
            attacker.end()
