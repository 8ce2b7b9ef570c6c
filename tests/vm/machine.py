"""A booted VM: run commands in it, reboot it, read its console. Every wait has a deadline and ends with the console."""

import base64
import json
import os
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.vm.image import Image

T = TypeVar("T")

# Emulated, on two cores that others may be using: three to five seconds in a quiet hour.
BOOT_TIMEOUT_S = 240
COMMAND_TIMEOUT_S = 180
# What the line and the agent may add to a command's own limit, an OOM that thrashes included.
GRACE_S = 40.0
ACKNOWLEDGED_BYTES = 2048
MIB = 1 << 20
# The line takes 20 s for a package, a second disk none. Linux 6.12 may number a controller's namespaces in any order,
# and the first must be the root file system.
PARCELS_MIB = {"bookworm": 256}
PARCEL_BYTES = 16 << 10
CONSOLE_TAIL_LINES = 60
KERNEL_ARGUMENTS = (
    "root=/dev/nvme0n1 rootfstype=ext4 rw console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable "
    "no_timer_check nokaslr norandmaps audit=0 printk.devkmsg=on systemd.show_status=auto"
)


class MachineFailed(Exception):
    """The VM hangs, panicked or ended. The text ends with its console."""


class CommandFailed(Exception):
    """A command in the VM exited with a status other than 0. The text has its output."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command: its exit status (128 + signal; 124 when it timed out) and its output."""

    status: int
    stdout: str
    stderr: str


