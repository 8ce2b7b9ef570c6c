"""The least that an exec costs in plain Python: receive, unpack, readlink, compare, write where it fits, as reference.c
does it.

bare PATH VALUE: prints a line when it listens."""

import os
import socket
import struct
import sys

from oomwatchd.kernel.proc_connector import PROC_EVENT_EXEC, Connector


def main() -> None:
    connector = Connector(frozenset({PROC_EVENT_EXEC}))
    connector.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 0))
    receive, unpack, readlink = connector.socket.recv, struct.Struct("=I4xQ4xI").unpack_from, os.readlink
    wanted, value = os.fsencode(sys.argv[1]), sys.argv[2].encode()
    print("listening", flush=True)
    while True:
        try:
            _, _, pid = unpack(receive(256), 36)
            if readlink(b"/proc/%d/exe" % pid) == wanted:
                descriptor = os.open(b"/proc/%d/oom_score_adj" % pid, os.O_WRONLY)
                os.write(descriptor, value)
                os.close(descriptor)
        except OSError:
            pass


main()
