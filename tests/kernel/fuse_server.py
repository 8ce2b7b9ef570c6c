"""A file system over one program, by FUSE, include/uapi/linux/fuse.h: `python -m tests.kernel.fuse_server DIRECTORY
PROGRAM`. At SIGUSR1 it stops answering, and prints a line for each request; at SIGUSR2 it answers all that it has been
asked meanwhile."""

import ctypes
import errno
import os
import signal
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, RELEASEDIR = 1, 2, 3, 14, 15, 18, 25, 26, 27, 29
INTERRUPT, BATCH_FORGET = 36, 42
ROOT, FILE = 1, 2
NAME = b"program"


class Server:
    """Answers requests that it reads from /dev/fuse."""

    def __init__(self, directory: str, program: str) -> None:
        with open(program, "rb") as file:
            self.content = file.read()
        self.device = os.open("/dev/fuse", os.O_RDWR)
        self.silent = False
        self.kept: list[bytes] = []
        options = f"fd={self.device},rootmode=40755,user_id=0,group_id=0,allow_other".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"test", directory.encode(), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "mount")

    def run(self) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: self.set_silent(True))
        signal.signal(signal.SIGUSR2, lambda *_: self.set_silent(False))
        print("mounted", flush=True)
        while True:
            try:
                request = os.read(self.device, 1 << 20)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                return
            if self.silent:
                self.kept.append(request)
                print("asked", flush=True)
            else:
                self.answer(request)

    def set_silent(self, silent: bool) -> None:
        self.silent = silent
        kept, self.kept = self.kept, []
        for request in kept:
            self.answer(request)

    def answer(self, request: bytes) -> None:
        _, opcode, unique, node = struct.unpack_from("=IIQQ", request)
        body = request[40:]
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            return
        error, payload = self.reply(opcode, node, body)
        try:
            os.write(self.device, struct.pack("=IiQ", 16 + len(payload), -error, unique) + payload)
        except OSError:
            return  # who asked is gone

    def reply(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        if opcode == INIT:
            return 0, struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") != NAME:
                return errno.ENOENT, b""
            return 0, struct.pack("=QQQQII", FILE, 0, 0, 0, 0, 0) + self.attributes(FILE)
        if opcode == GETATTR:
            return 0, struct.pack("=QII", 0, 0, 0) + self.attributes(node)
        if opcode in (OPEN, OPENDIR):
            return 0, struct.pack("=QII", 0, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            return 0, self.content[offset : offset + size]
        return (0, b"") if opcode in (RELEASE, RELEASEDIR, FLUSH) else (errno.ENOSYS, b"")

    def attributes(self, node: int) -> bytes:
        mode, size = (0o40755, 0) if node == ROOT else (0o100755, len(self.content))
        return struct.pack("=6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


if __name__ == "__main__":
    Server(sys.argv[1], sys.argv[2]).run()
