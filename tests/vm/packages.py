"""Debian packages for single VM tests, which the images do without: 0.2 MB, cached beside the images.

Their files are unpacked, without dpkg, which takes a minute in an emulated machine, and nothing is enabled."""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.vm import image
from tests.vm.machine import Machine

# The script runs outside of the new system, with the apt of this machine and the sources of the release.
DOWNLOAD = 'cd "$1"/work && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && apt-get -q download {}'
TIMEOUT_S = 600
LEFT_OUT = ("./usr/share/doc", "./usr/share/man", "./usr/share/lintian", "./usr/share/bash-completion")


def download(suite: str, names: tuple[str, ...]) -> list[Path]:
    """The packages `names` of a Debian release, as it had them when they were first asked for."""
    key = hashlib.sha256(" ".join((suite, *names)).encode()).hexdigest()[:16]
    kept = image.cache_directory() / f"packages-{key}"
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="packages.") as work:
            _download(suite, DOWNLOAD.format(" ".join(names)), Path(work, "apt"))
            ready = Path(work, "ready")
            ready.mkdir()
            for package in Path(work, "apt/work").glob("*.deb"):
                shutil.copy(package, ready)
            ready.rename(kept)
    return sorted(kept.glob("*.deb"))


def _download(suite: str, script: str, target: Path) -> None:
    command = ["mmdebstrap", "--mode=root", "--variant=custom", '--setup-hook=mkdir -p "$1"/work']
    command += [f"--customize-hook={script}", suite, str(target), *image._sources(suite)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")


def unpack(machine: Machine, suite: str, names: tuple[str, ...]) -> None:
    """Unpack packages whose dependencies the machine has, and make the users that they want."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for package in download(suite, names):
            raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
            with tarfile.open(fileobj=io.BytesIO(raw)) as content:
                for member in content:
                    if not member.isdir() and not member.name.startswith(LEFT_OUT):
                        archive.addfile(member, content.extractfile(member) if member.isreg() else None)
    machine.write("/root/packages.tar.gz", packed.getvalue())
    machine.succeed(
        "tar -C / --keep-directory-symlink -xzf /root/packages.tar.gz && rm /root/packages.tar.gz"
        " && systemd-sysusers && systemctl daemon-reload && systemctl reload dbus",
        TIMEOUT_S,
    )
