"""Do systemd-oomd, earlyoom and nohang take whom `rank` says? Each is brought to act, only in a virtual machine.

    python tests/killer_trials.py KILLER [--trials N] [--seed S] --eater FILE --churner FILE

KILLER is earlyoom, nohang, swap or pressure (both systemd-oomd). Each trial starts some processes of random sizes, lets
one of them grow near to the limit at once and then by small steps, asks before each step who acts first and whom it
would take, and compares the dead with the last answer. A trial is clear if `rank` had no doubts.
"""

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oomwatchd.base.badness_formula import era_of
from oomwatchd.oom.killers.killer_facts import Reader, Roots
from oomwatchd.oom.killers.model import Killer, Victim, in_order
from oomwatchd.oom.killers.systemd_facts import SystemdReader
from oomwatchd.oom.survey import take_survey

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGESIZE")
DEADLINE_S = 90.0
# From so near to the limit on, growth is by small steps: what one adds is less than what `rank` calls close.
NEAR = 6 * MIB
STEP = MIB // 2
MOST_GROWTH = 150 * MIB
PF_EXITING = 4  # include/linux/sched.h
# How each killer names its victim in its log.
NAMED = {
    "earlyoom": re.compile(r"to process (\d+)"),
    "nohang": re.compile(r"(?:SIGTERM|SIGKILL) to .*?PID (\d+)|PID: (\d+)"),
    "systemd-oomd": re.compile(r"Killed (/\S+) due to"),
}
PEN = Path("/sys/fs/cgroup/system.slice/pen.service")
# churner PROCS PAGES MICROSECONDS: joins the group, and writes to PAGES again and again with a pause after each round.
CHURNER = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv) {
    long page = sysconf(_SC_PAGESIZE), pages, at;
    char *memory;
    int fd = open(argv[1], O_WRONLY);
    if (argc != 4 || fd < 0 || write(fd, "0", 1) != 1) return 1;
    pages = atol(argv[2]);
    memory = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    for (;;) {
        for (at = 0; at < pages; at++) memory[at * page]++;
        usleep(atol(argv[3]));
    }
}
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was predicted the last time before somebody died, and who did."""

    first: str  # the killer that was said to act first
    predicted: str  # comm-less: "PID" or a cgroup's path
    died: str
    doubts: tuple[str, ...]

    @property
    def clear(self) -> bool:
        return not self.doubts

    @property
    def right(self) -> bool:
        return self.predicted == self.died


def assess(pause: bool = False) -> list[Killer]:
    """All killers, as rank has them."""
    survey = take_survey()
    reader = Reader(Roots(), survey.processes, era_of(os.uname().release), (lambda: time.sleep(1)) if pause else None)
    return in_order(reader.killers(survey.machine))


def _shown(victim: Victim | None) -> str:
    if victim is None:
        return "nobody"
    return str(victim.pid) if victim.kind == "process" else os.fsdecode(victim.cgroup or b"")


class Eater:
    """A process of a given size that grows when it is told to."""

    def __init__(self, program: str, adj: int, pages: int, group: Path | None = None) -> None:
        procs = "-" if group is None else str(group / "cgroup.procs")
        argv = [program, procs, str(adj), str(pages)]
        self.group = group
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdout is not None
        self.process.stdout.read(1)

    def grow(self, pages: int) -> None:
        """Returns when it has grown, or is dead."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"%d\n" % pages)
            self.process.stdout.read(1)

    @property
    def exiting(self) -> bool:
        """Whether it is dead or about to be: then its memory may be gone, which is what a killer goes by."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_bytes().rpartition(b") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return bool(int(fields[6]) & PF_EXITING)

    @property
    def name(self) -> str:
        return str(self.process.pid) if self.group is None else "/" + str(self.group.relative_to("/sys/fs/cgroup"))


def _grow_until_one_dies(
    killer: str, kind: str, eaters: list[Eater], grower: Eater | None, pause: bool = False
) -> Trial:
    """Let `grower` grow (None: nobody) until one of the eaters dies."""
    last = Trial("", "nobody", "", ("never asked",))
    began = time.time()
    until = time.monotonic() + DEADLINE_S
    grown = 0
    while time.monotonic() < until:
        killers = assess(pause)
        trigger = next((t for k in killers if k.name == killer for t in k.conditions if t.kind == kind), None)
        if any(eater.exiting for eater in eaters):
            return Trial(last.first, last.predicted, _first_dead(killer, eaters, began), last.doubts)
        if trigger is None or grower is None or grown >= MOST_GROWTH:
            time.sleep(0.1)
        if trigger is None:
            continue
        last = Trial(killers[0].name, _shown(trigger.victim), "", trigger.doubts)
        if grower is not None and grown < MOST_GROWTH:
            left = (trigger.distance or 0) * 1024 - NEAR
            step = min(max(left, STEP), MOST_GROWTH - grown)
            grower.grow(step // PAGE)
            grown += step
    raise TimeoutError(f"{killer} has killed nobody: {[k for k in assess() if k.name == killer]}")


def _first_dead(killer: str, eaters: list[Eater], began: float) -> str:
    """Who died first: the only one, or the one whom the killer's log names first."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        dead = [eater.name for eater in eaters if eater.process.poll() is not None]
        if len(dead) == 1 and not any(eater.exiting for eater in eaters if eater.name not in dead):
            return dead[0]
        if len(dead) > 1:
            named = [name for name in _log_of(killer, began) if name in dead]
            if named:
                return named[0]
        time.sleep(0.05)
    raise TimeoutError(f"who died first isn't known: {dead}, {_log_of(killer, began)}")


