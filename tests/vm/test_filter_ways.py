"""The filter in the kernel lets an event through whatever way a program is executed, on Debian 12's 6.1 and under the
unit's sandbox: from overlayfs, btrfs and mounts, in another root, by binfmt_misc, beside scans, with a full table.

The values are below 0, so that each executable is also verified; no scan could pin what the filter has dropped."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.test_filter_names import built_with_room_for
from tests.vm.machine import Machine
from tests.vm.steps import configure, load_modules, provide, start, wait_for_value

IMAGE = "with_package"
TARGET = "/opt/odd/target"
PINNED = -500
RULE = """
[daemon]
scan_interval = "{scan}"
[[rule]]
name = "target"
exe = "{exe}"
user = 0
oom_score_adj = {value}
"""
OBJECT = "/usr/lib/oomwatchd/oomwatchd/kernel/exec_filter.bpf.o"
# Where the top of a subvolume is made: btrfs-progs aren't in the image. BTRFS_IOC_SUBVOL_CREATE.
SUBVOLUME = """\
import fcntl, os, struct
fcntl.ioctl(os.open("/mnt", os.O_RDONLY), 0x5000940e, bytearray(struct.pack("q4088s", 0, b"volume")))
"""
OVERLAY = """
mount -t tmpfs none /mnt && mkdir /mnt/lower /mnt/upper /mnt/work && install /usr/bin/sleep /mnt/lower/target
mount -t overlay none -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work /opt/odd
"""
OVERLAY_UPPER = OVERLAY + "cp -p /opt/odd/target /opt/odd/copied; mv /opt/odd/copied /opt/odd/target\n"
BTRFS = """
mount -o loop /root/btrfs.image /mnt && python3 /root/subvolume.py
install /usr/bin/sleep /mnt/volume/target && mount --bind /mnt/volume /opt/odd
"""
OVER_IT = "install /usr/bin/sleep /root/other; mount --bind /root/other /opt/odd/target\n"


@pytest.fixture(scope="module", autouse=True)
def prepared(machine: Machine) -> None:
    load_modules(machine)
    provide(machine, TARGET)
    machine.write("/root/subvolume.py", SUBVOLUME)


@pytest.fixture(autouse=True)
def unmounted(machine: Machine) -> Iterator[None]:
    yield
    machine.run(
        "systemctl stop target; systemctl reset-failed; umount -l /opt/odd/target; umount -l /opt/odd; umount -l /mnt;"
        " umount -l /opt/root/usr"
    )


def pin_by_events(machine: Machine, exe: str = TARGET, scan: str = "1h") -> None:
    """Start with the filter, and with one rule."""
    configure(machine, RULE.format(exe=exe, scan=scan, value=PINNED))
    status = machine.json("oomwatchctl status --json")
    assert (status["filter"], status["filter_reason"]) == ("names", "")


@pytest.fixture(scope="module")
def btrfs(machine: Machine) -> None:
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("there is no mkfs.btrfs on this machine (Debian: btrfs-progs)")
    with tempfile.TemporaryDirectory() as work:
        image = Path(work, "image")
        with image.open("wb") as file:
            file.truncate(128 << 20)
        subprocess.run(["mkfs.btrfs", "-q", image], check=True)
        packed = subprocess.run(["gzip", "-9c", image], check=True, capture_output=True).stdout
    machine.write("/root/btrfs.image.gz", packed)
    machine.succeed("gzip -dc /root/btrfs.image.gz | cp --sparse=always /dev/stdin /root/btrfs.image")


@pytest.mark.parametrize(
    "prepare", [OVERLAY, OVERLAY_UPPER, OVER_IT], ids=["overlay", "overlay, upper layer", "a file mounted over it"]
)
def test_where_the_file_lies_elsewhere(machine: Machine, prepare: str) -> None:
    pin_by_events(machine)
    machine.succeed(f"set -e; {prepare}")
    wait_for_value(machine, start(machine, "target", f"{TARGET} infinity"), PINNED)


def test_on_a_subvolume_of_btrfs(machine: Machine, btrfs: None) -> None:
    """Which shows another device by stat(2) than the one that is mounted."""
    pin_by_events(machine)
    machine.succeed(f"set -e; {BTRFS}")
    wait_for_value(machine, start(machine, "target", f"{TARGET} infinity"), PINNED)


def test_in_another_root(machine: Machine) -> None:
    """The path counts as the daemon sees it, from its own root."""
    pin_by_events(machine, "/opt/root/inside")
    provide(machine, "/opt/root/inside")
    machine.succeed(
        "mkdir -p /opt/root/usr && mount --bind /usr /opt/root/usr && cd /opt/root && ln -s usr/lib usr/lib64 ."
    )
    wait_for_value(machine, start(machine, "target", "/usr/sbin/chroot /opt/root /inside infinity"), PINNED)


def test_what_binfmt_misc_starts(machine: Machine) -> None:
    """The executable is the interpreter."""
    provide(machine, f"{TARGET}-interpreter", "/usr/bin/dash")
    pin_by_events(machine, f"{TARGET}-interpreter")
    machine.write("/root/program.odd", "while :; do sleep 1000; done\n", 0o755)
    machine.succeed(f"mount -t binfmt_misc none /mnt && echo ':odd:E::odd::{TARGET}-interpreter:' > /mnt/register")
    wait_for_value(machine, start(machine, "target", "/root/program.odd"), PINNED)
    machine.succeed("echo -1 > /mnt/odd")


def test_while_scans_follow_each_other(machine: Machine) -> None:
    pin_by_events(machine, scan="100ms")
    machine.succeed(f"for i in $(seq 40); do {TARGET} 1000 & done; true")

    def started() -> list[str] | None:
        found = machine.run("pgrep -x target").stdout.split()
        return found if len(found) == 40 else None

    pids = machine.wait("all have executed", started)
    values = f"cat {' '.join(f'/proc/{pid}/oom_score_adj' for pid in pids)} | sort | uniq -c"
    machine.wait("all are pinned", lambda: machine.succeed(values).split() == ["40", str(PINNED)])
    machine.succeed(f"kill {' '.join(pids)}")


def test_with_a_full_table_of_pids(machine: Machine, tmp_path: Path) -> None:
    """All events pass then, and the daemon keeps the table itself."""
    small = built_with_room_for(8, tmp_path / "small.bpf.o")
    machine.succeed(f"cp -p {OBJECT} /root/whole.bpf.o")
    machine.write(OBJECT, small.read_bytes())
    try:
        machine.succeed("systemctl restart oomwatchd")
        pin_by_events(machine, f"{TARGET}-shell")
        provide(machine, f"{TARGET}-shell", "/usr/bin/dash")
        machine.write("/root/many.sh", "for i in $(seq 20); do sleep 1000 & done; echo > /run/all; wait\n")
        machine.succeed("rm -f /run/all")
        pid = start(machine, "target", f"{TARGET}-shell /root/many.sh")
        wait_for_value(machine, pid, PINNED)
        machine.wait("all are there", lambda: machine.run("test -e /run/all").status == 0)
        values = f"cat $(pgrep -P {pid} | sed 's|.*|/proc/&/oom_score_adj|') | sort | uniq -c"
        machine.wait("each has what it had", lambda: machine.succeed(values).split() == ["20", "0"])

        def reason() -> str:
            status = machine.json("oomwatchctl status --json")
            return str(status["filter_reason"]) if status["filter"] == "kinds" else ""

        machine.wait("the daemon keeps the table, and says so", lambda: "table" in reason())
    finally:
        machine.succeed(f"systemctl stop target; cp -p /root/whole.bpf.o {OBJECT}; systemctl restart oomwatchd")
