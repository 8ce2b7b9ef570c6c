"""Explains what becomes of a process, and why. It runs the daemon's own code over all facts, and writes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from oomwatchd.base.notyet import settled
from oomwatchd.base.uapi import PF_KTHREAD
from oomwatchd.control.protocol import LINEAGE_PIDS, Json
from oomwatchd.ctl.ask import reply_to
from oomwatchd.ctl.rulebook import Rulebook
from oomwatchd.kernel.facts import View, read_process
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.proc_status import parse_thread_group
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.decisions import Trigger, runtime_rule, wanted_pin, without_rule
from oomwatchd.pinning.lineage import Node, Pin
from oomwatchd.rules.criteria import Process, Source
from oomwatchd.rules.match import Mismatch, mismatch
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import Needs, RuleSet

EVERYTHING = Needs(reads=frozenset(Source))


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule says of one process."""

    rule: Rule
    failed: Mismatch | None
    """Why the rule doesn't fit; None: it fits."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of one process, or of one that doesn't run yet."""

    pid: int | None
    process: Process | None
    """The facts; None: the process is gone, or it may not be read."""
    note: str
    """Why the process is never touched, or can't be explained; empty: neither."""
    value: int | None
    """The present oom_score_adj."""
    verdicts: tuple[RuleVerdict, ...]
    decided: Rule | None
    action: str
    """What is done: "pin", "ignore", "release" (the process gets its original value back), "children" (it gets what
    `children` of an ancestor's rule says) or "none"."""
    target: int | None
    node: Node | None
    """What the daemon's ledger knows of the process."""
    refused: str = ""
    """Why the kernel refused the last write; empty: it refused none."""
    contended: bool = False


