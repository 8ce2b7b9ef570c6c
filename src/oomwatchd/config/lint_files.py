"""The warnings of `oomwatchctl check`, for the daemon.

A helper process finds them: a rule may name a file where a look never ends, and what finding them takes shall not stay
in the daemon's memory."""

from collections.abc import Iterable

Place = tuple[str, int, int, str]
"""File, line, column and message of a warning."""


def lint_files(main_file: str, drop_in_dirs: Iterable[str], limit: int) -> tuple[Place, ...]:
    """The first warnings about the configuration that is on disk, at most `limit`; none where it is invalid. May wait
    for a file system."""
    from oomwatchd.config.files import Layout
    from oomwatchd.config.lint import warnings
    from oomwatchd.config.load import ConfigError, load

    try:
        config = load(Layout(main_file, tuple(drop_in_dirs)))
    except ConfigError:
        return ()
    return tuple((found.file, found.line, found.column, found.message) for found in warnings(config)[:limit])
