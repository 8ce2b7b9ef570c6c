r"""Splits a line of a log into its prefix and the kernel's own words. Pure.

A prefix is taken off layer by layer: quotation marks, priorities, dates, the host, the program's tag, the kernel's
stamp. If no known layer follows, the next one is searched further on. The text before it is the lead: a file's name
from grep, a container's name from kubectl, a number from `cat -n`. The kernel's own stamp or tag ends the prefix: the
text behind it is the kernel's, whatever it looks like. Prefixes of unknown kinds are left to `oomlog.learned`.
"""

import functools
import re
from typing import NamedTuple

from oomwatchd.oomlog import lines
from oomwatchd.oomlog.dates import CLOCK, DATE

LONGEST = 64 * 1024
"""Characters of a line that are read. The kernel cuts a record at about 1 KiB (LOG_LINE_MAX in kernel/printk/printk.c);
JSON may have one number for each byte."""
_LEAD_MAX = 400
"""The most characters of the lead before a known layer."""
_LAYERS_MAX = 12
_SHORT = 1000
"""Lines up to this length are remembered: the first lines of a log are taken apart up to six times, to see what kind of
log it is."""

_CALLER = r"\[\ *[TC]\d{1,10}(?:@(?:CPU)?\d{1,4})?\]"
# Samsung's televisions write the CPU's number in front: "[2-3219.1870] ".
_UPTIME = r"\[\ *+(?:\d{1,3}-)?+(?:\d{1,12}\.\d{1,9}\ *+(?:<[^>\n]{0,20}>)?+|\+\d{1,12}\.\d{1,9})\]"
# What makers of phones put behind the stamp: "(2)[4311:java]", " [2:  java: 4311] ", " c2   4311 (java) ".
_PHONE = (
    r"(?:<\d>)?\ {0,2}(?:\(\d{1,3}\)\[\d{1,10}:[^\]\n]{1,16}\]|[A-Z]?\[\d{1,3}:\ *[^\]\n]{1,16}:\ *\d{1,10}\]"
    r"|\[?c\d{1,3}\ {1,9}\d{1,10}(?:\]|\ \([^)\n]{1,15}\)(?=\ )))"
)
_STAMP = rf"(?:{_UPTIME}(?:\ ?{_CALLER}|{_PHONE})?|{_CALLER})"
_FACILITIES = r"(?:kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local[0-7])"
_LEVELS = r"(?:emerg|alert|crit|err|error|warn|warning|notice|info|debug|panic)"
_HOST = r"(?:(?:::[fF]{4}:)?[A-Za-z0-9_][\w.%@/-]*+(?::[\w.:%-]*\w)?)"
# RFC 5424: APP-NAME PROCID MSGID STRUCTURED-DATA.
_RFC5424 = r"\ (?:-|\d{1,10})\ \S{1,32}\ (?:-|(?:\[[^\]\n]{0,500}\])+)(?:\ \ufeff?|$)"
_KERNEL = rf"(?:(?:kernel|vmkernel|kern)(?:(?:\[[\w/.-]{{0,40}}\])?:(?:\ :\ |\ \ (?=\S)|\ ?)|{_RFC5424})|\[kernel\]\ )"
_TAG = rf"""
    (?:(?P<tag>[^\s:\[\]"|{{}},=()<>]{{1,128}})(?:(?:\[[^\]\s]{{0,40}}\])?:\ |{_RFC5424})
     | \[(?P<bracketed>[A-Za-z][\w./-]{{0,60}})\]\ (?=\S))
"""

