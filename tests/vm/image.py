"""Builds what the VM tests boot: root file systems of Debian 12 and 13, each with its own cloud kernel as an ELF.

Cached by the hash of the recipe, which is this file and the agent's. Wants root, mmdebstrap, mkfs.ext4, lz4, zstd
and apt. `python -m tests.vm.image` builds all of it and says how long that took.
"""

import fcntl
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The releases, and the CPU that qemu shows to each. 6.12 gets an old one: with the newest it once panicked in half of
# its boots, under qemu 7.2.
SUITES = {"bookworm": "max,la57=off", "trixie": "Nehalem"}
AGENT = Path(__file__).with_name("agent.pl")

# What a plain machine has, what the package depends on (the VM has no network), and sshd to be pinned. sudo
# and cron stay out: each unit costs boot time, and all of this is emulated.
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "openssh-client",
    "procps",
    "python3",
    "python3-systemd",
    "python3-pyinotify",
    "python3-tomli",
    "libbpf1",
)
# Only waste in a VM that lives for a minute and has one serial line.
MASKED_UNITS = (
    "getty.target",
    "console-getty.service",
    "modprobe@.service",  # there are no modules
    "systemd-modules-load.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-update-utmp.service",
    "systemd-pstore.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
)
MASKED_GENERATORS = (
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-ssh-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
    "systemd-veritysetup-generator",
)
# Early, so that it can say why a boot fails; but a boot empties /tmp first, and tests have files there.
AGENT_UNIT = """\
[Unit]
Description=Runs what the test asks for
DefaultDependencies=no
After=systemd-journald.socket systemd-tmpfiles-setup.service
[Service]
ExecStart=/usr/bin/perl /usr/local/lib/vm-agent.pl /dev/ttyS1
OOMScoreAdjust=-1000
OOMPolicy=continue
Delegate=yes
[Install]
WantedBy=multi-user.target
"""
# Of Debian 12's kernel the modules of the file systems that a program may be started from. In this order: each needs
# only those before it.
MODULES = ("libcrc32c", "xor", "raid6_pq", "zstd_compress", "btrfs", "overlay", "loop", "binfmt_misc")
KERNEL_DOWNLOAD = """\
cd "$1"/work && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && apt-get -q download $(
    apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-6/ { print $2; exit }')
"""
BUILD_TIMEOUT_S = 420
UNUSED_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class Image:
    """A root file system (ext4, in a raw file or a qcow2 of another machine) and the kernel that boots it."""

    suite: str
    root: Path
    kernel: Path
    cpu: str
    format: str = "raw"


def cache_directory() -> Path:
    """$OOMWATCHD_VM_CACHE, or below the user's own cache, so that a fresh clone finds it too."""
    named = os.environ.get("OOMWATCHD_VM_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oomwatchd" / "vm"


def build(suite: str) -> Image:
    """The image of a Debian release, from the cache where its recipe hasn't changed."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(Path(__file__).read_bytes() + AGENT.read_bytes()).hexdigest()[:16]
    image = Image(suite, cache / f"{suite}-{key}.ext4", cache / f"vmlinux-{suite}-{key}", SUITES[suite])
    modules = cache / f"modules-{suite}-{key}"
    with _locked(cache / "lock"):
        _forget_the_unused(cache)
        if not image.kernel.exists():
            _build_kernel(suite, image.kernel, modules)
        if not image.root.exists():
            _build_root(suite, image.root, modules)
        for used in (image.root, image.kernel, modules):
            os.utime(used)
    return image


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_the_unused(cache: Path) -> None:
    """Other checkouts have other recipes, and may be running from them: only what nobody has asked for in a week."""
    for path in cache.glob("*-*"):
        if time.time() - path.stat().st_mtime > UNUSED_S:
            path.unlink() if path.is_file() else shutil.rmtree(path)


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _mirrors() -> tuple[str, str]:
    """Debian's and Debian security's mirror as this machine's apt knows them."""
    targets = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"])
    uris = [uri.rstrip("/") for uri in targets.split()]
    security = next((uri for uri in uris if "security" in uri), "http://deb.debian.org/debian-security")
    main = next((uri for uri in uris if "security" not in uri), "http://deb.debian.org/debian")
    return main, security


def _sources(suite: str) -> list[str]:
    main, security = _mirrors()
    return [
        f"deb {main} {suite} main",
        f"deb {main} {suite}-updates main",
        f"deb {security} {suite}-security main",
    ]


def _build_root(suite: str, target: Path, modules: Path) -> None:
    # Not below /tmp: that may be a small tmpfs.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.stem}.") as work:
        tree = Path(work) / "tree"
        packages = [*PACKAGES, *(["python3-pyasyncore"] if suite != "bookworm" else [])]
        _run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                f"--include={','.join(packages)}",
                "--aptopt=Acquire::Languages none",
                "--aptopt=Acquire::Retries 3",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                suite,
                str(tree),
                *_sources(suite),
            ]
        )
        _configure(tree)
        shutil.copytree(modules, tree / "usr/local/lib/modules")
        raw = Path(work) / "root.ext4"
        _run(["truncate", "-s", "2G", str(raw)])
        _run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", str(tree), str(raw)])
        raw.rename(target)


