"""What is a container and what a sandbox, with what makes them. In a rule that only raises, sandboxes are ordinary; in
one that can lower, every other PID namespace is a container."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.running import Daemon, Processes, oom_score_adj, public_directory, rule, wait_for_value, wait_until

HIERARCHIES = {
    "name=systemd": Path("/sys/fs/cgroup/systemd"),
    "memory": Path("/sys/fs/cgroup/memory"),
    "unified": next(p for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if p.is_dir()),
}
UNSHARE = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.fixture
def target() -> Iterator[Path]:
    with public_directory() as directory:
        path = directory / "target"
        shutil.copy("/bin/sleep", path)
        yield path


@contextlib.contextmanager
def cgroup(hierarchy: str, name: str) -> Iterator[Path]:
    """A cgroup for those that `join`."""
    above = HIERARCHIES[hierarchy]
    if not os.access(above / "cgroup.procs", os.W_OK):
        pytest.skip(f"the hierarchy {hierarchy} of cgroups isn't mounted here, or may not be written to")
    directory = above / name
    directory.mkdir()
    try:
        yield directory
    finally:
        wait_until(lambda: remove(directory), f"{directory} is empty")


def remove(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        for below in sorted(directory.rglob("*"), reverse=True):
            if below.is_dir():
                below.rmdir()
        directory.rmdir()
    return not directory.exists()


def join(directory: Path, pid: int) -> None:
    (directory / "cgroup.procs").write_text(str(pid))


def running(target: Path) -> list[int]:
    """The processes that run `target`, wherever it is mounted."""
    found, wanted = [], target.stat().st_ino
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "exe").stat().st_ino == wanted:
                found.append(int(entry.name))
    return found


def start(processes: Processes, target: Path, *command: str | Path, **options: object) -> int:
    """Start what ends in executing `target`, and return the PID of that."""
    processes.start(*command, stderr=subprocess.DEVNULL, **options)
    (pid,) = wait_until(lambda: running(target), f"{command[0]} has started {target}")
    return processes.adopt(pid)


def shown_after_scans(daemon: Daemon, pid: int) -> int:
    daemon.wait_for_scan()
    return oom_score_adj(pid)


RAISES, LOWERS = "", "user = [0, 65534]"


@pytest.mark.parametrize(("more", "value"), [(RAISES, 500), (LOWERS, 0), (f"{LOWERS}\ncontainers = true", 500)])
@pytest.mark.parametrize(
    "command", [UNSHARE, (*UNSHARE, *UNSHARE), ("unshare", "-Ur", *UNSHARE[1:]), ("setsid", *UNSHARE)]
)
def test_unshare(
    daemon: Daemon, processes: Processes, target: Path, command: tuple[str, ...], more: str, value: int
) -> None:
    daemon.start(rule(target, 500, scan="200ms", more=more))

    pid = start(processes, target, *command, target, "1000")

    assert shown_after_scans(daemon, pid) == value


@pytest.mark.parametrize("more", [RAISES, LOWERS])
def test_bubblewrap(daemon: Daemon, processes: Processes, target: Path, more: str) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap isn't installed (package bubblewrap)")
    daemon.start(rule(f"*{target}", 500, scan="200ms", more=more))
    command = ("bwrap", "--unshare-pid", "--dev-bind", "/", "/", "--die-with-parent", target, "1000")

    pid = start(processes, target, *command)

    assert shown_after_scans(daemon, pid) == (0 if more else 500)


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
def test_a_cgroup_of_its_own_in_one_hierarchy(
    daemon: Daemon, processes: Processes, target: Path, hierarchy: str
) -> None:
    """As a container has it that has moved itself in all others."""
    with cgroup(hierarchy, f"oomwatchd-test-{os.getpid()}") as own:
        daemon.start(rule(target, 500, scan="200ms"))
        script = f"echo $$ > {own}/cgroup.procs && exec {target} 1000"
        pid = start(processes, target, *UNSHARE, "sh", "-c", script)

        assert shown_after_scans(daemon, pid) in (0, 500)  # it may have been pinned before it moved
        daemon.wait_for_scan()
        try:
            assert oom_score_adj(pid) == 0
        finally:
            processes.end()


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
def test_only_the_maker_was_moved(daemon: Daemon, processes: Processes, target: Path, hierarchy: str) -> None:
    """As desktops move a program into a scope after its start: what it had started stays behind, beside what had
    started the program."""
    with cgroup(hierarchy, f"oomwatchd-test-{os.getpid()}.scope") as scope:
        pid = start(processes, target, "sh", "-c", f"{' '.join(UNSHARE)} {target} 1000 & wait")
        status = Path(f"/proc/{pid}/status").read_text()
        join(scope, int(status.partition("\nPPid:\t")[2].split()[0]))
        try:
            daemon.start(rule(target, 500, scan="200ms"))

            wait_for_value(pid, 500)
        finally:
            processes.end()


@pytest.mark.parametrize(("name", "value"), [("x.service", 500), ("x.scope", 0)])
def test_child_of_pid_1(daemon: Daemon, processes: Processes, target: Path, name: str, value: int) -> None:
    """A service with PrivatePIDs=; and a container whose maker has died."""
    with cgroup("unified", f"oomwatchd-test-{os.getpid()}-{name}") as own:
        script = f"echo $$ > {own}/cgroup.procs; unshare --pid --fork {target} 1000 & read line; kill -9 $!"
        pid = start(processes, target, "sh", "-c", script, stdin=subprocess.PIPE)
        processes.children[-1].communicate(b"\n")
        status = Path(f"/proc/{pid}/status")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: "PPid:\t1\n" in status.read_text(), "it is an orphan", 5)
        if "PPid:\t1\n" not in status.read_text():
            processes.end()
            pytest.skip("orphans don't come to PID 1 here")
        try:
            daemon.start(rule(target, 500, scan="200ms"))

            assert shown_after_scans(daemon, pid) == value
        finally:
            processes.end()


def test_long_chain_of_parents(daemon: Daemon, processes: Processes, target: Path) -> None:
    """Whoever makes many generations holds nobody up."""
    daemon.start(rule(target, 500, scan="200ms"))
    script = f'n=$1; [ $n -gt 0 ] && {{ sh -c "$0" "$0" $((n-1)); exit; }}; {target} 1000; exit'

    pid = start(processes, target, *UNSHARE, "sh", "-c", script, script, "300")

    wait_for_value(pid, 500)


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_real_container(daemon: Daemon, target: Path, runtime: str) -> None:
    if shutil.which(runtime) is None:
        pytest.skip(f"{runtime} isn't installed")
    bundle, name = target.parent / "bundle", f"oomwatchd-test-{os.getpid()}"
    bundle.mkdir()
    subprocess.run([runtime, "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    root = bundle / "rootfs"
    root.mkdir()
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    spec["root"] = {"path": str(root)}
    spec["process"].update(terminal=False, args=[str(target), "1000"], cwd="/")
    spec["process"].pop("oomScoreAdj", None)
    spec["linux"]["cgroupsPath"] = f"/{name}"
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] == "/proc"]
    for path in ("/usr", str(target.parent)):
        mount = {"destination": path, "type": "bind", "source": path, "options": ["rbind"]}
        spec["mounts"].append(mount)
    for key in ("seccomp", "resources", "maskedPaths", "readonlyPaths"):
        spec["linux"].pop(key, None)
    (bundle / "config.json").write_text(json.dumps(spec))
    daemon.start(rule(f"*{target}", 500, scan="200ms"))
    container = subprocess.Popen(
        [runtime, "--root", str(target.parent / "state"), "run", "-b", str(bundle), name],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: running(target) or container.poll() is not None, "the container runs")
        if not running(target):
            container.kill()
            pytest.skip(f"{runtime} makes no container here: {container.communicate()[1].strip()[-200:]}")
        (pid,) = running(target)
        assert shown_after_scans(daemon, pid) == 0
        daemon.write(daemon.config.read_text() + "containers = true\n")
        wait_for_value(pid, 500)
    finally:
        for pid in running(target):
            os.kill(pid, 9)
        container.wait()


BROWSER_USER = 61843
"""A user whom no other program runs as, so that all that the browser leaves behind can be found."""


def test_tabs_of_chromium(daemon: Daemon) -> None:
    """The rule that the shipped file shows."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    shipped = (Path(__file__).parents[2] / "config/oomwatchd.toml").read_text()
    (shown,) = (part for part in shipped.split("\n\n") if 'name = "browser tabs"' in part)
    text = "\n".join(line.removeprefix("#") for line in shown.split("\n") if not line.startswith("# "))
    # Of this machine's browsers only the one below.
    daemon.start(f'[daemon]\nscan_interval = "300ms"\n{text}\nuser = {BROWSER_USER}\n')
    with public_directory() as profile:
        os.chown(profile, BROWSER_USER, BROWSER_USER)
        user = [f"--reuid={BROWSER_USER}", f"--regid={BROWSER_USER}", "--clear-groups"]
        options = ["--headless", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}/data"]
        options += ["--enable-crash-reporter", f"--crash-dumps-dir={profile}", "data:text/html,text"]
        child = subprocess.Popen(
            ["setpriv", *user, "env", f"HOME={profile}", browser, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def tabs() -> list[int]:
            return [pid for pid in family(child.pid) if b"--type=renderer" in cmdline(pid)]

        try:
            wait_until(lambda: tabs() or child.poll() is not None, "the browser has a tab")
            if child.poll() is not None:
                pytest.skip("Chromium doesn't start here")
            sandboxed = [pid for pid in tabs() if nested(pid)]
            assert sandboxed, "the tabs have a PID namespace of their own"
            wait_for_value(sandboxed, 400)
            assert oom_score_adj(child.pid) < 400
        finally:
            # What has left the family, too. It would still write into the profile while that is removed.
            wait_until(lambda: not kill_processes_of(BROWSER_USER), "the browser has ended")
            child.wait()


def kill_processes_of(user: int) -> list[int]:
    """Kill all processes of a user. Returns those that were still there."""
    found = []
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            status = dict(line.split(":", 1) for line in Path(entry.path, "status").read_text().splitlines())
            if int(status["Uid"].split()[0]) == user and not status["State"].strip().startswith("Z"):
                os.kill(int(entry.name), signal.SIGKILL)
                found.append(int(entry.name))
    return found


def family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found


def cmdline(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def nested(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return len(line.split()) > 2
    return False
