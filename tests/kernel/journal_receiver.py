"""Stands in for journald: prints each native record that comes, as a line of JSON. Run in a mount namespace of its
own, with an empty file system at /run; starts the command of its arguments, and ends with it."""

import json
import os
import socket
import struct
import subprocess
import sys
from typing import BinaryIO

ADDRESS = "/run/systemd/journal/socket"


def parse(raw: bytes) -> dict[str, str]:
    """Journal Export Format, systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    fields = {}
    while raw:
        line, _, raw = raw.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            (size,) = struct.unpack_from("<Q", raw)
            name, value, raw = line, raw[8 : 8 + size], raw[9 + size :]
        fields[name.decode()] = value.decode()
    return fields


def main(command: list[str], out: BinaryIO) -> int:
    os.makedirs(os.path.dirname(ADDRESS))
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(ADDRESS)
    receiver.settimeout(0.1)
    child = subprocess.Popen(command)
    while True:
        try:
            record = parse(receiver.recv(1 << 16))
        except TimeoutError:
            if child.poll() is not None:
                return child.returncode
            continue
        out.write(json.dumps(record).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout.buffer))
