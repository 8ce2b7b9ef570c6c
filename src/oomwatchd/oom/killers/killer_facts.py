"""Reads the facts about killers: which of them run, their configuration, cgroups and units.

All roots are arguments, so that tests can have a tree of their own. A file that is missing or refused is an absent
fact."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from oomwatchd.base.badness_formula import Era
from oomwatchd.oom import badness
from oomwatchd.oom.badness import Machine, Memcg
from oomwatchd.oom.killers import earlyoom, kernel, nohang, systemd_oomd
from oomwatchd.oom.killers.aftermath import follows
from oomwatchd.oom.killers.model import NAMES, Killer, Meminfo, Suspect, absent
from oomwatchd.oom.killers.systemd_facts import SystemdReader, parse_pressure
from oomwatchd.oom.memcgs import find_hierarchy, is_within, read_memcg, walk
from oomwatchd.oom.processes import OomProcess
from oomwatchd.oom.small_files import PAGE, kib, pages_of_kib, parse_fields, read_file, read_number

_PYTHON = re.compile(rb"python[0-9.]*$")
_TIE_PAGES = 96
"""Pages for each CPU by which the kernel's counters may differ from what /proc shows."""
_COMMAND_LINE_BYTES = 1 << 16
_PROGRAM_BYTES = 4 << 20
_NEWER_EARLYOOM = b"user mem total"  # which its first lines of output have had since 1.8


@dataclass(frozen=True, slots=True)
class Roots:
    """The directories to read. Configuration is read in etc, run and usr below `root`."""

    root: str = "/"
    proc: str = "/proc"
    cgroup: str = "/sys/fs/cgroup"


def roots_below(root: str) -> Roots:
    """The directories for a tree at `root`. If it has a /proc, all of them are below `root`. Else if it has a
    configuration of systemd, only the configuration is. Else all are the machine's own, and `root` only says which
    oomwatchd is meant."""
    proc = os.path.join(root, "proc")
    if os.path.exists(os.path.join(proc, "meminfo")):
        return Roots(root, proc, os.path.join(root, "sys/fs/cgroup"))
    configured = any(os.path.isdir(os.path.join(root, f"{place}/systemd")) for place in ("etc", "run", "usr/lib"))
    return Roots(root) if configured else Roots()


