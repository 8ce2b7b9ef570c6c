"""Does the kernel kill whom `rank` says? Real OOM kills in small memory cgroups.

Each trial puts some processes of random sizes and raised oom_score_adj into a cgroup with a limit, asks for the
ranking, lets one of them grow until the group is out of memory, and compares the dead with the prediction: the one
that grows if its `grow_pages` is a number, else the first.

    python tests/prediction.py [--trials N] [--seed S] [--lower] [--machine] [--eater FILE]

`--lower` uses values from -1000 on (needs CAP_SYS_RESOURCE), `--machine` fills the whole machine instead of a group:
for virtual machines. Needs root, a memory controller (v1 or v2) in which groups may be made, and cc, or a compiled
eater.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oomwatchd.oom.badness import Candidate
from oomwatchd.oom.machine import read_machine
from oomwatchd.oom.memcgs import MemcgHierarchy, find_hierarchy
from oomwatchd.oom.small_files import PAGE
from oomwatchd.oom.survey import Survey, take_survey

# eater PROCS ADJ PAGES: joins the group ("-": none), takes the value, touches PAGES, says so; then for each line N on
# stdin touches N more and says so. No huge pages: one page is one page.
EATER = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) { perror(path); exit(1); }
    close(fd);
}

int main(int argc, char **argv) {
    long page = sysconf(_SC_PAGESIZE), used = 0, most = 1L << 18, more;
    char *memory, line[32];
    if (argc != 4) return 2;
    if (strcmp(argv[1], "-") != 0) put(argv[1], "0");
    put("/proc/self/oom_score_adj", argv[2]);
    memory = mmap(NULL, most * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) { perror("mmap"); return 1; }
    madvise(memory, most * page, MADV_NOHUGEPAGE);
    more = atol(argv[3]);
    for (;;) {
        for (; more > 0 && used < most; more--) memory[used++ * page] = 1;
        if (write(1, "\n", 1) != 1 || !fgets(line, sizeof line, stdin)) return 0;
        more = atol(line);
    }
}
"""
DEADLINE = 120.0
"""Seconds, for what comes at once on a machine at rest: the virtual machine of a test thrashes."""
# Closer than this (pages) is a tie. What is read and what the kernel sees when it chooses differ by the charges that
# each CPU holds in stock (MEMCG_CHARGE_BATCH, 64 pages a CPU) and by the counters of the RSS (percpu_counter_batch,
# 32 pages a CPU and kind of page).
STEP = 256


def tie_pages() -> int:
    """How close is too close to call here."""
    return (64 + 32) * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """What was predicted and what happened. Processes are numbered from 0; -1: none of ours."""

    total: int  # pages
    room: int
    eaten: tuple[tuple[int, int], ...]  # of each process: pages, oom_score_adj
    grower: int
    first: int  # before anyone grew
    predicted: int
    died: int
    margin: int  # by how many pages things would have to be otherwise for another to die
    tie: int  # up to how many it is too close to call

    @property
    def right(self) -> bool:
        return self.predicted == self.died

    @property
    def close(self) -> bool:
        return self.margin <= self.tie

    def __str__(self) -> str:
        verdict = "as predicted" if self.right else "NOT as predicted"
        tie = f" (a tie: {self.margin} pages)" if self.close else ""
        return (
            f"total {self.total}, room {self.room}, (pages, adj) {self.eaten}: #{self.grower} grew, "
            f"#{self.predicted} predicted, #{self.died} died, {verdict}{tie}"
        )


def why_impossible() -> str | None:
    """Why no trial can be made on this machine, or None."""
    hierarchy = find_hierarchy()
    if hierarchy is None:
        return "there is no memory controller"
    try:
        with group(hierarchy, 1 << 14):
            os.close(os.open("/dev/kmsg", os.O_RDONLY))
    except OSError as error:
        return f"can't make a memory cgroup with a limit, or read the kernel log: {error}"
    return None


def compile_eater(directory: Path) -> Path:
    """Compile the eater into `directory`."""
    source = directory / "eater.c"
    source.write_text(EATER)
    subprocess.run(["cc", "-O1", "-o", directory / "eater", source], check=True)
    return directory / "eater"


