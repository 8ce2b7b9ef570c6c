"""One function a line of the table."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

from bench.running import (
    VALUE,
    Oomwatchd,
    Program,
    bare_python,
    context_switches,
    cpu_ns,
    crowd,
    forks,
    load,
    lowering_rule,
    memory_mib,
    one_rule,
    pinned_shell,
    reference,
    rule_for_shell,
    saturated,
    settled_cpu_ns,
    storm,
    thousand_literal_rules,
    thousand_rules,
    with_instant_target,
)

_SETTLING_SECONDS = 11
"""After so long a descendant that is right is left to itself."""
REAL_TIME = ("chrt", "--reset-on-fork", "--rr", "1")
"""As the unit has it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `values` by what was measured; `ratio` is against the C program, where there is one. An
    empty `reach`: nothing is wanted of it."""

    what: str
    unit: str
    values: dict[str, float]
    reach: str = ""
    reached: bool = True
    ratio: dict[str, float] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def start_all(directory: Path, stack: ExitStack, *, unfiltered: bool = False) -> dict[str, Program]:
    """Beside each other, as the unit runs it, and stopped: only the one that is measured goes on."""
    programs: dict[str, Program] = {
        "C": reference(directory, REAL_TIME),
        "C, comm": reference(directory, REAL_TIME, "comm"),
        "bare Python": bare_python(directory, REAL_TIME),
        "1 rule": Oomwatchd(directory, one_rule(directory), REAL_TIME),
        "1,000 rules": Oomwatchd(directory, thousand_literal_rules(directory), REAL_TIME),
    }
    if unfiltered:
        programs["1 rule, no filter"] = Oomwatchd(directory, one_rule(directory), REAL_TIME, filtered=False)
        programs["lowering, no filter"] = Oomwatchd(directory, lowering_rule(directory), REAL_TIME, filtered=False)
        programs["1,000 with regexes"] = Oomwatchd(directory, thousand_rules(directory), REAL_TIME)
    for program in programs.values():
        stack.enter_context(program)
        os.kill(program.pid, signal.SIGSTOP)
    return programs


@contextmanager
def going_on(program: Program) -> Iterator[None]:
    os.kill(program.pid, signal.SIGCONT)
    settled_cpu_ns(program.pid)
    yield
    os.kill(program.pid, signal.SIGSTOP)


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one program, in µs, see target.c."""

    execve: float
    first: float
    ran: float


def latencies(directory: Path, count: int, pause_us: int) -> list[Latency]:
    command = [directory / "load", "latency", str(count), str(pause_us), directory / "target", str(VALUE)]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    found = [Latency(*(int(number) / 1000 for number in line.split())) for line in done.stdout.splitlines()]
    assert all(latency.execve >= 0 for latency in found), "a program was never pinned"
    return found


def isolated_latency(directory: Path, rounds: int, count: int) -> list[Row]:
    """Of a program that begins at once, 60 a second at most."""
    rows = quiet_latency(with_instant_target(directory), rounds, count, 16_667)
    return [replace(row, what=f"{row.what}, of a program without libc, 60 a second") for row in rows]


def quiet_latency(directory: Path, rounds: int, count: int, pause_us: int = 2000) -> list[Row]:
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        programs = start_all(directory, stack)
        del programs["C, comm"]
        for _ in range(rounds):
            for name, program in programs.items():
                with going_on(program):
                    found.setdefault(name, []).extend(x.execve for x in latencies(directory, count, pause_us))
    rows = []
    for label, share, limit in (("p50", 0.5, 1.6), ("p99", 0.99, 1.8)):
        values = {name: percentile(samples, share) for name, samples in found.items()}
        ratio = {name: value / values["C"] for name, value in values.items() if name != "C"}
        reached = max(ratio["1 rule"], ratio["1,000 rules"]) <= limit
        rows.append(Row(f"execve to value written, {label}", "µs", values, f"{limit} x C", reached, ratio))
    return rows


def storm_latency(directory: Path, rounds: int, count: int) -> list[Row]:
    """While other programs are started one after the other."""
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        programs = start_all(directory, stack)
        del programs["C, comm"]
        for i in range(rounds):
            for name, program in programs.items():
                with going_on(program), storm(directory):
                    found.setdefault(name, []).extend(x.execve for x in latencies(directory, count, 2000 + 300 * i))
    values = {
        f"{name} p{share * 100:.0f}": percentile(samples, share)
        for name, samples in found.items()
        for share in (0.5, 0.99)
    }
    return [Row("execve to value written in a storm of other programs", "µs", values)]