_LAYER = re.compile(
    rf"""
    (?P<blank> [\s\0\x1e\ufeff]++ | >(?=[\s>\[]|$) )
  | (?P<kmsg> (?P<kmsg_priority>\d{{1,4}}),\d{{1,20}},\d{{1,20}},[^;\n]{{0,200}}; )
  | (?P<stamp> {_STAMP} (?:\ (?:(?P<stamp_host>{_HOST})\ )?kernel:(?=\ ))? \ ? )
  | (?P<boxed> \[ [^\[\]\n]{{0,30}}\d:\d\d(?::\d\d)?[^\[\]\n]{{0,24}} \] (?:\[\ *[TC]\d+\])? :?\ ? )
  | <(?P<priority>\d{{1,3}})>(?:1\ )?
  | (?P<decoded> (?P<decoded_facility>[a-z0-9]{{3,8}})\ *:\ {{0,8}}{_LEVELS}\ *:\ ? )
  | (?P<date> (?: {DATE} | \d{{9,10}}\.\d{{6}}(?=\ ) ) )
  | (?P<logcat> \d\d-\d\d\ {CLOCK}\ +(?P<pid>\d+)\ +\d+\ [VDIWEFA]\ (?:(?P<android>kernel|)\ *:\ )? )
  | (?P<runtime> std(?:out|err)\ [FP]\ )
  | (?P<klog> [IWEF]\d{{4}}\ {CLOCK}\ +\d+\ [\w.-]+:\d+\]\  )
  | (?P<logfmt> time="?\d{{4}}-\d\d-\d\dT[^\s"]+"?\ level=\w+\  )
    """,
    re.VERBOSE,
)
# "kern.warn", "[kern.warn]", "<kern.warn>", before the host or behind it.
_SAID = rf"[\[<(]?(?P<facility>{_FACILITIES})\.{_LEVELS}[\]>)]?\ +"
_SAID_FIRST = _SAID.replace("<facility>", "<first_facility>")
_HOST_BEFORE_TAG = rf"\ *(?:{_SAID_FIRST})?(?:(?P<host>{_HOST})\ +)??(?:{_SAID}|{_LEVELS}\ +)?"
# What people put in place of a host's name. Not any word in brackets: metalog writes a program's name so.
_NO_NAME = (
    r"[\[<({](?i:(?:my|your|the)?[\ _-]?(?:host|node|server|machine)(?:[\ _-]?name)?|redacted|removed|hidden|censored"
    r"|anonymi[sz]ed|snip|x{2,20}|\*{1,20}|\.{2,5})[\])>}]|\.{2,5}|\u2026"
)
_KERNEL_TAG = re.compile(rf"(?:\ (?:{_NO_NAME})(?=\ +kernel:))?{_HOST_BEFORE_TAG}{_KERNEL}", re.VERBOSE)
_OTHER_TAG = re.compile(_HOST_BEFORE_TAG + _TAG, re.VERBOSE)
_BARE_KERNEL = re.compile(rf"(?:(?P<facility>{_FACILITIES})\.{_LEVELS}\ +)?(?:kernel:\ ?|\[kernel\]\ )")
_APPLICATION = re.compile(r"\ *\[?(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL)\b")
# What logging libraries put between the date and the text: a level, a place in the source, a process.
_LIBRARY = re.compile(
    r"\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL|SEVERE)\b"
    r"|\b[\w/-]{1,80}\.(?:go|py|cc?|cpp|rs|java|js|rb):\d|\[(?:error|warn|notice|info|debug|crit|alert)\]|\[pid \d"
)
_SEVERITY = re.compile(rf"{_LEVELS}|TRACE|fatal", re.IGNORECASE)
_DMESG_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{6}[+-]\d\d:\d\d$")
_HOST_LEAD = re.compile(rf"(?P<host>{_HOST}):\ ")
_NEXT = re.compile(
    rf"""(?<![\w.])(?: {_STAMP}\ | kern\ *:\ {{0,8}}{_LEVELS}\ *:\ ?\[ | {DATE}\ |
        (?:{_FACILITIES}\.{_LEVELS}\ )?(?:kernel|vmkernel)(?:\[\d*\])?:\ {{0,12}}(?=\S)
        | \[[^\[\]\n]{{0,30}}\d:\d\d:\d\d[^\[\]\n]{{0,24}}\]:?\ | \d{{1,4}},\d{{1,20}},\d{{1,20}},[^;\s]{{0,200}}; )""",
    re.VERBOSE,
)
_WORDS_OF_REPORT = re.compile(
    r" invoked oom-killer|oom-kill:con|[Kk]ill(?:ed)? process|[Oo]ut of [Mm]emory|oom_reaper:"
)
_PLAIN = re.compile(
    r"\[ *+\d{1,12}\.\d{1,9}\] "
    r"(?![\w.-]+ kernel: |\[ *[TC]\d|[A-Z]\[\d+:|c\d+ +\d|\(\d+\)\[|<\d>|\[[^\[\]]*:|\[ *\d+\.|(?:\S+ )?kernel:)"
    r"|(?:[0-7]),\d{1,20},\d{1,20},[^;\n]{0,200};"
)
_MORE = re.compile(r"\[ *\d+\.|\[[^\]]*:|<|\{|kernel:")
_USERS = re.compile(r"[\w./-]{1,64}\[\d{1,10}\]: ")


