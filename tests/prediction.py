"""Does the kernel kill whom `rank` says? Real OOM kills in small memory cgroups.

Each trial puts some processes of random sizes and raised oom_score_adj into a cgroup with a limit, asks for the
ranking, lets one of them grow until the group is out of memory, and compares the dead with the prediction: the one
that grows if its `grow_pages` is a number, else the first.

    python tests/prediction.py [--trials N] [--seed S] [--lower] [--eater FILE]

`--lower` uses values from -1000 on (needs CAP_SYS_RESOURCE). Needs root, a memory controller (v1 or v2) in which
groups may be made, and cc, or a compiled eater.
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

from oomwatchd.badness import Candidate
from oomwatchd.memfacts import PAGE, Hierarchy, find_hierarchy
from oomwatchd.survey import Survey, take_survey

# eater PROCS ADJ PAGES: joins the group, takes the value, touches PAGES, says so; then for each line N on stdin
# touches N more and says so. No huge pages: one page is one page.
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
    put(argv[1], "0");
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
DEADLINE = 20.0
# Closer than this (pages) is a tie. What is read and what the kernel sees when it chooses differ by the charges that
# each CPU holds in stock (MEMCG_CHARGE_BATCH, 64 pages a CPU) and by the counters of the RSS (percpu_counter_batch,
# 32 pages a CPU and kind of page).
STEP = 256


def tie_pages() -> int:
    """How close is too close to call here."""
    return (64 + 32) * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """What was predicted and what happened."""

    limit: int  # pages
    room: int
    sizes: tuple[tuple[int, int], ...]  # of each process: pages, oom_score_adj
    grower: int
    predicted: int  # index of a process
    died: int
    margin: int  # by how many pages things would have to be otherwise for another to die

    @property
    def right(self) -> bool:
        return self.predicted == self.died

    @property
    def close(self) -> bool:
        return self.margin <= tie_pages()

    def __str__(self) -> str:
        verdict = "as predicted" if self.right else "NOT as predicted"
        tie = f" (a tie: {self.margin} pages)" if self.close else ""
        return (
            f"limit {self.limit}, room {self.room}, (pages, adj) {self.sizes}: #{self.grower} grew, "
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
def group(hierarchy: Hierarchy, limit: int) -> Iterator[Path]:
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


def oom_kills(path: Path) -> int:
    """How many were killed in the group."""
    file = path / "memory.oom_control" if (path / "memory.oom_control").exists() else path / "memory.events"
    pairs = dict(line.split() for line in file.read_text().splitlines())
    return int(pairs["oom_kill"])


def run_trial(eater: Path, chance: random.Random, lower: bool = False) -> Trial:
    """One trial with sizes and values out of `chance`."""
    hierarchy = find_hierarchy()
    assert hierarchy is not None
    limit = chance.randint(48, 96) * 2**20 // PAGE
    count = chance.randint(2, 6)
    shares = [chance.uniform(0.15, 1) for _ in range(count)]
    filled = chance.uniform(0.3, 0.85)
    pages = [max(1024, int(filled * limit * share / sum(shares))) for share in shares]
    lowest = -1000 if lower else 0
    values = [0 if chance.random() < 0.4 else chance.randint(lowest, 1000) for _ in pages]
    if all(value == -1000 for value in values):
        values[0] = 0  # nobody to kill would hang the group
    with group(hierarchy, limit) as path, contextlib.ExitStack() as stack:
        eaters = []
        for size, value in zip(pages, values, strict=True):
            eaters.append(stack.enter_context(_running(eater, path, value, size)))
        survey = take_survey(os.fsencode(path))
        grower = chance.randrange(count)
        pids = [process.pid for process in eaters]
        predicted, margin = predict(survey, pids[grower])
        assert survey.room is not None
        died = _grow_until_one_dies(eaters, grower, survey.room, path)
    return Trial(
        limit=limit,
        room=survey.room,
        sizes=tuple(zip(pages, values, strict=True)),
        grower=grower,
        predicted=pids.index(predicted),
        died=died,
        margin=margin,
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
def _running(eater: Path, path: Path, value: int, pages: int) -> Iterator[subprocess.Popen[bytes]]:
    argv = [str(eater), str(path / "cgroup.procs"), str(value), str(pages)]
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


def _grow_until_one_dies(eaters: list[subprocess.Popen[bytes]], grower: int, room: int, path: Path) -> int:
    """Let one grow by `room` and by steps after that. Returns who died first, as the kernel's log has it: a second
    one may follow at once, when the first counts as reaped (MMF_OOM_SKIP) before its pages are uncharged
    (exit_mmap in mm/mmap.c)."""
    growing = eaters[grower]
    assert growing.stdin is not None and growing.stdout is not None
    kernel_log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(kernel_log, 0, os.SEEK_END)
        step = room
        while oom_kills(path) == 0:
            growing.stdin.write(b"%d\n" % step)
            if growing.stdout.read(1) != b"\n":
                break
            step = STEP
        return _first_killed(kernel_log, [process.pid for process in eaters])
    finally:
        os.close(kernel_log)


def _first_killed(kernel_log: int, pids: list[int]) -> int:
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        try:
            record = os.read(kernel_log, 8192)
        except BlockingIOError:
            time.sleep(0.001)
            continue
        except BrokenPipeError:
            continue  # overwritten meanwhile; the next read goes on with the oldest that is left
        killed = re.search(rb"Killed process (\d+) ", record)
        if killed and int(killed[1]) in pids:
            return pids.index(int(killed[1]))
    raise TimeoutError("the kernel log tells of no kill in the group")


def main() -> int:
    """Run trials, print each that is a tie or a surprise, and the sum. Exit status: 0; 1 after a surprise."""
    parser = argparse.ArgumentParser(description="Compare oomwatchctl rank with real OOM kills in memory cgroups.")
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--lower", action="store_true", help="values from -1000 on; needs CAP_SYS_RESOURCE")
    parser.add_argument("--eater", type=Path, help="the compiled eater, where there is no cc")
    arguments = parser.parse_args()
    reason = why_impossible()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    directory = Path(tempfile.mkdtemp(prefix="oomwatchd-test-"))
    try:
        eater = arguments.eater or compile_eater(directory)
        chance = random.Random(arguments.seed)
        trials = [run_trial(eater, chance, arguments.lower) for _ in range(arguments.trials)]
    finally:
        shutil.rmtree(directory)
    for trial in trials:
        if trial.close or not trial.right:
            print(trial)
    clear = [trial for trial in trials if not trial.close]
    right = sum(trial.right for trial in clear)
    ties = [trial for trial in trials if trial.close]
    print(
        f"seed {arguments.seed}: {right} of {len(clear)} as predicted; besides {len(ties)} closer than {tie_pages()} "
        f"pages, {sum(trial.right for trial in ties)} of them as predicted; "
        f"the first of before died in {sum(t.died == _first(t) for t in trials)} of {len(trials)}"
    )
    return 0 if right == len(clear) else 1


def _first(trial: Trial) -> int:
    """Who was first before anyone grew."""
    weight = trial.limit // 1000
    return max(range(len(trial.sizes)), key=lambda i: trial.sizes[i][0] + trial.sizes[i][1] * weight)


if __name__ == "__main__":
    sys.exit(main())
