"""The least that an exec costs in plain Python: receive, unpack, readlink, compare, as reference.c does it.

bare PATH: prints a line when it listens."""

import os
import socket
import struct
import sys

from oomwatchd.connector import PROC_EVENT_EXEC, Connector


def main() -> None:
    connector = Connector(frozenset({PROC_EVENT_EXEC}))
    connector.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 0))
    receive, unpack, readlink = connector.socket.recv, struct.Struct("=I4xQ4xI").unpack_from, os.readlink
    wanted, fits = os.fsencode(sys.argv[1]), 0
    print("listening", flush=True)
    while True:
        try:
            _, _, pid = unpack(receive(256), 36)
            if readlink(b"/proc/%d/exe" % pid) == wanted:
                fits += 1
        except OSError:
            pass


main()