@contextlib.contextmanager
def group(hierarchy: MemcgHierarchy, limit: int) -> Iterator[Path]:
    """A memory cgroup of its own with a limit of `limit` pages. Gone at the end, with everyone in it."""
    path = Path(tempfile.mkdtemp(prefix=f"oomwatchd-test-{os.getpid()}-", dir=os.fsdecode(hierarchy.root)))
    try:
        name = "memory.limit_in_bytes" if hierarchy.version == 1 else "memory.max"
        (path / name).write_text(str(limit * PAGE))
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            path.rmdir()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)  # the dead are still leaving


def oom_kills(path: Path | None) -> int:
    """How many were killed in the group, or anywhere."""
    if path is None:
        file = Path("/proc/vmstat")
    elif (path / "memory.oom_control").exists():
        file = path / "memory.oom_control"
    else:
        file = path / "memory.events"
    pairs = dict(line.split() for line in file.read_text().splitlines())
    return int(pairs["oom_kill"])


def run_trial(eater: Path, chance: random.Random, lower: bool = False) -> Trial:
    """One trial in a memory cgroup, with limit, sizes and values out of `chance`."""
    hierarchy = find_hierarchy()
    assert hierarchy is not None
    limit = chance.randint(48, 96) * 2**20 // PAGE
    eaten = _draw(chance, chance.randint(2, 6), limit, 1024, lower)
    with group(hierarchy, limit) as path:
        return _run(eater, chance, eaten, path, tie_pages())


