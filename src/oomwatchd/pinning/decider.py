"""Finds the rule that fits a process. It reads only the facts that the rules need."""

from oomwatchd.kernel import procfs
from oomwatchd.kernel.executable import runs_file
from oomwatchd.kernel.facts import View, read_process
from oomwatchd.kernel.proc_stat import Stat
from oomwatchd.kernel.procfs import ProcessDir, Vanished
from oomwatchd.pinning.decisions import runtime_rule
from oomwatchd.pinning.ledger_codec import RuntimePin
from oomwatchd.pinning.lineage import Node, VerifiedExe
from oomwatchd.pinning.look import Look
from oomwatchd.pinning.prefilter import Prefilter
from oomwatchd.rules.criteria import Process
from oomwatchd.rules.model import Rule
from oomwatchd.rules.ruleset import RuleSet

_NOBODY = frozenset[str]()


class Decider:
    """Finds the rule that fits a process, by one set of rules."""

    def __init__(self, rules: RuleSet, view: View, prefilter: Prefilter) -> None:
        self._rules = rules
        self._view = view
        self._proc = view.proc
        self._prefilter = prefilter

    def note_exec(self, look: Look) -> None:
        """Note that the process has executed a program: forget what was remembered of the program that it ran
        before."""
        pid, event_ns = look.node.pid, look.trigger.event_ns
        self._rules.searches.executed(pid, event_ns)
        self._view.command_lines.executed(pid, event_ns)

    def decide(
        self, look: Look, stat: Stat, exe: bytes | None, runtime_pin: RuntimePin | None
    ) -> tuple[Rule | None, Process | None]:
        """The rule that fits (None: none does), and the facts of the process (None: only exe and comm were needed).
        `exe`: the result of ProcessDir.read_exe(). `runtime_pin`: the runtime pin of that PID. Raises NotYet; and
        Vanished, also if the process is being ended, so that its rule asks for facts that it doesn't have any more."""
        if runtime_pin is not None and runtime_pin.starttime == stat.starttime:
            return runtime_rule(runtime_pin), None
        rule, process = self._find(look, stat, exe)
        before = look.rule_before
        if before in self._rules.by_name and (rule is None or rule.name != before) and look.directory.is_in_exit():
            raise Vanished
        return rule, process

    def _find(self, look: Look, stat: Stat, exe: bytes | None) -> tuple[Rule | None, Process | None]:
        """As decide(), of the facts as they are now."""
        directory, node = look.directory, look.node
        decision = self._decide_by(directory, stat, node, exe)
        pinned_by = node.pin.rule if node.pin is not None else ""
        executes = look.trigger.source == "exec" and _executes_anew(node, look.trigger.event_ns)
        if executes or (decision[0] is not None and decision[0].name == pinned_by):
            return decision
        before = self.exe_before(directory, node, exe)
        if before is None:
            return decision
        by_path_before = self._decide_by(directory, stat, node, before.path.encode("utf-8", "surrogateescape"), before)
        return decision if by_path_before[0] is None else by_path_before

    def exe_before(self, directory: ProcessDir, node: Node, exe: bytes | None) -> VerifiedExe | None:
        """The executable of the process, or of its parent, that was verified before, if the process still runs that
        file; else None. After an upgrade or an unmount, the path may lead to another file or to none. After a move
        into a deep directory, the kernel may not tell it (`exe` is None)."""
        before, parent = node.verified_exe, node.parent
        if before is None and parent is not None and parent.verified_exe is not None and self._shows(parent, exe):
            before = parent.verified_exe
        return before if before is not None and runs_file(directory, before.file) else None

    def _shows(self, node: Node, exe: bytes | None) -> bool:
        """Whether the process of `node` also shows the path `exe`, or also none. Only the path is compared, because
        stat(2) may wait for a file system."""
        try:
            return not node.dead and procfs.read_exe_link(node.pid, self._proc.encode()) == exe
        except (Vanished, OSError):
            return False

    def _decide_by(
        self, directory: ProcessDir, stat: Stat, node: Node, exe: bytes | None, verified: VerifiedExe | None = None
    ) -> tuple[Rule | None, Process | None]:
        """The rule that fits a process with the path `exe`, and the facts that were read. `verified`: this path was
        verified before, and is believed."""
        rules = self._rules
        possible, verify = self._prefilter.sift(exe, stat.comm)
        node.nameable = possible != 0 or verified is not None or self._prefilter.may_be_renamed(exe)
        if not possible:
            return None, None
        ancestors = _NOBODY
        if rules.referenced and node.parent is not None:
            ancestors = frozenset(above.rule for above in node.ancestors() if above.rule)
        process = read_process(
            directory,
            stat,
            exe,
            rules.needs,
            self._view,
            ancestors,
            verify=verify,
            verified=None if verified is None else verified.file,
        )
        return rules.decide(process, possible), process


def _executes_anew(node: Node, event_ns: int) -> bool:
    """Whether the process has executed a program after its executable was verified. `event_ns`: the time of the exec
    event, CLOCK_MONOTONIC; 0: the event is about a relative, and this process has executed nothing. A scan may look at
    the process before the event is read: then the event is about the program that was verified."""
    return event_ns > 0 and (node.verified_exe is None or event_ns > node.seen_ns)
