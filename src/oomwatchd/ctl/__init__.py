"""oomwatchctl: the command line. Each verb lives in a module of this package, imported when it is asked for."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from oomwatchd import __version__

# verb -> (module of this package, one line for the help). A module has, for its verb VERB,
# `configure_VERB(parser)`, which adds arguments, and `run_VERB(arguments)`, which returns the exit status.
VERBS = {}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its exit status (oomwatchctl(1)); argparse exits with 2 on a usage error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    raise NotImplementedError(arguments, __version__, argparse, import_module, VERBS)
