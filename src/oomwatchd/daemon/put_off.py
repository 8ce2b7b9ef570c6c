"""Puts off the look at a process until a helper has answered: a long search, a file system, a command line."""

from collections.abc import Callable, Iterable

from oomwatchd.base.helper import ForkServer
from oomwatchd.base.notyet import NotYet
from oomwatchd.base.text import printable
from oomwatchd.daemon.helper_pool import Call, HelperPool
from oomwatchd.daemon.log_records import NOTICE, WARNING, Record
from oomwatchd.daemon.loop import Loop
from oomwatchd.kernel import procfs
from oomwatchd.kernel.command_lines import read_command_line
from oomwatchd.pinning.decisions import Trigger
from oomwatchd.rules.model import Rule
from oomwatchd.rules.search import search

_SEARCHERS = 1
"""Helpers for searches. Each search has a limit of CPU time, so one helper is enough."""
_STATTERS, _STATTERS_PER_USER, _STATTERS_FOR_ROOT = 6, 2, 2
"""Helpers for stat(2), how many of them the files of one user may occupy, and how many those of all users may not. A
file system may make a helper hang for ever."""
_FILE_SECONDS = 1.0
"""How long stat(2) may take."""
_READERS, _READERS_PER_USER, _READ_SECONDS = 4, 2, 0.3
"""Helpers for command lines, how many of them the processes of one user may occupy, and how many seconds reading one
may take. A helper that waits there can be killed."""
_FINISH_SECONDS = 2.0
"""How long READY=1 waits for the looks that the first scan has put off."""
_LOGGED_SECONDS, _LOGGED = 60.0, 20
"""The most processes that are logged, and in how many seconds. The others are counted."""


class PutOff:
    """Has helpers answer questions, and then has the processes looked at again. `look` is called with a PID and the
    trigger of the look that was put off."""

    def __init__(self, loop: Loop, server: ForkServer, look: Callable[[int, Trigger], None]) -> None:
        self._loop = loop
        self._look = look
        self._searchers = HelperPool(loop, server, _SEARCHERS)
        self._statters = HelperPool(loop, server, _STATTERS, _STATTERS_PER_USER, _STATTERS_FOR_ROOT)
        self._readers = HelperPool(loop, server, _READERS, _READERS_PER_USER)
        self._pools: dict[str, tuple[HelperPool, float | None]] = {
            search.__name__: (self._searchers, None),
            read_command_line.__name__: (self._readers, _READ_SECONDS),
        }
        self._waiting: set[int] = set()
        """PIDs of the processes whose look is put off."""
        self._awaited: list[tuple[set[int], Callable[[], None]]] = []
        """Functions to be called, and the PIDs that each waits for."""

    def add(self, pid: int, trigger: Trigger, owner: int, question: NotYet) -> None:
        """Put off the look at a process until `question` is answered. `owner`: the user ID of the process's owner. If
        too many questions wait already, the next scan looks at the process again."""
        if pid in self._waiting:
            return

        def done(answer: object) -> None:
            self._waiting.discard(pid)
            question.learn(answer)
            try:
                self._look(pid, trigger)
            finally:
                self._tell_done(pid)

        pool, seconds = self._pools.get(question.function.__name__, (self._statters, _FILE_SECONDS))
        if pool.submit(Call(question.function.__name__, question.arguments, done, owner, seconds)):
            self._waiting.add(pid)  # if too many calls wait, the PID isn't added, so that the next scan asks again

    def when_done(self, do: Callable[[], None]) -> None:
        """Call `do` when all looks that are put off now are done."""
        if self._waiting:
            self._awaited.append((self._waiting.copy(), do))
        else:
            do()

    def finish(self, turn: Callable[[], bool]) -> None:
        """Wait until the looks that are put off now are done, for a short time. `turn` has the loop do one turn, and
        returns whether to go on waiting."""
        finished: list[bool] = []
        give_up = lambda: finished.append(False)  # noqa: E731 - a name, since the loop knows timers by their function
        self.when_done(lambda: finished.append(True))
        self._loop.later(_FINISH_SECONDS, give_up)
        while not finished and turn():
            pass
        self._loop.cancel(give_up)

    def _tell_done(self, pid: int) -> None:
        if pid in self._waiting:
            return  # put off again
        awaited, self._awaited = self._awaited, []
        for pids, do in awaited:
            pids.discard(pid)
            if pids:
                self._awaited.append((pids, do))
            else:
                do()

    def close(self) -> None:
        """End all helpers."""
        self._searchers.close()
        self._statters.close()
        self._readers.close()