def saturated_latency(directory: Path, rounds: int, count: int) -> list[Row]:
    found: dict[str, list[Latency]] = {}
    with ExitStack() as stack:
        programs = {"C, normal priority": stack.enter_context(reference(directory)), **start_all(directory, stack)}
        os.kill(programs["C, normal priority"].pid, signal.SIGSTOP)
        del programs["C, comm"]
        for _ in range(rounds):
            for name, program in programs.items():
                with going_on(program), saturated(directory):
                    found.setdefault(name, []).extend(latencies(directory, count, 2000))
    rows = []
    for label, pick in (
        ("until the program sees it", attrgetter("first")),
        ("what the program has run until then", attrgetter("ran")),
    ):
        values = {}
        for name, samples in found.items():
            for share in (0.5, 0.99):
                values[f"{name} p{share * 100:.0f}"] = percentile([pick(x) for x in samples], share)
        reached = max(values["1 rule p99"], values["1,000 rules p99"]) <= 100
        rows.append(Row(f"saturated, from the first instruction {label}", "µs", values, "p99 100 µs", reached))
    return rows


def _cpu_per_fork(program: Program, storm: Callable[[], object]) -> float:
    """CPU time of a program, µs, for each process that is started on the machine meanwhile."""
    before, started = cpu_ns(program.pid), forks()
    storm()
    time.sleep(0.01)
    return (cpu_ns(program.pid) - before) / (forks() - started) / 1000


def uninteresting_exec(directory: Path, rounds: int, count: int, pause_us: int) -> list[Row]:
    """The first quartile of short rounds in turn: what others do at the same time only ever adds."""
    found: dict[str, list[float]] = {}
    command = [
        str(directory / "load"),
        "storm",
        str(count),
        str(directory / "nothing"),
        *([str(pause_us)] * (pause_us > 0)),
    ]
    with ExitStack() as stack:
        programs = start_all(directory, stack, unfiltered=True)
        for _ in range(rounds):
            for name, program in programs.items():
                with going_on(program):
                    took = _cpu_per_fork(program, lambda: subprocess.run(command, check=True))
                    found.setdefault(name, []).append(took)
    values = {name: percentile(samples, 0.25) for name, samples in found.items()}
    ratio = {name: value / values["C"] for name, value in values.items() if not name.startswith("C")}
    reached = max(ratio["1 rule"], ratio["1,000 rules"]) <= 0.1 and ratio["lowering, no filter"] <= 4
    pace = f"{1_000_000 // pause_us} a second at most" if pause_us else "as fast as they end"
    what = f"CPU for an uninteresting exec, {pace}"
    return [Row(what, "µs", values, "0.1 x C; lowering, no filter 4 x C", reached, ratio)]