def run_machine_trial(eater: Path, chance: random.Random) -> Trial:
    """One trial with the whole machine. Only for a machine that is there for that."""
    available = read_machine().available
    assert available is not None
    eaten = _draw(chance, chance.randint(2, 4), available, 8192, lower=True)
    # Neither MemAvailable nor what else goes on in a machine is exact.
    return _run(eater, chance, eaten, None, read_machine().ram // 16)


def _draw(chance: random.Random, count: int, memory: int, least: int, lower: bool) -> list[tuple[int, int]]:
    """Sizes and values of processes that leave some of `memory`."""
    shares = [chance.uniform(0.15, 1) for _ in range(count)]
    filled = chance.uniform(0.3, 0.85)
    sizes = [max(least, int(filled * memory * share / sum(shares))) for share in shares]
    lowest = -1000 if lower else 0
    values = [0 if chance.random() < 0.4 else chance.randint(lowest, 1000) for _ in sizes]
    if all(value == -1000 for value in values):
        values[0] = 0  # nobody to kill would hang the group
    return list(zip(sizes, values, strict=True))


def _run(eater: Path, chance: random.Random, eaten: list[tuple[int, int]], path: Path | None, tie: int) -> Trial:
    with contextlib.ExitStack() as stack:
        eaters = [stack.enter_context(_running(eater, path, value, size)) for size, value in eaten]
        survey = take_survey(None if path is None else os.fsencode(path))
        grower = chance.randrange(len(eaters))
        pids = [process.pid for process in eaters]
        first = survey.ranked()[0].task.pid
        predicted, margin = predict(survey, pids[grower])
        assert survey.room is not None
        died = _grow_until_one_dies(eaters[grower], survey, path)

    def number(pid: int) -> int:
        return pids.index(pid) if pid in pids else -1

    return Trial(
        total=survey.total,
        room=survey.room,
        eaten=tuple(eaten),
        grower=grower,
        first=number(first),
        predicted=number(predicted),
        died=number(died),
        margin=margin,
        tie=tie,
    )


def predict(survey: Survey, grower: int) -> tuple[int, int]:
    """Who dies if the process `grower` grows until memory runs out, and by how many pages that is clear."""
    ranked = survey.ranked()
    first = ranked[0]
    candidate = next(c for c in ranked if c.task.pid == grower)
    assert survey.room is not None
    others = [c for c in ranked if c is not candidate and c.why_not is None]
    winner = candidate if candidate.grow is not None else first
    if candidate.why_not is not None:
        return winner.task.pid, _lead(others)
    if not others:
        return winner.task.pid, survey.room
    at_the_end = candidate.points + survey.room
    margin = abs(at_the_end - others[0].points)
    if winner is not candidate:
        margin = min(margin, _lead(others))
    return winner.task.pid, margin


def _lead(ranked: list[Candidate]) -> int:
    return ranked[0].points - ranked[1].points if len(ranked) > 1 else 1 << 30


@contextlib.contextmanager
def _running(eater: Path, path: Path | None, value: int, pages: int) -> Iterator[subprocess.Popen[bytes]]:
    argv = [str(eater), "-" if path is None else str(path / "cgroup.procs"), str(value), str(pages)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        assert process.stdout is not None
        if process.stdout.read(1) != b"\n":
            raise RuntimeError(f"an eater failed with status {process.wait()}")
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _grow_until_one_dies(growing: subprocess.Popen[bytes], survey: Survey, path: Path | None) -> int:
    """Let one grow by all that is left and by steps after that. Returns the PID of the first who died, as the kernel's
    log has it: a second one may follow at once, when the first counts as reaped (MMF_OOM_SKIP) before its pages are
    uncharged (exit_mmap in mm/mmap.c)."""
    assert growing.stdin is not None and growing.stdout is not None and survey.room is not None
    kernel_log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(kernel_log, 0, os.SEEK_END)
        before = oom_kills(path)
        step = survey.room
        while oom_kills(path) == before:
            growing.stdin.write(b"%d\n" % step)
            if growing.stdout.read(1) != b"\n":
                break
            # The machine thrashes for as long as this takes, so in longer steps; they still fit in what the victim had.
            step = STEP if path is not None else 8 * STEP
        return _first_killed(kernel_log, {task.pid for task in survey.competing})
    finally:
        os.close(kernel_log)


def _first_killed(kernel_log: int, among: set[int]) -> int:
    """The PID of the first victim in the log that is one of `among`."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        try:
            record = os.read(kernel_log, 8192)
        except BlockingIOError:
            time.sleep(0.001)
            continue
        except BrokenPipeError:
            continue  # overwritten meanwhile; the next read goes on with the oldest that is left
        # Of a kill's lines the one that the kernel never leaves out.
        killed = re.search(rb"Killed process (\d+) ", record)
        if killed and int(killed[1]) in among:
            return int(killed[1])
    raise TimeoutError("the kernel log tells of no kill in the group")


def main() -> int:
    """Run trials, print each that is a tie or a surprise, and the sum. Exit status: 0; 1 after a surprise."""
    parser = argparse.ArgumentParser(description="Compare oomwatchctl rank with real OOM kills in memory cgroups.")
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--lower", action="store_true", help="values from -1000 on; needs CAP_SYS_RESOURCE")
    parser.add_argument("--machine", action="store_true", help="fill the whole machine; only in a virtual one")
    parser.add_argument("--eater", type=Path, help="the compiled eater, where there is no cc")
    arguments = parser.parse_args()
    reason = why_impossible()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    if arguments.machine:
        Path("/proc/self/oom_score_adj").write_text("-1000")
    directory = Path(tempfile.mkdtemp(prefix="oomwatchd-test-"))
    trials = []
    try:
        eater = arguments.eater or compile_eater(directory)
        chance = random.Random(arguments.seed)
        for _ in range(arguments.trials):
            if arguments.machine:
                trials.append(run_machine_trial(eater, chance))
            else:
                trials.append(run_trial(eater, chance, arguments.lower))
            if arguments.machine or trials[-1].close or not trials[-1].right:
                print(trials[-1], flush=True)
    finally:
        shutil.rmtree(directory)
    clear = [trial for trial in trials if not trial.close]
    ties = [trial for trial in trials if trial.close]
    right = sum(trial.right for trial in clear)
    print(
        f"seed {arguments.seed}: {right} of {len(clear)} as predicted; besides {len(ties)} too close to call, "
        f"{sum(trial.right for trial in ties)} of them as predicted; who was first before died in "
        f"{sum(trial.died == trial.first for trial in trials)} of {len(trials)}"
    )
    return 0 if right == len(clear) else 1


if __name__ == "__main__":
    sys.exit(main())