class Line(NamedTuple):
    """A line that was taken apart.

    prefix: all that stands before `text`. text: the kernel's words; None: another program has written the line. host:
    the machine; None: the prefix doesn't name it. lead: the text before the first known layer, without line numbers;
    all lines of a stream have the same lead. sure: whether the prefix has the kernel's own stamp or tag. dated: whether
    it has a date."""

    prefix: str
    text: str | None
    host: str | None = None
    lead: str = ""
    sure: bool = False
    dated: bool = False


def plain_prefix(line: str) -> int:
    """The length of the prefix, if it is only what the kernel itself writes, as for dmesg or /dev/kmsg; else 0."""
    match = _PLAIN.match(line)
    return 0 if match is None else match.end()


def goes_on(line: str, at: int) -> bool:
    """Whether the prefix may go on at `at`, so that a prefix that was known from another line isn't all of it."""
    return line[at : at + 1] in ("[", "<", "{", "k") and _MORE.match(line, at) is not None


def has_words_of_report(line: str) -> bool:
    """Whether words of an OOM report stand anywhere in `line`."""
    return _WORDS_OF_REPORT.search(line) is not None


def split(line: str) -> Line:
    """Take `line` apart. It has no line feed at its end."""
    if len(line) > _SHORT:
        return _Splitter(line[:LONGEST]).split()
    return _split_short(line)


@functools.lru_cache(maxsize=512)
def _split_short(line: str) -> Line:
    return _Splitter(line).split()


