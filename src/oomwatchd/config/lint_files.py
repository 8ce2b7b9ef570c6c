"""Finds the warnings of `oomwatchctl check` for the daemon.

A helper process does that, for two reasons: a rule may name a file on a file system that never answers; and the memory
that it takes shall not stay in the daemon."""

from collections.abc import Iterable

Place = tuple[str, int, int, str]
"""File, line, column and message of a warning."""


def lint_files(main_file: str, drop_in_dirs: Iterable[str], root: str, limit: int) -> tuple[Place, ...]:
    """The first warnings about the configuration that is on disk, at most `limit`; none if it is invalid. The other
    arguments are those of a Layout. This may wait for a file system."""
    from oomwatchd.config.files import Layout
    from oomwatchd.config.lint import warnings
    from oomwatchd.config.load import ConfigError, load

    try:
        config = load(Layout(main_file, tuple(drop_in_dirs), root=root))
    except ConfigError:
        return ()
    return tuple((found.file, found.line, found.column, found.message) for found in warnings(config)[:limit])