class Machine:
    """One VM on an overlay of its own; the image stays as it is."""

    def __init__(self, image: Image, directory: Path, memory_mib: int = 512) -> None:
        self.image = image
        self.directory = directory
        self.memory_mib = memory_mib
        self.boot_s: list[float] = []
        self.grace_s = GRACE_S
        self._console = directory / "console.log"
        self._socket_path = directory / "agent"
        self._parcels = directory / "parcels"
        self._parcels_mib = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-b",
                str(image.root),
                "-F",
                image.format,
                str(directory / "root.qcow2"),
            ],
            check=True,
            timeout=120,
        )
        with self._parcels.open("wb") as parcels:
            parcels.truncate(PARCELS_MIB.get(image.suite, 0) * MIB)

    # -- power

    def boot(self) -> None:
        """Start qemu and wait until the agent speaks. Raises MachineFailed."""
        start = time.monotonic()
        self._socket_path.unlink(missing_ok=True)
        # A socket's path has 108 bytes, and pytest's directories are deep: relative to the working directory. However
        # the test run ends, the VM ends too.
        self._process = subprocess.Popen(
            shlex.split(
                f"""setpriv --pdeathsig KILL qemu-system-x86_64 -machine pc -accel tcg,thread=multi
                -cpu {self.image.cpu} -smp 2 -m {self.memory_mib} -kernel {shlex.quote(str(self.image.kernel))}
                -append {shlex.quote(KERNEL_ARGUMENTS)}
                -drive if=none,id=root,format=qcow2,cache=unsafe,file=root.qcow2
                -device nvme,id=disks,serial=disks -device nvme-ns,bus=disks,drive=root,nsid=1 {self._second_disk()}
                -no-reboot -nodefaults -nic none -display none
                -chardev file,id=console,path=console.log,append=on -serial chardev:console
                -chardev socket,id=agent,path=agent,server=on,wait=off -serial chardev:agent"""
            ),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "qemu.log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        deadline = start + BOOT_TIMEOUT_S
        self._line = self._connect(deadline)
        if self._receive_frame(deadline) != b"ready":
            raise self._failed("the agent said something else than that it is ready")
        self.boot_s.append(time.monotonic() - start)

    def _second_disk(self) -> str:
        if self.image.suite not in PARCELS_MIB:
            return ""
        return "-drive if=none,id=parcels,format=raw,file=parcels -device nvme-ns,bus=disks,drive=parcels,nsid=2"

    def reboot(self) -> None:
        """`systemctl reboot`, which ends qemu (-no-reboot), and start it again on the same disk."""
        self._send_frame(struct.pack("<I", 20) + b"systemctl reboot", time.monotonic() + self.grace_s)
        self.wait_ended(BOOT_TIMEOUT_S)
        self._hang_up()
        self.boot()

    def wait_ended(self, timeout_s: float) -> None:
        """Wait until qemu ends, by a reboot or a panic. Raises MachineFailed when it doesn't."""
        assert self._process is not None
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self._failed(f"still running after {timeout_s:.0f} s") from None

    def shut_down(self) -> Image:
        """`systemctl poweroff`. Returns the disk as it is then, for other machines to start from."""
        self._send_frame(struct.pack("<I", 20) + b"systemctl poweroff", time.monotonic() + self.grace_s)
        self.wait_ended(BOOT_TIMEOUT_S)
        self.kill()
        return self.disk(self.image, self.directory)

    @staticmethod
    def disk(image: Image, directory: Path) -> Image:
        """The disk of a machine in `directory` that was started from `image`, for other machines to start from."""
        return replace(image, root=directory / "root.qcow2", format="qcow2")

    def kill(self) -> None:
        """Pull the plug."""
        self._hang_up()
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def console(self) -> str:
        """What the kernel and systemd have written to the first serial port so far, over all boots."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    # -- commands

    def run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Done:
        """Run a bash script as root and wait for its end. Raises MachineFailed when the VM doesn't answer."""
        deadline = time.monotonic() + timeout_s + self.grace_s
        self._send_frame(struct.pack("<I", int(timeout_s)) + script.encode(), deadline)
        reply = self._receive_frame(deadline)
        status, stdout_length = struct.unpack_from("<II", reply)
        outputs = reply[8:]
        stdout, stderr = outputs[:stdout_length], outputs[stdout_length:]
        return Done(status, stdout.decode(errors="backslashreplace"), stderr.decode(errors="backslashreplace"))

    def succeed(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a script that must exit with 0, and return its stdout without the white space around it."""
        done = self.run(script, timeout_s)
        if done.status != 0:
            raise CommandFailed(f"{script}\nexited with {done.status}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def json(self, script: str) -> Any:
        """Run a script and parse its stdout as one JSON value, whatever its exit status is."""
        done = self.run(script)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise CommandFailed(
                f"{script}\nexited with {done.status} and no JSON\n{done.stdout}{done.stderr}"
            ) from None

    def wait(self, what: str, probe: Callable[[], T | None], timeout_s: float = COMMAND_TIMEOUT_S) -> T:
        """Ask `probe` until it answers with something true. Raises AssertionError with the last answer."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = probe()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}; the last answer: {answer!r}")
            time.sleep(0.1)

    # -- files and processes

    def write(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Replace a file, as an editor does: by a new file under its name."""
        data = content.encode() if isinstance(content, str) else content
        new = f"{shlex.quote(path)}.new"
        if len(data) > PARCEL_BYTES and self.image.suite in PARCELS_MIB:
            arrives = f"{self._parcel(data)} > {new}"
        else:  # through a here document, base64: the script is text
            arrives = f"base64 -d > {new} <<'END'\n{_base64(data)}\nEND"
        self.succeed(f"set -e; {arrives}\nchmod {mode:o} {new}; mv -f {new} {shlex.quote(path)}")

    def _parcel(self, data: bytes) -> str:
        """Put data on the second disk, where nothing was before, and return the command that prints it."""
        mib = -(-len(data) // MIB)
        assert self._parcels_mib + mib <= PARCELS_MIB[self.image.suite], "the second disk is full"
        with self._parcels.open("r+b") as parcels:
            parcels.seek(self._parcels_mib * MIB)
            parcels.write(data)
        command = f"dd if=/dev/nvme0n2 bs=1M iflag=direct status=none skip={self._parcels_mib} count={mib}"
        self._parcels_mib += mib
        return f"{command} | head -c {len(data)}"

    def read(self, path: str) -> str:
        """A file's content, without the white space around it."""
        return self.succeed(f"cat {shlex.quote(path)}")

    def oom_score_adj(self, pid: int) -> int:
        return int(self.read(f"/proc/{pid}/oom_score_adj"))

    def main_pid(self, unit: str) -> int:
        """The main process of a service, 0 if it has none."""
        return int(self.succeed(f"systemctl show -P MainPID {shlex.quote(unit)}"))

    def is_active(self, unit: str) -> bool:
        return self.run(f"systemctl -q is-active {shlex.quote(unit)}").status == 0

    def journal(self, arguments: str) -> list[dict[str, Any]]:
        """The records that `journalctl -o json ARGUMENTS` selects, oldest first."""
        output = self.succeed(f"journalctl --sync; journalctl --no-pager -o json --all {arguments}")
        return [json.loads(line) for line in output.splitlines()]

    # -- the line

    def _connect(self, deadline: float) -> socket.socket:
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.chdir(self.directory)
            while True:
                line = socket.socket(socket.AF_UNIX)
                try:
                    line.connect("agent")
                    return line
                except (FileNotFoundError, ConnectionRefusedError):
                    line.close()
                if time.monotonic() > deadline or self._ended():
                    raise self._failed("qemu didn't open the agent's line")
                time.sleep(0.01)
        finally:
            os.fchdir(here)
            os.close(here)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _receive(self, length: int, deadline: float) -> bytes:
        assert self._line is not None
        received = bytearray()
        while len(received) < length:
            self._line.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = self._line.recv(length - len(received))
            except TimeoutError:
                raise self._failed("no answer in time") from None
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise self._failed("it ended")
            received += chunk
        return bytes(received)

    def _receive_frame(self, deadline: float) -> bytes:
        magic, length, checksum = struct.unpack("<4sII", self._receive(12, deadline))
        if magic != b"OWD1":
            raise self._failed(f"the line is garbled: {magic!r} where a frame should begin")
        payload = self._receive(length, deadline)
        if sum(payload) & 0xFFFFFFFF != checksum:
            raise self._failed("the line is garbled: a frame has another checksum")
        return payload

    def _send_frame(self, payload: bytes, deadline: float) -> None:
        if self._line is None:
            raise MachineFailed("not booted, or it has failed before")
        try:
            self._line.sendall(struct.pack("<4sII", b"OWD1", len(payload), sum(payload) & 0xFFFFFFFF))
            for offset in range(0, len(payload), ACKNOWLEDGED_BYTES):
                self._line.sendall(payload[offset : offset + ACKNOWLEDGED_BYTES])
                if self._receive(1, deadline) != b"a":
                    raise self._failed("the line is garbled: no acknowledgement")
        except (BrokenPipeError, ConnectionResetError):
            raise self._failed("it ended") from None

    def _failed(self, reason: str) -> MachineFailed:
        ended = f"qemu exited with {self._process.poll()}" if self._process and self._ended() else "qemu runs"
        self.kill()
        tail = "\n".join(self.console().splitlines()[-CONSOLE_TAIL_LINES:])
        said = (self.directory / "qemu.log").read_text(errors="replace").strip()
        return MachineFailed(f"{reason} ({ended}) {said}\n--- the end of the console ---\n{tail}")


def _base64(data: bytes) -> str:
    return base64.encodebytes(data).decode().rstrip("\n")
