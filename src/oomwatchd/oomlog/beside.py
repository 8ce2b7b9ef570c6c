"""Reads what other killers and service managers say in a log of the kernel. Pure.

Few lines of a log are from such programs. So a block of the log is split into lines only if it has one of a few
words."""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from oomwatchd.oomlog import json_lines
from oomwatchd.oomlog.clean import clean
from oomwatchd.oomlog.killers import PROGRAMS, Kills, Said, read_line
from oomwatchd.oomlog.logline import LogLine
from oomwatchd.oomlog.named_dates import Calendar
from oomwatchd.oomlog.ties import MANAGERS, Ties
from oomwatchd.oomlog.times import time_of
from oomwatchd.oomlog.words import Block, Words

_WORDS = Words(
    (
        "oomd",
        "earlyoom",
        "nohang",
        "ow memory!",
        "Low Memory!",
        "badness",
        "corrective action",
        "OOM",
        "'oom-kill'",
        "/tasks/oom",
        "container oom",
        "due to memory pressure",
        "due to memory used",
    )
)
_SAYS = (
    r"oomd|earlyoom|nohang|[Ll]ow [Mm]emory!|mem avail: |sending SIG|[Kk]illing process|correcti|_threshold_|PID: "
    r"|Vm, MiB: |oom_score_adj: |cgroup_v[12]: |victim|OOM|'oom-kill'|/tasks/oom|container oom|kill failed: |dryrun"
    r"|exited after|Cannot send a signal|due to memory (?:pressure|used)"
)
_LINE = re.compile(rf"(?m)^.*(?:{_SAYS}).*$".encode())
_TEXT = re.compile(_SAYS)
_LONGEST = 64 << 10
_TAG = re.compile(r"(?:^|(?<=\s))(?P<tag>[A-Za-z][\w@./\\+-]{0,63})(?:\[\d{1,10}\])?: ")
_RFC5424 = re.compile(
    r"(?:(?:<\d{1,3}>)?1 (?=\S)|(?=\d{4}-\d\d-\d\dT))(?P<time>\S+) (?P<host>\S+) (?P<tag>[^\s:]+) (?:-|\d+) \S+ "
    r"(?:-|\[.*?\]) (?P<text>.*)"
)
_HOST = re.compile(r"(?:^|\s)(?P<host>[^\s:\[\]()]{1,255})\s+$")
_CLOCK = re.compile(r"\d:\d\d")
_BARE = (
    (re.compile(r"(?:Killed|Marked) /.* due to (?:memory|swap)"), "systemd-oomd"),
    (
        re.compile(
            r"(?i:low memory! at or below)|^mem avail: |sending SIG\w+ to process \d|Killing process: .*, pid: \d"
            r"|Killing process '.*' with signal \d|killing process \d+ \".*\" with signal \d"
        ),
        "earlyoom",
    ),
    (
        re.compile(
            r"corrective action|_threshold_|PID: +\d+, [Nn]ame: |to the victim|Vm, MiB: |cgroup_v[12]: |badness: "
        ),
        "nohang",
    ),
)
"""Words that only one killer writes, for logs without tags: `journalctl -o cat`, standard error in a file."""


def may_say(text: str) -> bool:
    """Whether a text has a word of another killer's or of a service manager's."""
    return _TEXT.search(text) is not None


class Beside:
    """Reads a log block by block, or line by line. `kills`: the kills of other killers. `ties`: lines that name the
    unit or container of a kill by the kernel."""

    def __init__(self, reference: datetime, file: str | None = None) -> None:
        self.kills = Kills()
        self.ties = Ties()
        self._reference = reference
        self._file = file
        self._calendar = Calendar()

    def begin(self, reference: datetime, file: str) -> None:
        """Another file of the same log follows."""
        self._reference, self._file = reference, file

    def take_block(self, block: Block) -> None:
        """Take the next lines of the log."""
        if not _WORDS.any_in(block):
            return
        for match in _LINE.finditer(block.data, block.start, block.end):
            raw = match[0][:_LONGEST].decode("utf-8", "backslashreplace").rstrip("\r")
            for line in self._lines(raw):
                self.take_line(line, raw)

    @staticmethod
    def _lines(raw: str) -> Iterable[LogLine]:
        if raw.lstrip("\x1e \t")[:1] == "{":
            unwrapped = json_lines.unwrap(raw)
            if unwrapped is not None:
                return unwrapped
        return (LogLine(raw),)

    def take_line(self, line: LogLine, raw: str = "") -> None:
        """Take a line, with what its container knows of it. `raw`: the whole line, where it differs."""
        if line.program not in _KNOWN and not may_say(line.text):
            return
        if not line.verbatim and (text := clean(line.text)) != line.text:
            line = replace(line, text=text)
        said = self._said(line, raw)
        if said is None:
            return
        if said.program in PROGRAMS or said.program == "kernel":
            read_line(self.kills, said)
        self.ties.feed(said)

    def _said(self, line: LogLine, raw: str) -> Said | None:
        said = self._tagged(line, raw)
        return None if said is None else replace(said, file=line.file or self._file)

    def _tagged(self, line: LogLine, raw: str) -> Said | None:
        if line.program is not None:
            return Said(_base(line.program), line.text, self._time(line, ""), line.host, raw)
        if match := _RFC5424.match(line.text):
            host = line.host or match["host"]
            return Said(_base(match["tag"]), match["text"], self._time(line, match["time"]), host, raw)
        match = _TAG.search(line.text)
        before = "" if match is None else line.text[: match.start()]
        if match is not None and (
            _base(match["tag"]) in _KNOWN or (_CLOCK.search(before) and match["tag"][0].islower())
        ):
            host = _HOST.search(before)
            named = host["host"] if host is not None and not _CLOCK.search(host["host"]) else None
            text = line.text[match.end() :]
            return Said(_base(match["tag"]), text, self._time(line, before), line.host or named, raw)
        for pattern, program in _BARE:
            if found := pattern.search(line.text):
                return Said(program, line.text, self._time(line, line.text[: found.start()]), line.host, raw)
        return None

    def _time(self, line: LogLine, before: str) -> str | float | None:
        if isinstance(line.time, str):
            return time_of(f"{line.time} ", self._reference, self._calendar) or line.time
        return time_of(before, self._reference, self._calendar) if line.time is None else line.time


_KNOWN = frozenset((*PROGRAMS, *MANAGERS, "kernel"))


def _base(tag: str) -> str:
    """The name of the program in a tag, which may be a path or a unit's name."""
    return tag.rpartition("/")[2].removesuffix(".service")