def _log_of(killer: str, began: float) -> list[str]:
    """Whom the killer says that it has killed since, the first one first."""
    subprocess.run(["journalctl", "--sync"], check=True)
    command = ["journalctl", "-q", "-o", "cat", "-u", killer, "--since", f"@{began:.6f}"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [next(filter(None, match.groups())) for match in NAMED[killer].finditer(log)]


@contextlib.contextmanager
def _ended(eaters: list[Eater]) -> Iterator[None]:
    try:
        yield
    finally:
        for eater in eaters:
            eater.process.kill()
            eater.process.wait()


def of_processes(killer: str, chance: random.Random, eater: str) -> Trial:
    """A trial of a killer that goes by processes."""
    values = [chance.randrange(0, 600), *(chance.randrange(-300, 600) for _ in range(2))]
    smallest = 20 if killer == "earlyoom" else 35  # MiB: together just not enough for it to act
    eaters = [Eater(eater, value, chance.randrange(smallest, smallest + 16) * MIB // PAGE) for value in values]
    with _ended(eaters):
        return _grow_until_one_dies(killer, "memory", eaters, chance.choice(eaters))


@contextlib.contextmanager
def _groups(high: list[int]) -> Iterator[list[Path]]:
    made = []
    try:
        for number, limit in enumerate(high):
            group = PEN / f"group{number}"
            group.mkdir()
            (group / "memory.high").write_text(str(limit))
            made.append(group)
        yield made
    finally:
        for group in made:
            until = time.monotonic() + DEADLINE_S
            while True:
                try:
                    group.rmdir()
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)


def of_swap(chance: random.Random, eater: str) -> Trial:
    """A trial of systemd-oomd by swap: most of what the processes have is pushed out of memory, which somebody else
    fills."""
    high = 6 * MIB
    with _groups([high] * 3) as groups, _ended([Eater(eater, -1000, 120 * MIB // PAGE)]):
        eaters = [Eater(eater, 0, (high + chance.randrange(11, 17) * MIB) // PAGE, group) for group in groups]
        with _ended(eaters):
            return _grow_until_one_dies("systemd-oomd", "swap", eaters, chance.choice(eaters))


def of_pressure(chance: random.Random, eater: str, churner: str) -> Trial:
    """A trial of systemd-oomd by pressure: one has too little memory for what it does, another has more and is idle."""
    high = [8 * MIB, 8 * MIB, 60 * MIB]
    chance.shuffle(high)
    with _groups(high) as groups:
        eaters = [Eater(eater, 0, 10 * MIB // PAGE, group) for group in groups]
        busy = chance.choice([number for number in range(3) if high[number] == 8 * MIB])
        argv = [churner, str(groups[busy] / "cgroup.procs"), str(chance.randrange(12, 30) * MIB // PAGE), "0"]
        with _ended(eaters), subprocess.Popen(argv) as churning:
            try:
                return _grow_until_one_dies("systemd-oomd", "pressure", eaters, None, pause=True)
            finally:
                churning.kill()


def prepare_pen() -> None:
    """A unit that systemd-oomd watches, with a cgroup below it for its own process."""
    own = PEN / "own"
    own.mkdir(exist_ok=True)
    for pid in (PEN / "cgroup.procs").read_text().split():
        (own / "cgroup.procs").write_text(pid)
    (PEN / "cgroup.subtree_control").write_text("+memory")


def agreement() -> str:
    """What systemd-oomd itself says that it watches, and what is read here; empty if they agree."""
    dump = subprocess.run(["oomctl"], capture_output=True, text=True, check=True).stdout
    halves = dump.partition("Memory Pressure Monitored CGroups:")
    theirs = [sorted(re.findall(r"^\tPath: (.*)$", half, re.MULTILINE)) for half in (halves[0], halves[2])]
    watched = SystemdReader().watched()
    ours = [
        sorted(os.fsdecode(w.path) for w in watched if w.swap),
        sorted(os.fsdecode(w.path) for w in watched if w.pressure),
    ]
    return "" if theirs == ours else f"oomctl: {theirs}, rank: {ours}"


def main() -> int:
    """Run trials, print each and the sum. Exit status: 0; 1 after a surprise in a clear case."""
    parser = argparse.ArgumentParser(description="Compare rank with whom killers in user space take.")
    parser.add_argument("killer", choices=("earlyoom", "nohang", "swap", "pressure"))
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--eater", required=True)
    parser.add_argument("--churner", required=True)
    arguments = parser.parse_args()
    Path("/proc/self/oom_score_adj").write_text("-1000")
    chance = random.Random(arguments.seed)
    kinds: dict[str, Callable[[], Trial]] = {
        "swap": lambda: of_swap(chance, arguments.eater),
        "pressure": lambda: of_pressure(chance, arguments.eater, arguments.churner),
    }
    one = kinds.get(arguments.killer, lambda: of_processes(arguments.killer, chance, arguments.eater))
    disagreement = ""
    if arguments.killer in kinds:
        prepare_pen()
        disagreement = agreement()
    trials: list[Trial] = []
    while len(trials) < arguments.trials:
        trial = one()
        print(trial, flush=True)
        if trial.first:  # else it has acted before anyone could be asked
            trials.append(trial)
    clear = [trial for trial in trials if trial.clear]
    unclear = [trial for trial in trials if not trial.clear]
    summary = {
        "clear": len(clear),
        "right": sum(trial.right for trial in clear),
        "unclear": len(unclear),
        "unclear_right": sum(trial.right for trial in unclear),
        "disagreement": disagreement,
    }
    print(json.dumps(summary))
    return 0 if summary["right"] == summary["clear"] else 1


if __name__ == "__main__":
    sys.exit(main())
