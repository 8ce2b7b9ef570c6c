"""Learns prefixes of unknown kinds from the log itself. Pure.

Some lines of a report begin with words that only the kernel writes. What stands before these words stands, but for its
numbers, before each line of that log."""

import re

from oomwatchd.oomlog.prefix import Line, without_numbers

# Lines that a name doesn't begin, and that a report has.
_SURE_WORDS = re.compile(
    r"CPU: \d+ (?:UID: \d+ )?PID: \d+ Comm: |Pid: \d+, comm: |Mem-[Ii]nfo:(?=\W{0,9}$)|Tasks state \(memory values"
    r"|Call [Tt]race:(?=\W{0,9}$)|\[ *pid *\] +uid +tgid|oom-kill:constraint=CONSTRAINT|memory: usage \d+kB"
    r"|Memory cgroup stats for /|Task in /\S* ki|(?:Memory cgroup o|O)ut of memory: Kill"
    r"|(?:Kill|Killed) process \d+,? (?:UID \d+, )?\("
)
_PREFIX_MAX = 300
_PATTERNS_MAX = 4
# A number, seconds with a fraction, a time of day; no part of a name or an address.
_NUMBER = re.compile(r"(?<![\w.-])(?:\d{1,2}:\d\d:\d\d(?:[.,]\d+)?|\d+(?:\.\d{5,})?)(?![\w.-])")
_NUMBER_OR_BLANK = re.compile(r"(\d+|\s+)")


class Learned:
    """The shapes of the prefixes that were found in a log."""

    def __init__(self) -> None:
        self._patterns: list[re.Pattern[str]] = []

    def learn(self, text: str) -> bool:
        """Learn the prefix of `text`, if words of the kernel show where it ends. Returns whether `text` begins with
        these words."""
        words = _SURE_WORDS.search(text)
        if words is None or words.start() > _PREFIX_MAX:
            return False
        if words.start() == 0:
            return True
        pattern = _shape(text[: words.start()])
        if all(pattern.pattern != known.pattern for known in self._patterns):
            self._patterns = [pattern, *self._patterns][:_PATTERNS_MAX]
        return False

    def split(self, line: Line) -> Line | None:
        """The line without its learned prefix; None: it has none."""
        assert line.text is not None
        for pattern in self._patterns:
            match = pattern.match(line.text)
            if match is not None:
                prefix = line.prefix + match[0]
                lead = line.lead + _NUMBER.sub("", without_numbers(match[0]))
                return Line(prefix, line.text[match.end() :], line.host, lead, False, line.dated)
        return None


def _shape(prefix: str) -> re.Pattern[str]:
    """An expression that matches prefixes which differ from this one only in numbers, and in the padding before them.
    Blanks at the end must be the same, since the text may begin with blanks."""
    body = prefix.rstrip()
    # Possessive, so that no text makes the search long.
    parts = [
        r"\d++" if part.isdecimal() else r"\s++" if part.isspace() else re.escape(part)
        for part in _NUMBER_OR_BLANK.split(body)
        if part
    ]
    # grep -n with context writes ":" in a line that fits, "-" in one around it.
    pattern = re.sub(r"(?::|\\-)(?=\\d\+)|(?<=\\d\+\+)(?::|\\-)", "[:-]", "".join(parts))
    return re.compile((r"\s*" if prefix[:1].isspace() else "") + pattern.removeprefix(r"\s++") + prefix[len(body) :])
