"""Whatever way a program is executed, the filter in the kernel lets its event through if a rule fits: by each way that
an executable can have another name than the one it was started by. A scan would find them too, so there is none."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oomwatchd.kernel import exec_filter
from tests.kernel.conftest import Compiler
from tests.kernel.running import Daemon, Processes, oom_score_adj, rule, wait_for_value, wait_until

PINNED = 500
CLONE_NEWNS = 0x00020000


@pytest.fixture
def pinning(daemon: Daemon, target: Path) -> Daemon:
    """A daemon with one rule, for `target`, and with the filter."""
    daemon.start(rule(target, PINNED, scan="1h"))
    if daemon.status()["filter"] != "names":
        pytest.skip(f"the kernel takes no eBPF filter here: {daemon.status()['filter_reason']}")
    return daemon


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory beside that of the target."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


def test_a_symbolic_link(pinning: Daemon, processes: Processes, target: Path, elsewhere: Path) -> None:
    link = elsewhere / "link"
    link.symlink_to(target)
    wait_for_value(processes.start(link, "1000"), PINNED)


def test_a_hard_link_is_another_path(pinning: Daemon, processes: Processes, target: Path, elsewhere: Path) -> None:
    link = elsewhere / target.name
    os.link(target, link)
    other = processes.start(link, "1000")  # of the same name, so that the event passes
    wait_for_value(processes.start(target, "1000"), PINNED)
    assert oom_score_adj(other) == 0


def test_a_file_that_is_renamed_to_the_name(
    pinning: Daemon, processes: Processes, target: Path, elsewhere: Path
) -> None:
    target.rename(elsewhere / "new")
    before = processes.start(elsewhere / "new", "1000")
    (elsewhere / "new").rename(target)
    wait_for_value(processes.start(target, "1000"), PINNED)
    assert Path(f"/proc/{before}/exe").readlink() == target  # a scan's business: no event tells of that


def test_a_file_that_is_deleted_meanwhile(pinning: Daemon, processes: Processes, target: Path) -> None:
    pid = processes.start(target, "1000")
    wait_for_value(pid, PINNED)
    target.unlink()
    assert oom_score_adj(pid) == PINNED


def test_by_descriptor(pinning: Daemon, processes: Processes, target: Path) -> None:
    program = f"import os; os.execve(os.open({str(target)!r}, os.O_RDONLY), ['other', '1000'], {{}})"
    wait_for_value(processes.start(sys.executable, "-c", program), PINNED)


def test_from_another_thread_than_the_first(pinning: Daemon, processes: Processes, target: Path) -> None:
    program = (
        "import os, threading; "
        f"threading.Thread(target=os.execl, args=({str(target)!r}, 'other', '1000')).start(); threading.Event().wait()"
    )
    wait_for_value(processes.start(sys.executable, "-c", program), PINNED)


def test_a_script_runs_its_interpreter(pinning: Daemon, processes: Processes, target: Path, elsewhere: Path) -> None:
    shutil.copy("/bin/dash", target)
    script = elsewhere / "script"
    script.write_text(f"#!{target}\nread line\n")
    script.chmod(0o755)
    wait_for_value(processes.start(script, stdin=subprocess.PIPE), PINNED)


def test_a_file_without_a_directory(daemon: Daemon, processes: Processes) -> None:
    daemon.start(
        '[daemon]\nscan_interval = "1h"\n[[rule]]\nname = "memfd"\nexe = "/memfd:oomwatchd-test"\n'
        f"oom_score_adj = {PINNED}\n"
    )
    program = (
        "import os; f = os.memfd_create('oomwatchd-test', 0); os.write(f, open('/bin/sleep', 'rb').read()); "
        "os.execve(f, ['x', '1000'], {})"
    )
    wait_for_value(processes.start(sys.executable, "-c", program), PINNED)


def in_mount_namespace(prepare: Callable[[], None]) -> Callable[[], None]:
    """For preexec_fn: in a mount namespace of its own, where nobody else sees what `prepare` mounts."""
    libc = ctypes.CDLL(None, use_errno=True)

    def unshare() -> None:
        if libc.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        prepare()

    return unshare


def mounted(*arguments: str | Path) -> Callable[[], None]:
    def mount() -> None:
        subprocess.run(["mount", *arguments], check=True)

    return mount


def start_with(
    processes: Processes, prepare: Callable[[], None], *command: str | Path, chroot: Path | None = None
) -> int:
    def everything() -> None:
        in_mount_namespace(prepare)()
        if chroot is not None:
            os.chroot(chroot)
            os.chdir("/")

    try:
        return processes.start(*command, preexec_fn=everything)
    except subprocess.SubprocessError:
        pytest.skip("mount namespaces, or this kind of mount, may not be made here")


def test_a_file_mounted_over_it(pinning: Daemon, processes: Processes, target: Path, elsewhere: Path) -> None:
    """The file that runs has another name than the path."""
    other = elsewhere / "other"
    shutil.copy("/bin/sleep", other)
    wait_for_value(start_with(processes, mounted("--bind", other, target), target, "1000"), PINNED)


def test_a_directory_mounted_over_its_own(pinning: Daemon, processes: Processes, target: Path, elsewhere: Path) -> None:
    shutil.copy(target, elsewhere / target.name)
    wait_for_value(start_with(processes, mounted("--bind", elsewhere, target.parent), target, "1000"), PINNED)


def test_on_overlayfs(pinning: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    """The file that runs is one of the file system below."""
    layers = tmp_path / "layers"

    def overlay() -> None:
        layers.mkdir()
        mounted("-t", "tmpfs", "none", layers)()
        for name in ("lower", "upper", "work"):
            (layers / name).mkdir()
        shutil.copy("/bin/sleep", layers / "lower" / target.name)
        options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
        mounted("-t", "overlay", "none", "-o", options, target.parent)()

    wait_for_value(start_with(processes, overlay, target, "1000"), PINNED)


def test_in_a_chroot(daemon: Daemon, processes: Processes, compiled: Compiler, tmp_path: Path) -> None:
    """The path counts as the daemon sees it, from its own root."""
    root = tmp_path / "root"
    root.mkdir()
    program = root / "inside"
    shutil.copy(compiled("sleeper", ["-static"]), program)
    daemon.start(rule(program, PINNED, scan="1h"))
    pid = start_with(processes, lambda: None, "/inside", chroot=root)
    wait_for_value(pid, PINNED)


@pytest.mark.serial  # it waits for a moment without events
def test_while_everything_is_watched(pinning: Daemon, processes: Processes, target: Path) -> None:
    """Who watches sees every exec; once nobody does, what concerns no rule is dropped again."""
    other = target.with_name("other")
    shutil.copy("/bin/sleep", other)
    monitor = subprocess.Popen(
        [Path(sys.executable).with_name("oomwatchctl"), "monitor"],
        env=pinning.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: pinning.status()["monitors"] == 1, "somebody watches")
        pid = processes.start(other, "1000")
        output = monitor.stdout
        assert output is not None
        wait_until(lambda: str(pid) in output.readline(), "the exec is shown")
    finally:
        monitor.send_signal(signal.SIGINT)
        monitor.wait()
    wait_until(lambda: pinning.status()["monitors"] == 0, "nobody watches")
    wait_until(lambda: quiet(pinning, processes, other), "an exec that concerns nobody isn't told of")
    wait_for_value(processes.start(target, "1000"), PINNED)


def quiet(daemon: Daemon, processes: Processes, program: Path) -> bool:
    before = daemon.status()["counters"]["events"]
    processes.start(program, "1000")
    return bool(daemon.status()["counters"]["events"] == before)


def test_while_scans_follow_each_other(daemon: Daemon, processes: Processes, target: Path) -> None:
    daemon.start(rule(target, PINNED, scan="100ms"))
    wait_for_value([processes.start(target, "1000") for _ in range(200)], PINNED)


def test_more_processes_than_the_table_holds(
    daemon: Daemon, processes: Processes, target: Path, tmp_path: Path
) -> None:
    """Then all events pass, the daemon keeps the table itself, and descendants are found as before."""
    shell = tmp_path / "shell"
    shutil.copy("/bin/dash", shell)
    small = built_with_room_for(8, tmp_path / "small.bpf.o")
    daemon.constants["oomwatchd.kernel.exec_filter.PROGRAM"] = str(small)
    daemon.start(rule(shell, PINNED, scan="1h", more='session_leader = true\nchildren = "reset"'))
    if daemon.status()["filter"] != "names":
        pytest.skip(f"the kernel takes no eBPF filter here: {daemon.status()['filter_reason']}")
    command = f"i=0; while [ $((i += 1)) -le 20 ]; do {target} 1000 & echo $!; done; wait"

    processes.start(shell, "-c", command, start_new_session=True, stdout=subprocess.PIPE)

    output = processes.children[-1].stdout
    assert output is not None
    children = [processes.adopt(int(output.readline())) for _ in range(20)]
    wait_for_value(processes.children[-1].pid, PINNED)
    wait_for_value(children, 0)
    wait_until(lambda: daemon.status()["filter"] == "kinds", "the daemon keeps the table")
    assert "table" in daemon.status()["filter_reason"]


def built_with_room_for(members: int, path: Path) -> Path:
    source = Path(exec_filter.__file__).with_name("exec_filter.bpf.c")
    multiarch = subprocess.run(["cc", "-print-multiarch"], capture_output=True, text=True, check=False).stdout.strip()
    command = ["clang", "-O2", "-g", "-target", "bpf", f"-DMEMBERS={members}", f"-I/usr/include/{multiarch}"]
    try:
        subprocess.run([*command, "-c", source, "-o", path], check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the eBPF program can't be built here: {error}")
    return path


def test_on_btrfs(pinning: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    """Which shows another device by stat(2) than the one it is mounted from."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("there is no mkfs.btrfs (Debian: btrfs-progs)")
    image, top = tmp_path / "image", tmp_path / "top"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)

    def btrfs() -> None:
        top.mkdir()
        mounted("-o", "loop", image, top)()
        subprocess.run(["btrfs", "subvolume", "create", top / "volume"], check=True, stdout=sys.stderr)
        shutil.copy("/bin/sleep", top / "volume" / target.name)
        mounted("--bind", top / "volume", target.parent)()

    wait_for_value(start_with(processes, btrfs, target, "1000"), PINNED)


def test_what_binfmt_misc_starts(pinning: Daemon, processes: Processes, target: Path, tmp_path: Path) -> None:
    """The executable is the interpreter."""
    shutil.copy(shutil.which("dash") or "/bin/sh", target)
    name = f"oomwatchd-{os.getpid()}"
    registry = tmp_path / "binfmt"
    registry.mkdir()
    if subprocess.run(["mount", "-t", "binfmt_misc", "none", registry], check=False).returncode != 0:
        pytest.skip("binfmt_misc may not be mounted here")
    try:
        (registry / "register").write_text(f":{name}:E::{name}::{target}:")
        program = tmp_path / f"program.{name}"
        program.write_text("read line\n")
        program.chmod(0o755)
        wait_for_value(processes.start(program, stdin=subprocess.PIPE), PINNED)
    finally:
        if (registry / name).exists():
            (registry / name).write_text("-1")
        subprocess.run(["umount", registry], check=True)