class Examiner:
    """Explains processes by one rulebook."""

    def __init__(self, book: Rulebook) -> None:
        self.book = book
        self.rules = RuleSet(book.config.rules)
        self.view = View()
        self._decided: dict[int, str] = {}

    def explain(self, pids: Iterable[int]) -> list[Explanation]:
        """Explain each of the processes. Raises NotRunning if the daemon ends meanwhile."""
        wanted = list(pids)
        lineages = self._lineages(wanted)
        return [self._explain(pid, lineages.get(pid, {})) for pid in wanted]

    def _lineages(self, pids: list[int]) -> Mapping[int, Json]:
        if self.book.daemon is None:
            return {}
        found: list[Json] = []
        for start in range(0, len(pids), LINEAGE_PIDS):
            request = {"verb": "lineage", "pids": pids[start : start + LINEAGE_PIDS]}
            found += reply_to(self.book.daemon, request)["processes"]
        return {entry["pid"]: entry for entry in found}

    def _explain(self, pid: int, lineage: Json) -> Explanation:
        try:
            with ProcessDir(pid) as directory:
                stat = directory.read_stat()
                leader = parse_thread_group(directory.read("status"))
                lineage = lineage if lineage.get("starttime") == stat.starttime else {}
                process = self._read(directory, stat, lineage)
                value = directory.read_oom_score_adj()
                untouched = self._untouched(pid, stat)
        except Vanished:
            return _unexplained(pid, "no such process, or it is hidden from you (hidepid)")
        except PermissionError:
            return _unexplained(pid, "it may not be read; run as root")
        if leader != pid:
            return _unexplained(pid, f"a thread; its process is {leader}")
        if untouched is not None:
            note, failed = untouched
            verdicts = tuple(RuleVerdict(rule, failed) for rule in self.rules.rules)
            return Explanation(pid, process, note, value, verdicts, None, "none", None, None)
        return self._weigh(process, value, node_of(process, lineage), lineage)

    def explain_facts(self, process: Process) -> Explanation:
        """Explain a process that doesn't run yet. Its original value is taken to be 0."""
        explanation = self._weigh(process, 0, Node(0, 0, None), {})
        return replace(explanation, pid=None, value=None)

    @staticmethod
    def _untouched(pid: int, stat: Stat) -> tuple[str, Mismatch] | None:
        if stat.flags & PF_KTHREAD:
            return "a kernel thread, which is never touched", Mismatch("kernel_thread", False, True)
        if pid == 1:
            return "PID 1, which is never touched", Mismatch("pid", "any but 1", 1)
        return None

    def _read(self, directory: ProcessDir, stat: Stat, lineage: Json) -> Process:
        if self.book.loaded:
            ancestors = frozenset(lineage.get("ancestors", ()))
        else:
            ancestors = self._ancestors(stat.ppid) if self.rules.referenced else frozenset()
        exe = directory.read_exe()
        process = settled(lambda: read_process(directory, stat, exe, EVERYTHING, self.view, ancestors, verify=True))
        before = lineage.get("exe_before")
        if before is not None and (before != process.exe or not lineage["exe_verified"]):
            # The daemon verified the path while it led to the executable.
            doubt = f"now {process.exe or 'at a path that is too long to be shown'}"
            doubt = "replaced since" if before == process.exe else doubt
            return replace(process, exe=before, exe_verified=True, exe_doubt=doubt)
        if lineage.get("exe_verified") is None:
            return process
        # The daemon's view of the path counts. It may differ from the one here (PrivateTmp=).
        return replace(process, exe_verified=lineage["exe_verified"], exe_doubt=lineage["exe_doubt"])

    def _ancestors(self, pid: int) -> frozenset[str]:
        """The names of the rules that would pin `pid` and those of its ancestors that still run."""
        chain: list[int] = []
        names: frozenset[str] = frozenset()
        while pid > 1 and pid not in chain:
            chain.append(pid)
            try:
                with ProcessDir(pid) as directory:
                    pid = directory.read_stat().ppid
            except (Vanished, OSError):
                break
        for ancestor in reversed(chain):
            names |= self._decide_ancestor(ancestor, names)
        return names

    def _decide_ancestor(self, pid: int, above: frozenset[str]) -> frozenset[str]:
        if pid not in self._decided:
            self._decided[pid] = ""
            try:
                with ProcessDir(pid) as directory:
                    stat, exe = directory.read_stat(), directory.read_exe()
                    process = settled(
                        lambda: read_process(directory, stat, exe, EVERYTHING, self.view, above, verify=True)
                    )
                    rule = settled(lambda: self.rules.decide(process))
                    self._decided[pid] = "" if rule is None else rule.name
            except (Vanished, OSError):
                pass
        return frozenset({self._decided[pid]} - {""})

    def _weigh(self, process: Process, value: int, node: Node, lineage: Json) -> Explanation:
        settled(lambda: self.rules.prepare(process))
        pinned_by = lineage.get("rule") if self.book.loaded else None
        verdicts = [RuleVerdict(rule, _why_not(rule, process, pinned_by)) for rule in self.rules.rules]
        decided = next((verdict.rule for verdict in verdicts if verdict.failed is None), None)
        pin = self.book.pins.get(process.pid)
        if pin is not None and pin.starttime == process.starttime:
            decided = runtime_rule(pin)
            verdicts.insert(0, RuleVerdict(decided, None))
        action, target = _outcome(decided, node, value)
        refused = lineage.get("refused") or {}
        applies = decided is not None and refused.get("rule") == decided.name
        return Explanation(
            pid=process.pid,
            process=process,
            note="",
            value=value,
            verdicts=tuple(verdicts),
            decided=decided,
            action=action,
            target=target,
            node=node,
            refused=refused["error"] if applies else "",
            contended=bool(lineage.get("contended")),
        )


def _why_not(rule: Rule, process: Process, pinned_by: str | None) -> Mismatch | None:
    """Why the rule doesn't fit; None: it fits. If a fact can't be read here, but the daemon pins the process by this
    rule, the rule fits."""
    failed = mismatch(rule, process)
    return None if failed is not None and failed.found is None and rule.name == pinned_by else failed


def _outcome(rule: Rule | None, node: Node, value: int) -> tuple[str, int | None]:
    """What is done to a process that has `value`, and the value that it has afterwards (None: it is unchanged)."""
    if rule is not None and rule.action.ignore:
        return "ignore", None
    if rule is not None:
        return "pin", wanted_pin(node, rule, value, Trigger("control")).target
    if node.pin is not None:
        return "release", node.pin.original
    if node.origin() is not None:
        return "children", without_rule(node, value)
    return "none", None


def _unexplained(pid: int, note: str) -> Explanation:
    return Explanation(pid, None, note, None, (), None, "none", None, None)


def node_of(process: Process, lineage: Json) -> Node:
    """The daemon's node of a process, made of the daemon's answer."""
    above = lineage.get("origin")
    parent = None
    if above is not None:
        parent = Node(above["pid"], 0, None)
        parent.comm, parent.dead, parent.pin = above["comm"], not above["alive"], _pin(above["hold"])
    node = Node(process.pid, process.starttime, parent)
    if lineage.get("hold") is not None:
        node.pin = _pin(lineage["hold"])
    return node


def _pin(entry: Json) -> Pin:
    """A pin as the daemon sends it."""
    return Pin(entry["rule"], entry["first"], entry["value"], entry["child_value"], entry["since"], entry["source"])