class OverdueLog:
    """Decides which searches that took too long, and which command lines that can't be read, are logged: a few in a
    minute; the others are counted. Time enters as an argument: CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        self._since = 0.0
        """When the present minute began."""
        self._logged = 0
        """How many were logged in it."""
        self._more = 0
        """How many were only counted since the last record."""

    def records(self, overdue: list[tuple[int, str]], now: float) -> list[Record]:
        """The records to log. `overdue`: pairs of a PID (0: not known) and the rule whose search took too long (empty:
        the command line can't be read)."""
        if now - self._since >= _LOGGED_SECONDS:
            self._since, self._logged = now, 0
        room = max(_LOGGED - self._logged, 0)
        self._logged += len(overdue[:room])
        records = [_of_overdue(pid, rule, self._more) for pid, rule in overdue[:room]]
        self._more = len(overdue[room:]) + (0 if records else self._more)
        return records


def _others(more: int) -> str:
    return f" ({more} more since the last such message)" if more else ""


def _of_overdue(pid: int, rule: str, more: int) -> Record:
    fields: dict[str, str | int] = {"OOMWATCHD_RULE": rule}
    who = "a process"
    if pid:
        fields["OBJECT_PID"] = pid
        who = f"process {pid}"
        try:
            comm = printable(procfs.text(procfs.read_comm(pid)))
            fields["OOMWATCHD_COMM"] = comm
            who += f" ({comm})"
        except (procfs.Vanished, OSError):
            pass
    if not rule:
        message = (
            f"The command line of {who} can't be read: the process keeps its memory locked. No rule that asks for it "
            f"fits; trying again from time to time{_others(more)}"
        )
        return Record("pin-failed", WARNING, message, {name: fields[name] for name in fields if fields[name]})
    message = (
        f"A regular expression of rule '{rule}' takes too long on the text of {who}, so the rule doesn't fit; not "
        f"trying again before the process executes another program{_others(more)}. oomwatchctl check shows which "
        "expressions can take long"
    )
    return Record("pin-failed", WARNING, message, fields)


def file_system_record(raw_path: bytes, rules: Iterable[Rule], *, answers: bool) -> Record:
    """The record about a file system that doesn't answer, or answers again, found at the path of an executable.
    `rules`: all rules; those that ask for the path are named."""
    path = procfs.text(raw_path)
    shown = printable(path)
    asking = [rule.name for rule in rules if _asks_for(rule, path)]
    fields: dict[str, str | int] = {"OOMWATCHD_EXE": shown, "OOMWATCHD_RULE": asking[0] if asking else ""}
    if answers:
        return Record("pin-failed", NOTICE, f"The file system of '{shown}' answers again", fields)
    names = ", ".join(f"'{rule}'" for rule in asking[:5])
    message = (
        f"The file system of '{shown}' doesn't answer. Until it does, new processes from there don't fit rules "
        f"that ask for the executable ({names}); trying again from time to time"
    )
    return Record("pin-failed", WARNING, message, fields)


def _asks_for(rule: Rule, path: str) -> bool:
    """Whether a rule asks for an executable with this path, literally or by a glob. Regular expressions aren't tried,
    since a search may take long."""
    patterns = (p for c in (*rule.criteria, *rule.excluded) if c.key == "exe" for p in c.patterns)
    return any((pattern.literal or pattern.is_glob) and pattern.matches(path) for pattern in patterns)