def below_pinned(directory: Path, rounds: int, count: int) -> list[Row]:
    """Programs below a pinned process, once what starts them has been left to itself."""
    values = {}
    with pinned_shell(directory) as shell, reference(directory, REAL_TIME) as c:
        assert shell.stdin is not None and shell.stdout is not None
        line_in, line_out = shell.stdin, shell.stdout

        def storm(number: int) -> None:
            line_in.write(f"{number} 1000\n".encode())
            line_in.flush()
            line_out.readline()

        found: dict[str, list[float]] = {}
        for children in ("reset", VALUE // 2, "inherit"):
            with Oomwatchd(directory, rule_for_shell(directory, children), REAL_TIME) as running:
                time.sleep(_SETTLING_SECONDS)
                storm(1)
                time.sleep(2)
                for _ in range(rounds):
                    for name, program in (("C", c), (f"children {children}", running)):
                        found.setdefault(name, []).append(_cpu_per_fork(program, lambda: storm(count)))
    values = {name: percentile(samples, 0.25) for name, samples in found.items()}
    ratio = {name: value / values["C"] for name, value in values.items() if name != "C"}
    return [Row("CPU for an exec below a pinned process", "µs", values, "0.1 x C", max(ratio.values()) <= 0.1, ratio)]


def scans(directory: Path, processes: int, seconds: int) -> list[Row]:
    """Scans one after the other, beside a C program that does the same; and what of them programs that start see."""
    values: dict[str, float] = {}
    pauses = []
    with crowd(directory, processes):
        with reference(directory, REAL_TIME):
            longest_of_c = max(x.execve for x in latencies(directory, 1000, 1000)) / 1000
        for label, rules in (("1 rule", one_rule), ("1,000 rules", thousand_rules)):
            with Oomwatchd(directory, rules(directory), REAL_TIME, interval="100ms") as running:
                scans, used = running.status()["counters"]["scans"], cpu_ns(running.pid)
                for files in (["comm"], ["exe"], ["exe", "comm"]):
                    values[f"C, {' and '.join(files)}"] = scanned_by_c(directory, seconds, 0, *files)
                used = cpu_ns(running.pid) - used
                values[label] = used / (running.status()["counters"]["scans"] - scans) / 1e6
                pauses += [x.execve / 1000 for x in latencies(directory, 500, 1000)]
    ratio = {name: values[name] / values["C, comm"] for name in ("1 rule", "1,000 rules")}
    values["1,000 rules / C, exe and comm"] = values["1,000 rules"] / values["C, exe and comm"]
    worst = {"p50": percentile(pauses, 0.5), "p99": percentile(pauses, 0.99), "longest": max(pauses)}
    worst["longest of C, which doesn't scan"] = longest_of_c
    return [
        Row(f"CPU for a scan of {processes} processes", "ms", values, "1.5 x C", max(ratio.values()) <= 1.5, ratio),
        Row("execve to value written during scans", "ms", worst, "20 ms", worst["longest"] <= 20),
    ]


def scanned_by_c(directory: Path, seconds: int, pause_ms: int, *files: str) -> float:
    """What a scan takes in C, ms of CPU time."""
    command = [str(directory / "scan"), str(seconds), str(pause_ms), *files]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


def idle(directory: Path, processes: int, seconds: int) -> list[Row]:
    with crowd(directory, processes), Oomwatchd(directory, one_rule(directory), interval="5s") as running:
        used, switches = settled_cpu_ns(running.pid), context_switches(running.pid)
        time.sleep(seconds)
        used, switches = cpu_ns(running.pid) - used, context_switches(running.pid) - switches
    minutes = seconds / 60
    values = {"CPU ms": used / 1e6 / minutes, "context switches": switches / minutes}
    with crowd(directory, processes):
        values["C, exe, CPU ms"] = scanned_by_c(directory, max(seconds // 2, 1), 500, "exe") * 12
    what = f"idle, a minute of scans every 5 s of {processes} processes"
    return [Row(what, "", values, "20 ms", values["CPU ms"] <= 20)]


def memory_and_start(directory: Path, processes: int) -> list[Row]:
    resident, private, start = {}, {}, {}
    with crowd(directory, processes):
        for label, rules in (("1 rule", one_rule), ("1,000 rules", thousand_rules)):
            starts = []
            for _ in range(3):
                with Oomwatchd(directory, rules(directory)) as running:
                    starts.append(running.ready_cpu_ns / 1e9)
                    time.sleep(0.5)
                    resident[label], private[label] = memory_mib(running.pid)
            start[label] = min(starts)
    fits = resident["1 rule"] <= 17.5 and resident["1,000 rules"] <= 19.5
    return [
        Row("resident memory", "MiB", resident, "17.5 / 19.5 MiB", fits),
        Row("private memory", "MiB", private, "12.5 MiB", max(private.values()) <= 12.5),
        Row(f"CPU until READY=1, {processes} processes", "s", start, "0.25 s", start["1 rule"] <= 0.25),
    ]


def burst(directory: Path, execs: int, every: int) -> list[Row]:
    """Programs that start while the daemon is stopped; some of them stay, and have to be found."""
    with Oomwatchd(directory, one_rule(directory)) as running:
        running.process.send_signal(signal.SIGSTOP)
        words = ["burst", str(execs), str(every), str(directory / "target"), str(directory / "nothing")]
        with load(directory, *words):
            started = time.monotonic()
            running.process.send_signal(signal.SIGCONT)
            wanted = -(-execs // every)
            while (status := running.status())["pinned"] < wanted and time.monotonic() - started < 30:
                time.sleep(0.02)
            seconds = time.monotonic() - started
    values = {"s": seconds, "found": status["pinned"], "of": wanted, "losses": status["counters"]["lost"]}
    reached = seconds <= 1 and status["pinned"] == wanted
    return [Row(f"{execs} execs while stopped", "", values, "all in 1 s", reached)]


def noise() -> dict[str, float]:
    """How much the same piece of work takes at one time and another, and the load: what differs by less means
    nothing."""
    wall, used = [], []
    for _ in range(50):
        at, cpu = time.perf_counter(), time.process_time()
        sum(range(200_000))
        wall.append(time.perf_counter() - at)
        used.append(time.process_time() - cpu)
    return {
        "load": float(Path("/proc/loadavg").read_text().split()[0]),
        "wall p90/p10": percentile(wall, 0.9) / percentile(wall, 0.1),
        "CPU p90/p10": percentile(used, 0.9) / percentile(used, 0.1),
    }
