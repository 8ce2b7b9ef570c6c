"""What the daemon goes by at present: the configuration, and what was asked for at run time."""

import time

from oomwatchd.config.load import Config

_BLIND_SCAN_SECONDS = 1.0
"""Without process events nothing but scans finds a new process."""


class InForce:
    """The configuration in force. Everybody may read it; only Applier changes it."""

    def __init__(self, loaded: Config, *, always_dry: bool) -> None:
        """`always_dry`: the command line says --dry-run."""
        self.config = loaded
        self.always_dry = always_dry
        self.loaded_at = time.time()
        """When this configuration came in force: seconds since the epoch."""
        self.restored = False
        """Whether somebody has asked for nobody to be held, and nobody for a reload since."""

    def take(self, fresh: Config) -> None:
        """Another configuration is in force now."""
        self.config = fresh
        self.loaded_at = time.time()
        self.restored = False

    def renumber(self, resolved: Config) -> None:
        """The same configuration, with the numbers that users and groups have now."""
        self.config = resolved

    def restore(self) -> None:
        """Nobody is to be held until the next configuration is in force."""
        self.restored = True

    @property
    def dry_run(self) -> bool:
        """Whether to decide and log, and to write nothing."""
        return self.always_dry or self.config.settings.dry_run

    @property
    def enabled_rules(self) -> int:
        """How many rules of the configuration are enabled."""
        return sum(rule.enabled for rule in self.config.rules)

    def scan_seconds(self, *, events: bool) -> float:
        """Seconds between scans, while there are process `events` or not."""
        wanted = self.config.settings.scan_interval
        if events or self.config.settings.proc_events == "off":
            return wanted
        return min(wanted, _BLIND_SCAN_SECONDS)
