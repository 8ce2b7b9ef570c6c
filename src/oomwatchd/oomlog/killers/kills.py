"""Lines of programs that kill in user space, and the kills put together from them. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from oomwatchd.oomlog.record import Invoker, Memory, OomKill
from oomwatchd.oomlog.times import seconds_of

MAX_EVENTS = 100_000
"""So many kills are held of one log; further ones are left out."""
_MOST_LINES = 50
"""So many lines of a killer are kept as a kill's original text."""
_RECENT = 16
"""The number of latest kills among which the last kill of a killer is searched."""


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a program, as the log has it.

    `time`: as in `OomKill`. `raw`: the whole line, where the log has more than `text`."""

    program: str
    text: str
    time: str | float | None
    host: str | None = None
    raw: str = ""
    file: str | None = None


@dataclass(slots=True)
class Open:
    """What a killer has logged so far about a kill that isn't complete."""

    trigger: str | None = None
    pid: int | None = None
    comm: str | None = None
    uid: int | None = None
    adj: int | None = None
    kb: dict[str, int] | None = None
    cgroup: str | None = None
    lines: tuple[str, ...] = ()


class Kills:
    """The kills of programs in user space, put together from their lines in the order of the log.

    A killer says of a kill in several lines. What it has said so far is held in an `Open` for each host and program."""

    def __init__(self) -> None:
        self._kills: list[OomKill] = []
        self._open: dict[tuple[str | None, str], Open] = {}

    def finish(self) -> list[OomKill]:
        """Return all kills in the order of the log, and forget them."""
        kills, self._kills = self._kills, []
        self._open.clear()
        return kills

    def until(self, time: str | float | None) -> list[OomKill]:
        """Return the kills up to `time`, and forget them: no later line is about them."""
        limit, count = seconds_of(time), 0
        if limit is None:
            return []
        for kill in self._kills:
            seconds = seconds_of(kill.time)
            if seconds is None or isinstance(kill.time, float) != isinstance(time, float) or seconds > limit:
                break
            count += 1
        taken, self._kills = self._kills[:count], self._kills[count:]
        return taken

    def opened(self, said: Said) -> Open:
        """What this killer has logged so far about a kill that isn't complete, `said` included."""
        state = self._open.setdefault((said.host, said.program), Open())
        if len(state.lines) < _MOST_LINES:
            state.lines += (said.raw or said.text,)
        return state

    def close(self, said: Said) -> None:
        """Forget what this killer has said so far: its kill is complete, or won't come."""
        self._open.pop((said.host, said.program), None)

    def add(self, kill: OomKill) -> None:
        """Add a kill. A further signal to the process of the last kill isn't added, and nothing is added beyond
        MAX_EVENTS."""
        if len(self._kills) >= MAX_EVENTS:
            return
        last = self.last(kill.killer, kill.host)
        if last is not None and last.victim is not None and kill.victim is not None:
            same = last.victim.pid == kill.victim.pid and last.victim.comm == kill.victim.comm
            if same and not last.reaped:
                return
        self._kills.append(kill)

    def last(self, killer: str, host: str | None) -> OomKill | None:
        """The last kill of `killer` on `host`, among the latest few."""
        recent = self._kills[-_RECENT:]
        return next((one for one in reversed(recent) if (one.killer, one.host) == (killer, host)), None)

    def change_last(self, killer: str, host: str | None, change: Callable[[OomKill], OomKill | None]) -> None:
        """Replace the last kill of `killer` on `host` by what `change` makes of it; None: it was no kill."""
        for at in range(len(self._kills) - 1, max(-1, len(self._kills) - _RECENT - 1), -1):
            if (self._kills[at].killer, self._kills[at].host) == (killer, host):
                changed = change(self._kills[at])
                if changed is None:
                    del self._kills[at]
                else:
                    self._kills[at] = changed
                return


def kill_of(said: Said, killer: str, scope: str, **facts: object) -> OomKill:
    """A kill by `killer` at the time of the line `said`, with the `facts` of `OomKill` that the killer tells."""
    kill = OomKill(
        time=said.time, kernel=None, scope=scope, constraint=None, memcg=None, task_memcg=None, invoker=Invoker(),
        victim=None, also_killed=(), tasks=None, columns=None, chosen=None, reaped=(), group=None,
        allocating_task=False, no_killable=False, panic=None, nodes=None, memory=Memory(), truncated=False,
        killer=killer, host=said.host, file=said.file, original=(said.raw or said.text,),
    )  # fmt: skip
    return replace(kill, **facts)  # type: ignore[arg-type]