class Reader:
    """Reads the facts of one system. `pause` waits for a second between two readings of what the kernel has reclaimed
    from cgroups; None: it is read once."""

    def __init__(
        self, roots: Roots, processes: Sequence[OomProcess], era: Era, pause: Callable[[], None] | None = None
    ) -> None:
        self.roots = roots
        self.processes = processes
        self.era = era
        self._pause = pause
        self._oomd: Killer | None = None
        self._hierarchy = find_hierarchy(roots.cgroup)
        self._systemd = SystemdReader(roots.root, roots.cgroup)

    def killers(self, machine: Machine, values: Mapping[int, int] | None = None) -> list[Killer]:
        """All killers, also those that don't run. `values`: values of oom_score_adj in place of the present ones, by
        PID."""
        running = dict(find_running(self.processes, self.command_line))
        memory = read_memory(self.roots.proc)
        found = [self._kernel(machine, values or {})]
        for name in NAMES[1:]:
            pid = running.get(name)
            found.append(
                absent(name) if pid is None or memory is None else self._assess(name, pid, memory, values or {})
            )
        return found

    def _assess(self, name: str, pid: int, memory: Meminfo, values: Mapping[int, int]) -> Killer:
        if name == "systemd-oomd":
            # systemd-oomd ignores oom_score_adj, so other values change nothing. Reading its facts again might take a
            # second.
            self._oomd = self._oomd or self._systemd_oomd(pid, memory)
            return self._oomd
        if name == "oomd":
            note = "Its rules (oomd.json) aren't read here: when it acts and whom it takes isn't known."
            return Killer("oomd", pid, present=True, armed=True, heeds="no", notes=(note,))
        suspects = self.suspects(values)
        if name == "earlyoom":
            return earlyoom.assess(pid, self.command_line(pid)[1:], self._newer_earlyoom(pid), memory, suspects)
        return nohang.assess(self._nohang(pid), memory, suspects, self._look, self._pressure())

    # -- /proc

    def command_line(self, pid: int) -> list[bytes]:
        """argv of a process; empty if it can't be read."""
        raw = read_file(f"{self.roots.proc}/{pid}/cmdline", limit=_COMMAND_LINE_BYTES) or b""
        return raw.removesuffix(b"\0").split(b"\0") if raw else []

    def suspects(self, values: Mapping[int, int]) -> list[Suspect]:
        """All processes with their oom_score. It is read, or calculated by the kernel's formula where it can't be read
        or `values` has another oom_score_adj."""
        fields = parse_fields(read_file(f"{self.roots.proc}/meminfo") or b"")
        total = sum(pages_of_kib(kib(fields, key)) for key in (b"MemTotal", b"SwapTotal"))
        made = []
        for process in self.processes:
            now = process.task
            task = replace(now, oom_score_adj=values.get(now.pid, now.oom_score_adj))
            score = read_number(f"{self.roots.proc}/{task.pid}/oom_score") if task == now else None
            if score is None:
                score = badness.oom_score(task, total, self.era)
            made.append(
                Suspect(
                    pid=task.pid,
                    comm=task.comm,
                    uid=task.uid,
                    ppid=process.ppid,
                    oom_score=score,
                    oom_score_adj=task.oom_score_adj,
                    rss=task.rss * PAGE // 1024,
                    points=badness.points(task, total, self.era) * PAGE // 1024,
                    cgroup=task.memcg,
                    kernel_thread=task.kernel_thread,
                )
            )
        return made

    def _newer_earlyoom(self, pid: int) -> bool | None:
        command = self.command_line(pid)
        places = [f"{self.roots.proc}/{pid}/exe".encode()]
        if command and command[0].startswith(b"/"):
            places.append(os.path.join(os.fsencode(self.roots.root), command[0].lstrip(b"/")))
        for place in places:
            program = read_file(place, limit=_PROGRAM_BYTES)
            if program is not None:
                return _NEWER_EARLYOOM in program
        return None

    def _nohang(self, pid: int) -> nohang.Running:
        command = self.command_line(pid)
        path = nohang.config_path(command) or b"/etc/nohang/nohang.conf"
        raw = None
        if path.startswith(b"/"):
            raw = read_file(os.path.join(os.fsencode(self.roots.root), path.lstrip(b"/")))
        settings = None if raw is None else nohang.parse(raw.decode("utf-8", "replace"))
        return nohang.Running(pid, os.fsdecode(path), settings)

    def _look(self, subject: str, suspect: Suspect) -> str | None:
        """The text that a rule of nohang with this subject is tried on; None: it can't be read."""
        directory = f"{self.roots.proc}/{suspect.pid}"
        if subject in ("REALPATH", "CWD"):
            try:
                return os.readlink(f"{directory}/{'exe' if subject == 'REALPATH' else 'cwd'}")
            except FileNotFoundError:
                return ""
            except OSError:
                return None
        name = {"CMDLINE": "cmdline", "ENVIRON": "environ"}.get(subject, "cgroup")
        raw = read_file(f"{directory}/{name}", limit=_COMMAND_LINE_BYTES)
        if raw is None:
            return None
        text = raw.decode("utf-8", "ignore")
        if name != "cgroup":
            return text.replace("\0", " ")
        mark = "0::" if subject == "CGROUP_V2" else ":name="
        return next(
            (line.partition("::" if mark == "0::" else "=")[2] for line in text.split("\n") if mark in line), ""
        )

    def _pressure(self) -> dict[str, float]:
        raw = read_file(f"{self.roots.proc}/pressure/memory") or b""
        return parse_pressure(raw)

    # -- the kernel

    def _kernel(self, machine: Machine, values: Mapping[int, int]) -> Killer:
        vm = f"{self.roots.proc}/sys/vm"
        tasks = [replace(p.task, oom_score_adj=values.get(p.task.pid, p.task.oom_score_adj)) for p in self.processes]
        found = kernel.assess(
            kernel.Scene(
                machine=machine,
                tasks=tuple(tasks),
                limited=tuple(group for group in self._memcgs(machine) if group.limit is not None),
                era=self.era,
                sysctls=kernel.OomSysctls(
                    read_number(f"{vm}/panic_on_oom"), read_number(f"{vm}/oom_kill_allocating_task")
                ),
                tie_pages=_TIE_PAGES * (os.cpu_count() or 1),
            )
        )
        together, units = self._systemd.oom_groups(), self._systemd.units(self.processes)
        return replace(
            found,
            conditions=tuple(
                t
                if t.victim is None
                else replace(t, follows=follows(t.victim.cgroup, t.cgroup or b"/", together, units))
                for t in found.conditions
            ),
        )

    def _memcgs(self, machine: Machine) -> Iterator[Memcg]:
        if self._hierarchy is None:
            return
        for path in walk(self._hierarchy):
            memcg = read_memcg(self._hierarchy, path, machine)
            if memcg is not None:
                yield memcg

    def _systemd_oomd(self, pid: int, memory: Meminfo) -> Killer:
        settings = systemd_oomd.settings_of(self._systemd.oomd_conf(), self.command_line(pid))
        watched = self._systemd.watched()
        leaves = self._systemd.leaves(watched)
        if self._pause is not None and any(w.pressure and (w.full_avg10 or 0) > 0 for w in watched):
            self._pause()
            before = {leaf.path: leaf.pgscan for leaf in leaves}
            watched = self._systemd.watched()
            leaves = [
                replace(leaf, scanned=max(leaf.pgscan - before.get(leaf.path, 0), 0))
                for leaf in self._systemd.leaves(watched)
            ]
        return systemd_oomd.assess(pid, settings, memory, watched, leaves)


def find_running(
    processes: Sequence[OomProcess], command_line: Callable[[int], list[bytes]]
) -> Iterator[tuple[str, int]]:
    """The killers in user space that run: name and PID. Processes in a container, and processes below user.slice that
    aren't root's, don't count, whatever their name: they can kill only their own user's processes."""
    for process in sorted(processes, key=lambda p: -p.task.pid):
        task = process.task
        if task.kernel_thread or process.nested or not _is_system(process):
            continue
        name = task.comm.decode("ascii", "replace")
        if _PYTHON.match(task.comm):
            command = command_line(task.pid)
            name = os.path.basename(command[1]).decode("ascii", "replace") if len(command) > 1 else ""
            name = name if name == "nohang" else ""
        if name in NAMES and name != "kernel":
            yield name, task.pid


def _is_system(process: OomProcess) -> bool:
    return process.task.uid == 0 or not is_within(process.task.memcg, b"/user.slice")


def read_memory(proc: str) -> Meminfo | None:
    """The machine's memory; None if /proc/meminfo can't be read."""
    fields = parse_fields(read_file(f"{proc}/meminfo") or b"")
    total = kib(fields, b"MemTotal")
    if total is None:
        return None
    return Meminfo(
        total=total,
        available=kib(fields, b"MemAvailable"),
        anon=kib(fields, b"AnonPages"),
        swap_total=kib(fields, b"SwapTotal") or 0,
        swap_free=kib(fields, b"SwapFree") or 0,
    )