def _configure(tree: Path) -> None:
    # An empty machine-id makes each boot a first boot, with presets for all units.
    (tree / "etc/machine-id").write_text("5f0c1c8e6a1d4e7f9b3a2d4c6e8f0a1b\n")
    (tree / "etc/hostname").write_text("vm\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost vm\n")
    (tree / "etc/fstab").write_text("")
    (tree / "var/log/journal").mkdir(parents=True, exist_ok=True)
    units = tree / "etc/systemd/system"
    for unit in MASKED_UNITS:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    generators = tree / "etc/systemd/system-generators"
    generators.mkdir(parents=True, exist_ok=True)
    for generator in MASKED_GENERATORS:
        (generators / generator).symlink_to("/dev/null")
    shutil.copy(AGENT, tree / "usr/local/lib/vm-agent.pl")
    (units / "vm-agent.service").write_text(AGENT_UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "vm-agent.service").symlink_to("../vm-agent.service")
    _run(["chroot", str(tree), "useradd", "--create-home", "--shell", "/bin/bash", "alice"])
    # root may log in as alice, over PAM, by `ssh alice@localhost`.
    _run(["chroot", str(tree), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519"])
    (tree / "root/.ssh/config").write_text("StrictHostKeyChecking no\nLogLevel ERROR\n")
    ssh = tree / "home/alice/.ssh"
    ssh.mkdir(mode=0o700)
    shutil.copy(tree / "root/.ssh/id_ed25519.pub", ssh / "authorized_keys")
    _run(["chroot", str(tree), "chown", "-R", "alice:alice", "/home/alice/.ssh"])


def _build_kernel(suite: str, target: Path, modules: Path) -> None:
    """The release's cloud kernel: it has NVMe, ext4, the serial port and the proc connector built in. Into `modules`
    some of its modules. An ELF vmlinux boots by PVH, without the decompressor, which emulation makes slow."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as work:
        # mmdebstrap is the one tool that runs apt for a release which needn't be this machine's.
        _run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=custom",
                '--setup-hook=mkdir -p "$1"/work',
                f"--customize-hook={KERNEL_DOWNLOAD}",
                suite,
                f"{work}/apt",
                *_sources(suite),
            ]
        )
        (package,) = Path(work, "apt/work").glob("linux-image-*.deb")
        _run(["dpkg-deb", "-x", str(package), f"{work}/kernel"])
        (vmlinuz,) = Path(work, "kernel/boot").glob("vmlinuz-*")
        vmlinux = Path(work, "vmlinux")
        vmlinux.write_bytes(_unpack(vmlinuz.read_bytes()))
        kept = Path(work, "modules")
        kept.mkdir()
        for name in MODULES if suite == "bookworm" else ():
            (module,) = Path(work, "kernel/lib/modules").rglob(f"{name}.ko")
            shutil.copy(module, kept)
        shutil.rmtree(modules, ignore_errors=True)
        kept.rename(modules)
        vmlinux.rename(target)


def _unpack(vmlinuz: bytes) -> bytes:
    """The ELF inside a bzImage whose payload is legacy LZ4 or zstd (Documentation/arch/x86/boot.rst, 2.08)."""
    setup_sectors = vmlinuz[0x1F1] or 4
    payload_offset, payload_length = struct.unpack_from("<II", vmlinuz, 0x248)
    start = (setup_sectors + 1) * 512 + payload_offset
    # The last four bytes are the unpacked length, which the kernel's build appends.
    payload = vmlinuz[start : start + payload_length - 4]
    tool = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}.get(payload[:4])
    if tool is None:
        raise RuntimeError(f"the kernel's payload is neither legacy LZ4 nor zstd but begins with {payload[:4].hex()}")
    elf = subprocess.run([tool, "-dc"], input=payload, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    if not re.match(rb"\x7fELF", elf):
        raise RuntimeError("the kernel's payload isn't an ELF")
    return elf


def main() -> int:
    for suite in SUITES:
        start = time.monotonic()
        image = build(suite)
        mib = image.root.stat().st_blocks * 512 >> 20
        print(f"{suite}: {image.root} ({mib} MiB) in {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
