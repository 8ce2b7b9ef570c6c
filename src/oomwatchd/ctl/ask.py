"""Asks the daemon: one request, one reply. Where there is no reply, the verb ends with an error."""

import argparse
import contextlib

from oomwatchd.control.client import Client, NotRunning, shape_of
from oomwatchd.control.protocol import Json, runtime_directory
from oomwatchd.ctl.arguments import path
from oomwatchd.ctl.errors import CommandError

NOT_RUNNING = 3
"""The exit status, as `systemctl status` has it."""


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add the option --root, which says which daemon is meant."""
    parser.add_argument("--root", type=path, metavar="DIR", default="/", help="the daemon started with this --root")


def connect(root: str) -> Client:
    """Connect to the daemon of `root`. Raises CommandError if none runs."""
    try:
        return Client(runtime_directory(root))
    except NotRunning as reason:
        raise CommandError(NOT_RUNNING, f"{reason}; to start it: systemctl start oomwatchd") from None


def ask(root: str, request: Json) -> Json:
    """Connect to the daemon of `root`, and return its reply to `request`. Raises CommandError if no daemon runs, or if
    it refuses."""
    with connect(root) as client:
        return reply_to(client, request)


def reply_to(client: Client, request: Json) -> Json:
    """The daemon's reply to `request` on an open connection. Raises CommandError if it refuses or closes the
    connection."""
    with contextlib.suppress(OSError):  # the daemon may have sent the reason before it closed the connection
        client.send(request)
    try:
        reply = client.receive(shape_of(request))
    except NotRunning as reason:
        raise CommandError(NOT_RUNNING, str(reason)) from None
    if len(reply) == 1 and isinstance(error := reply.get("error"), str):
        raise CommandError(1, error)
    return reply
