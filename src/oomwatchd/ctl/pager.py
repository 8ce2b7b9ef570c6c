"""Shows long output through a pager, as systemctl(1) and journalctl(1) do it.

This happens only on a terminal that isn't a dumb one. $SYSTEMD_PAGER, then $PAGER name the program; empty or "cat"
means none. Under sudo or pkexec, or with $SYSTEMD_PAGERSECURE, only less(1) runs, with LESSSECURE=1, since a pager can
start a shell."""

import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

_USUAL = (("less",), ("more",))
_LESS_OPTIONS = "FRSXMK"
"""The options that systemd uses: quit if the output fits one screen, let colours through, chop long lines, leave the
output on the screen."""


class _ToPager(io.TextIOWrapper):
    """Standard output while a pager runs. It says that it is a terminal, so that colours and widths stay right."""

    def isatty(self) -> bool:
        return True


def page(show: Callable[[], int], *, wanted: bool = True) -> int:
    """Run `show`, which prints, with a pager behind standard output if `wanted` and if it is a terminal.

    Returns the result of `show`; 0 if the reader quit the pager before `show` had printed all."""
    process = _start(os.environ) if wanted and sys.stdout.isatty() else None
    if process is None:
        return show()
    terminal = sys.stdout
    terminal.flush()
    pipe = cast(BinaryIO, process.stdin)
    paged = _ToPager(pipe, encoding=terminal.encoding, errors="backslashreplace")
    sys.stdout = paged
    try:
        status = show()
        paged.flush()
    except BrokenPipeError:
        status = 0
    finally:
        sys.stdout = terminal
        _end(process, paged)
    return status


def _start(environment: Mapping[str, str]) -> "subprocess.Popen[bytes] | None":
    if environment.get("TERM", "dumb") == "dumb":
        return None
    for command in commands(environment):
        try:
            return subprocess.Popen(command, stdin=subprocess.PIPE, env=pager_environment(environment))
        except OSError:
            continue  # not installed; the next one may be
    return None


def commands(environment: Mapping[str, str]) -> list[list[str]]:
    """The pagers to try, in order; none if the user wants none."""
    named = environment.get("SYSTEMD_PAGER", environment.get("PAGER"))
    if named is None:
        usual = [list(command) for command in _USUAL]
    elif named.strip() in ("", "cat"):
        return []
    else:
        usual = [_words(named), *(list(command) for command in _USUAL)]
    if _is_secure(environment):
        return [command for command in usual if command and os.path.basename(command[0]) == "less"]
    return [command for command in usual if command]


def pager_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the pager."""
    changed = {**environment, "LESS": environment.get("SYSTEMD_LESS", _LESS_OPTIONS)}
    if _is_secure(environment):
        changed["LESSSECURE"] = "1"
    return changed


def _is_secure(environment: Mapping[str, str]) -> bool:
    said = environment.get("SYSTEMD_PAGERSECURE")
    if said is not None:
        return said.strip().lower() not in ("0", "no", "n", "false", "f", "off", "")
    return "SUDO_UID" in environment or "PKEXEC_UID" in environment


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unclosed quote
        return command.split()


def _end(process: "subprocess.Popen[bytes]", paged: _ToPager) -> None:
    """Wait until the reader leaves the pager. Ctrl-C is ignored here, since the pager handles it. Otherwise the pager
    would go on alone on the terminal."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        paged.close()
    except BrokenPipeError:
        pass
    finally:
        process.wait()
        signal.signal(signal.SIGINT, before)
