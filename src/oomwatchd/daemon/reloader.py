"""Reads the configuration again: when it changes on disk, and when a reload is asked for."""

import contextlib
import time
from collections.abc import Callable

from oomwatchd.base.text import counted
from oomwatchd.config.incomplete import lost_files
from oomwatchd.config.load import Config, ConfigError, Layout
from oomwatchd.config.problems import Problem
from oomwatchd.config.stamp import Stamp
from oomwatchd.daemon.config_poll import ConfigPoll
from oomwatchd.daemon.helper_pool import HelperPool
from oomwatchd.daemon.log_records import ERR, NOTICE, WARNING, Record
from oomwatchd.daemon.loop import Loop
from oomwatchd.daemon.reload_pace import ReloadPace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomwatchd.config.watch import ConfigWatch

_WATCH_SECONDS = 60.0
"""How often a scan checks whether other directories have to be watched. What changes in one that isn't watched yet is
found by each scan in any case, and then they are watched at once."""
_SAVING_SECONDS = 0.1
"""Editors save in several steps. Changes within this time count as one."""

Answer = Callable[[tuple[Problem, ...]], None]
"""Called with the errors of the configuration; with none when the configuration is in force on all processes."""


class Reloader:
    """Reads the configuration again when it changes, or when a reload is asked for. `seen`: the stamp of its files,
    taken before `loaded` was read. `load` reads it. `apply` puts it in force, and calls its second argument when that
    is done on all processes. `emit` logs a record."""

    def __init__(
        self,
        where: Layout,
        loaded: Config,
        seen: Stamp,
        loop: Loop,
        load: Callable[[], Config],
        apply: Callable[[Config, Callable[[], None]], None],
        emit: Callable[[Record], None],
    ) -> None:
        self.error = ""
        """Why the configuration on disk isn't in force; empty: it is."""
        self.watch_trouble = ""
        """Why the files can't be watched, so that only scans find changes; empty: they are watched."""
        self._where = where
        self._in_force = loaded
        self._loop = loop
        self._read = load
        self._apply = apply
        self._emit = emit
        self._watch: ConfigWatch | None = None
        self._watch_due = 0.0
        self._poll = ConfigPoll(where, seen, self._changed_on_disk)
        self._pace = ReloadPace()
        self._asked: list[Answer] = []
        """Functions to be called after the next reload."""

    def start(self, helpers: HelperPool) -> None:
        """Watch the files from now on. `helpers` call stat(2) where a file system may not answer."""
        self._poll.start(helpers)
        self._open_watch()

    def taken(self, config: Config) -> None:
        """Note that this configuration is in force now."""
        self._in_force, self.error = config, ""

    def look(self, now: float) -> None:
        """Look for changes that the watch hasn't reported. Called at each scan. `now` is CLOCK_MONOTONIC in seconds."""
        if now >= self._watch_due:
            self._watch_due = now + _WATCH_SECONDS
            self._watch_again()
        self._poll.look()

    def _open_watch(self) -> None:
        """Watch the files. Where that isn't possible, scans find changes, and try again to watch."""
        from oomwatchd.config.watch import ConfigWatch  # large, and --check and --once don't need it

        try:
            self._watch = ConfigWatch(self._where)
        except (OSError, UnicodeError) as error:
            self._tell_watch_trouble(getattr(error, "strerror", None) or str(error))
            return
        self._loop.add(self._watch.fileno(), self._on_file_change)
        self._tell_watch_trouble(self._watch.trouble)

    def _tell_watch_trouble(self, trouble: str) -> None:
        before, self.watch_trouble = self.watch_trouble, trouble
        if trouble and not before:
            message = f"The configuration can't be watched: {trouble}. Each scan looks whether it has changed"
            self._emit(Record("summary", WARNING, message))
        elif before and not trouble:
            self._emit(Record("summary", NOTICE, "The configuration is watched again"))

    def _on_file_change(self) -> None:
        if self._watch is not None and self._watch.changed():
            self._changed_on_disk()

    def _watch_again(self) -> None:
        """Watch the directories that there are now. So scans find directories that were replaced, or that appeared
        unnoticed."""
        if self._watch is None:
            self._open_watch()
            return
        with contextlib.suppress(UnicodeError):  # logged at the start
            if self._watch.renew():
                self._changed_on_disk()
        self._tell_watch_trouble(self._watch.trouble)

    def _changed_on_disk(self) -> None:
        """Reload soon, if the configuration has changed. Further changes don't put that off."""
        if not self._loop.awaits(self._reload_if_changed):
            self._loop.later(max(_SAVING_SECONDS, self._pace.wait(time.monotonic())), self._reload_if_changed)

    def _load(self) -> Config:
        """Raises ConfigError. Where there is no memory for it, each scan tries again."""
        try:
            self._poll.renew()
            return self._read()
        except MemoryError:
            self._poll.forget()
            message = "Failed to read the configuration: there is no memory for it; trying again at each scan"
            raise ConfigError([Problem(self._where.main_file, 1, 1, message)]) from None

    def _reload_if_changed(self) -> None:
        self._watch_again()
        began = time.thread_time()
        try:
            fresh = self._load()
        except ConfigError as error:
            if str(error) != self.error:
                self._refuse(error)
            return
        finally:
            self._pace.done(time.thread_time() - began, time.monotonic())
        if fresh.sources == self._in_force.sources and not self.error:
            return
        lost = lost_files(self._in_force, fresh, self._where)
        if lost:
            self._hold_back(lost)
        else:
            self._apply(fresh, lambda: None)

    def _hold_back(self, lost: tuple[Problem, ...]) -> None:
        """Keep the old rules in force, since the files that `lost` names may have lost their rules by accident."""
        text = "\n".join(map(str, lost))
        if text == self.error:
            return
        self.error = text
        message = (
            "Configuration not reloaded, the old rules stay in force: it looks incomplete. If it is meant to be so, "
            f"run systemctl reload oomwatchd, or oomwatchctl reload:\n{text}"
        )
        self._emit(Record("reload-failed", WARNING, message, {"OOMWATCHD_ERRORS": len(lost)}))

    def request(self, done: Answer = lambda problems: None) -> None:
        """Reload, since somebody has asked for it. Requests that come before the reload begins become one. `done` is
        called with the errors of the configuration; with none when it is in force on all processes."""
        self._asked.append(done)
        if not self._loop.awaits(self._reload):
            self._loop.later(self._pace.wait(time.monotonic()), self._reload)

    def _reload(self) -> None:
        asked, self._asked = self._asked, []
        began = time.thread_time()
        try:
            fresh = self._load()
        except ConfigError as error:
            self._refuse(error)
            _tell_all(asked, error.problems)
        else:
            self._apply(fresh, lambda: _tell_all(asked, ()))
        finally:
            self._pace.done(time.thread_time() - began, time.monotonic())

    def _refuse(self, error: ConfigError) -> None:
        self.error = str(error)
        errors = counted(len(error.problems), "error")
        message = f"Configuration not reloaded, the old rules stay in force; {errors}:\n{error}"
        self._emit(Record("reload-failed", ERR, message, {"OOMWATCHD_ERRORS": len(error.problems)}))


def _tell_all(asked: list[Answer], problems: tuple[Problem, ...]) -> None:
    for done in asked:
        done(problems)