class _Splitter:
    """Takes the layers off one line. See Line for `host`, `lead`, `sure` and `dated`."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.at = 0
        """Where the next layer begins; -1: another program has written the line."""
        self.host: str | None = None
        self.lead = ""
        self.sure = False
        self.kernel_facility = True
        """Whether the facility, as far as the prefix tells it, is the kernel's."""
        self.dated = False

    def split(self) -> Line:
        for _ in range(_LAYERS_MAX):
            if self._layer():
                if self.at < 0:
                    return Line(self.line, None, self.host)
                continue
            if self.sure or not self._find_next():
                break
        at = self.at
        if self.dated and not self.sure and self._is_of_application():
            return Line(self.line[:at], None, self.host)
        if not self.kernel_facility or (self.sure and _USERS.match(self.line, at) is not None):
            return Line(self.line[:at], None, self.host)
        return Line(self.line[:at], self.line[at:], self.host, self.lead, self.sure, self.dated)

    def _is_of_application(self) -> bool:
        """Whether an application has written the line, and only quotes the kernel's words."""
        words = _WORDS_OF_REPORT.search(self.line)
        return words is not None and _LIBRARY.search(self.line, 0, words.start()) is not None

    def _layer(self) -> bool:
        """Take off the layer at `at`. Returns whether there is one."""
        match = _LAYER.match(self.line, self.at)
        if match is None:
            return not self.sure and self._bare_kernel()
        kind = match.lastgroup or ""
        if self.sure and kind not in ("stamp", "boxed"):
            return False
        # Blanks behind a layer may belong to the text.
        if kind == "blank" and self.at > 0 and not self._goes_on_at(match.end()):
            return False
        self.at = match.end()
        self._taken(kind, match)
        return True

    def _goes_on_at(self, at: int) -> bool:
        return _LAYER.match(self.line, at) is not None or _BARE_KERNEL.match(self.line, at) is not None

    def _taken(self, kind: str, match: re.Match[str]) -> None:
        if kind == "stamp":
            self.sure = True
            self.dated = self.dated or "+" in match[0]  # dmesg -H: below a line with the date
            self.host = match["stamp_host"] or self.host
        elif kind == "kmsg":
            self.sure = True
            self.kernel_facility = int(match["kmsg_priority"]) < 8
        elif kind == "priority":
            self.kernel_facility = int(match["priority"]) < 8
        elif kind == "decoded":
            self.kernel_facility = match["decoded_facility"] == "kern"
            self._host_of_lead()
        elif kind == "logcat":
            self.sure = match["pid"] == "0" or match["android"] == "kernel"
            self.at = self.at if self.sure else -1
        elif kind in ("klog", "logfmt"):
            self.at = -1
        elif kind == "date":
            self.dated = True
            self._tag(match[0])
        elif kind == "boxed":
            self.dated = True
            self._kernel_tag(needs_host=True)
        if kind in ("stamp", "boxed"):
            self._host_of_lead()

    def _host_of_lead(self) -> None:
        """Take the host from a lead such as "web1: ", which pdsh, pssh -P and talosctl write."""
        if self.host is None and self.lead and (match := _HOST_LEAD.fullmatch(self.lead)) is not None:
            self.host = match["host"]

    def _bare_kernel(self) -> bool:
        """Take off the kernel's tag where no date stands before it. Returns whether there is one."""
        match = _BARE_KERNEL.match(self.line, self.at)
        if match is None:
            return False
        self.at, self.sure = match.end(), True
        self.kernel_facility = match["facility"] in (None, "kern")
        return True

    def _kernel_tag(self, *, needs_host: bool = False) -> bool:
        match = _KERNEL_TAG.match(self.line, self.at)
        if match is None or (needs_host and match["host"] is None):
            return False
        self.at, self.sure = match.end(), True
        if match["host"] is not None and _SEVERITY.fullmatch(match["host"]) is None:
            self.host = match["host"]
        facility = match["facility"] or match["first_facility"]
        self.kernel_facility = self.kernel_facility and facility in (None, "kern")
        return True

    def _tag(self, date: str) -> None:
        """Take off what follows a date in syslog: the host, and the tag of the kernel or of another program."""
        line = self.line
        if _DMESG_ISO.match(date) is not None:
            self.sure = True
            self.at += line.startswith(" ", self.at)
            return
        self.at += line.startswith(": ", self.at)
        if line[self.at : self.at + 1] not in (" ", "\t"):
            return
        if self._kernel_tag():
            return
        text = line[self.at :].lstrip(" ")
        if lines.begins(text) or text.startswith('{"'):
            self.at += 1
            return
        if _APPLICATION.match(line, self.at) is not None:
            self.at = -1
            return
        match = _OTHER_TAG.match(line, self.at)
        if match is not None and _LAYER.match(text) is None:
            # A tag of Fluentd stands before a record in JSON that names its writer.
            self.at = match.end() if line.startswith('{"', match.end()) else -1
            self.host = match["host"]
            return
        self.at += 1

    def _find_next(self) -> bool:
        """Go to the next known layer, and add the text before it to the lead. Returns False if there is none, so that
        the kernel's words begin here."""
        line, at = self.line, self.at
        text = line[at : at + 300].lstrip()
        if (text.startswith('{"') and line.rstrip().endswith("}")) or lines.begins(text):
            return False
        words = _WORDS_OF_REPORT.search(line, at)
        # One character more, since the kernel's tag must be followed by one.
        limit = min(len(line), at + _LEAD_MAX, words.start() + 1 if words is not None else len(line))
        match = _NEXT.search(line, at, limit)
        if match is None or match.start() == at:
            return False
        self.lead += without_numbers(line[at : match.start()])
        self.at = match.start()
        return True


def without_numbers(lead: str) -> str:
    """The lead without the number of the line. `cat -n` writes it at the front, grep -n behind the file's name."""
    return re.sub(r"^\s*\d+(?=[\s:|)-]|\.\s)|(?<=[:-])\d+(?=[:-])", "", lead).replace("-", ":")[-120:]
