"""The configuration in force, and whether it was set aside by `oomwatchctl restore`."""

import time

from oomwatchd.config.load import Config

_BLIND_SCAN_SECONDS = 1.0
"""The longest interval of scans where there are no process events: then only scans find new processes."""


class InForce:
    """The configuration in force. All parts may read it; only Applier changes it."""

    def __init__(self, loaded: Config, *, always_dry: bool) -> None:
        """`always_dry`: the command line says --dry-run."""
        self.config = loaded
        self.always_dry = always_dry
        self.loaded_at = time.time()
        """When this configuration came in force: seconds since the epoch."""
        self.restored = False
        """Whether `oomwatchctl restore` was asked for, and no configuration has come in force since. Then no process is
        pinned."""

    def take(self, fresh: Config) -> None:
        """Put another configuration in force."""
        self.config = fresh
        self.loaded_at = time.time()
        self.restored = False

    def renumber(self, resolved: Config) -> None:
        """Replace the configuration by the same one with the numbers that users and groups have now."""
        self.config = resolved

    def restore(self) -> None:
        """Set the configuration aside: no process is pinned until the next one is in force."""
        self.restored = True

    @property
    def dry_run(self) -> bool:
        """Whether the daemon decides and logs, but writes nothing."""
        return self.always_dry or self.config.settings.dry_run

    @property
    def enabled_rules(self) -> int:
        """How many rules of the configuration are enabled."""
        return sum(rule.enabled for rule in self.config.rules)

    def scan_seconds(self, *, events: bool) -> float:
        """Seconds between scans. `events`: whether there are process events."""
        wanted = self.config.settings.scan_interval
        if events or self.config.settings.proc_events == "off":
            return wanted
        return min(wanted, _BLIND_SCAN_SECONDS)
