"""What `oomwatchctl check` warns of, for the daemon: by a helper, since the files that rules name may lie where a look
at them never ends, and since nothing of it shall stay in the daemon's memory."""

from collections.abc import Iterable

Place = tuple[str, int, int, str]
"""File, line, column and message of a warning."""


def overlooked(main_file: str, drop_in_dirs: Iterable[str]) -> tuple[Place, ...]:
    """The warnings about the configuration that is on disk; none where it is invalid. May wait for a file system."""
    from oomwatchd.config.files import Layout
    from oomwatchd.config.lint import warnings
    from oomwatchd.config.load import ConfigError, load

    try:
        config = load(Layout(main_file, tuple(drop_in_dirs)))
    except ConfigError:
        return ()
    return tuple((found.file, found.line, found.column, found.message) for found in warnings(config))
