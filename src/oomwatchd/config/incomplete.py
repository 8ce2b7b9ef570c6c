"""Finds out whether rules may be missing by accident: a full disk, half a save or a mistake may have emptied a file."""

import os
import stat
from collections import Counter

from oomwatchd.config.files import Layout
from oomwatchd.config.load import Config
from oomwatchd.config.problems import Problem


def lost_files(old: Config, fresh: Config, where: Layout) -> tuple[Problem, ...]:
    """A problem for each file that may have lost its rules by accident, compared with `old`, the configuration before:
    a file that had rules, is still there and has none; and the main file, if it is gone. A drop-in that was deleted or
    masked is gone on purpose."""
    had, has = (Counter(rule.file for rule in config.rules) for config in (old, fresh))
    present = {source.path for source in fresh.sources}
    lost = []
    for path in (source.path for source in old.sources):
        rules = f"{had[path]} rule{'' if had[path] == 1 else 's'}"
        if path in present:
            if had[path] > 0 and has[path] == 0:
                lost.append(Problem(path, 1, 1, f"It has no rules any more; it had {rules}"))
        elif path == where.main_file:
            lost.append(Problem(path, 1, 1, f"The file is gone; it had {rules}"))
        elif had[path] > 0 and _is_empty(path):
            lost.append(Problem(path, 1, 1, f"It is empty; it had {rules}"))
    return tuple(lost)


def _is_empty(path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0
