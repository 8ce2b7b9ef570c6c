"""The command line of oomwatchd: its arguments, its exit statuses, and the checks before the daemon starts."""

import oomwatchd.base.footprint  # noqa: F401 - first: it keeps modules that the others import from being loaded

# isort: split
import getopt
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from oomwatchd import __version__
from oomwatchd.base import open_files
from oomwatchd.base.stdio import open_standard_streams
from oomwatchd.config import load as config
from oomwatchd.config.accounts import Accounts, AskedAccounts
from oomwatchd.config.load import Config, ConfigError
from oomwatchd.config.stamp import Stamp, stamp
from oomwatchd.control.connection import Connection
from oomwatchd.control.protocol import Json, runtime_directory
from oomwatchd.daemon.daemon import Daemon
from oomwatchd.daemon.failure import Failure
from oomwatchd.daemon.log import Log, open_log
from oomwatchd.daemon.log_records import ERR, Record
from oomwatchd.daemon.parts import Parts
from oomwatchd.daemon.runtime_lock import LockTaken, RuntimeLock
from oomwatchd.kernel.proc_connector import EventsUnavailable

EXIT_FAILURE, EXIT_USAGE, EXIT_CAPABILITY, EXIT_CONFIG = 1, 2, 77, 78
"""Exit statuses. 77 and 78 are EX_NOPERM and EX_CONFIG of sysexits.h, which systemd.exec(5) lists."""

USAGE = "Usage: oomwatchd [-c FILE] [--root DIR] [--dry-run] [--once] [--check] [--version]"
HELP = f"""\
{USAGE}

Decide by the rules in /etc/oomwatchd.toml whom the OOM killer may take.

  -c FILE      read FILE alone: no other file, and no drop-ins
  --root DIR   look for all configuration files below DIR
  --dry-run    decide and log, write nothing; needs no root
  --once       scan, pin and exit
  --check      say what is wrong with the configuration, and exit with 0 or 78
  --version    show the version
  -h, --help   show this

Exit status: 0; 1 failure; 2 usage; 77 a capability is missing; 78 the configuration
is invalid. See oomwatchd(8). What it has decided: oomwatchctl(1)."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line: oomwatchd(8)."""

    file: str | None = None
    root: str = "/"
    dry_run: bool = False
    once: bool = False
    check: bool = False
    version: bool = False
    help: bool = False


class UsageError(Exception):
    """The command line is wrong. The message says what is wrong with it."""


def parse_arguments(words: Sequence[str]) -> Options:
    """Parse the command line. Raises UsageError.

    This uses getopt, since argparse would stay in the daemon's memory."""
    flags = ("dry-run", "once", "check", "version", "help")
    try:
        pairs, rest = getopt.gnu_getopt(list(words), "c:h", ["root=", *flags])
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    if rest:
        raise UsageError(f"unexpected argument '{rest[0]}'")
    given = dict(pairs)
    return Options(
        file=given.get("-c"),
        root=given.get("--root", "/"),
        dry_run="--dry-run" in given,
        once="--once" in given,
        check="--check" in given,
        version="--version" in given,
        help="--help" in given or "-h" in given,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run oomwatchd. Returns its exit status, oomwatchd(8)."""
    open_standard_streams()
    try:
        options = parse_arguments(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print(f"oomwatchd: {error}\n{USAGE}", file=sys.stderr)
        return EXIT_USAGE
    if options.help or options.version:
        return _print(HELP if options.help else f"oomwatchd {__version__}")
    return _check(options) if options.check else _run(options, open_log())


def _print(text: str) -> int:
    """Print to standard output without a buffer, since Python would write what is left in it once more at its end."""
    try:
        os.write(sys.stdout.fileno(), f"{text}\n".encode())
    except OSError as error:
        print(f"oomwatchd: failed to write to standard output: {error.strerror}", file=sys.stderr)
        return EXIT_FAILURE
    return 0


def _check(options: Options) -> int:
    """Print the errors and warnings of the configuration."""
    try:
        loaded = config.load(config.layout(options.file, options.root))
    except ConfigError as error:
        for warning in error.warnings:
            print(f"{warning} (warning)", file=sys.stderr)
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    for warning in loaded.warnings:
        print(f"{warning} (warning)", file=sys.stderr)
    return 0


def _run(options: Options, log: Log) -> int:
    def fail(message: str, status: int) -> int:
        log.write(Record("stopped", ERR, message))
        return status

    if not os.path.exists("/proc/self/stat"):
        return fail("Not starting: /proc isn't mounted (mount -t proc proc /proc)", EXIT_FAILURE)
    try:
        open_files.raise_limit()
    except open_files.TooFewFiles as reason:
        return fail(f"Not starting: {reason} (LimitNOFILE= of the unit, ulimit -n in a shell)", EXIT_FAILURE)
    where = config.layout(options.file, options.root)
    accounts = AskedAccounts() if options.once else Accounts()
    seen = stamp(where.main_file, where.drop_in_dirs, where.root)
    try:
        loaded = config.load(where, accounts)
    except ConfigError as error:
        return fail(f"Not starting, the configuration is invalid:\n{error}", EXIT_CONFIG)
    passing = options.dry_run or (options.once and loaded.settings.dry_run)
    lock = None
    try:
        lock = None if passing else RuntimeLock(runtime_directory(options.root))
    except LockTaken as taken:
        who = f", with PID {taken.pid}" if taken.pid else ""
        return fail(f"Not starting: oomwatchd runs already{who}", EXIT_FAILURE)
    except OSError:
        pass  # the ledger is in the same directory: opening it meets the same error, and reports it
    try:
        _start(options, where, accounts, loaded, seen, log)
    except EventsUnavailable as reason:
        message = f'Not starting: proc_events = "required", but there are no process events: {reason}'
        return fail(message, EXIT_CAPABILITY)
    except Failure as failure:
        return fail(str(failure), EXIT_FAILURE)
    finally:
        if lock is not None:
            lock.close()
    return 0


def _start(options: Options, where: config.Layout, accounts: Accounts, loaded: Config, seen: Stamp, log: Log) -> None:
    daemon = Daemon(
        where,
        loaded,
        seen,
        log,
        _answer,
        accounts=accounts,
        root=options.root,
        dry_run=options.dry_run,
    )
    if options.once:
        daemon.once()
        return
    daemon.run()


def _answer(parts: Parts, connection: Connection, request: Json) -> None:
    from oomwatchd.daemon import requests  # it is not needed by --check and --once

    requests.answer(parts, connection, request)
