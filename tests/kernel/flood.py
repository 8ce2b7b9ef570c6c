"""A user that floods the control socket until it is ended: flood.py PATH UID LINE keeps 16 connections full of LINE,
and opens others without end. Prints a line when all of this goes on."""

import contextlib
import os
import select
import socket
import sys

path, uid, line = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode() + b"\n"
os.setgid(uid)
os.setuid(uid)
connections: list[socket.socket] = []
for _ in range(16):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.setblocking(False)
    connections.append(connection)
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as another:
            another.connect(path)
            another.send(line)
    os._exit(0)
print("flooding", flush=True)
while True:
    readable, writable = select.select(connections, connections, [])[:2]
    for connection in readable:
        connection.recv(1 << 20)
    for connection in writable:
        with contextlib.suppress(BlockingIOError):
            connection.send(line * 50)
