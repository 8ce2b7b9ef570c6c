"""Log records in YAML: what `gcloud logging read` and `kubectl get events -o yaml` print. Pure.

Only what such programs write is read: keys with texts, on one line or on several, below each other. The records are
then read like those in JSON (see `json_lines`)."""

import json
import re
from collections.abc import Iterator, Sequence

from oomwatchd.oomlog import json_lines
from oomwatchd.oomlog.logline import LogLine

_KEY = re.compile(r"(?P<key>\"[^\"]{1,80}\"|'[^']{1,80}'|[\w@./-]{1,80}):(?:[ \t]+(?P<value>.*))?$")
_TEXT = re.compile(r"[ \t]*(?:- )?(?:MESSAGE|message|textPayload|msg|log):(?:[ \t]|$)")
_TIME = re.compile(
    r"[ \t]*(?:- )?(?:@?timestamp|time|(?:first|last|receive)?Timestamp|eventTime|__REALTIME_TIMESTAMP):[ \t]"
)
_BLOCK = re.compile(r"[|>][+-]?\d?$")
_LINES_MAX = 2000
"""The most lines of a record."""


def are_records(rows: Sequence[str]) -> bool:
    """Whether a text that begins with `rows` consists of log records in YAML."""
    first = next((row for row in rows if row.strip()), "")
    begins = first.rstrip() == "---" or _KEY.match(first.removeprefix("- ").rstrip()) is not None
    return (
        begins
        and any(_TEXT.match(row) is not None for row in rows)
        and any(_TIME.match(row) is not None for row in rows)
    )


class YamlRecords:
    """Reads log records in YAML. A record begins behind a line `---`, or with the dash of a list's member."""

    def __init__(self) -> None:
        self._rows: list[str] = []
        self._dash: int | None = None
        """How far the dashes of the list of records are set in; None: there was none yet."""

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line; return the record that it ends."""
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        begins = text.startswith("- ") and (self._dash is None or indent <= self._dash)
        if begins:
            self._dash = indent
        if not begins and line.rstrip() != "---":
            if len(self._rows) < _LINES_MAX:
                self._rows.append(line)
            return ()
        done = self.flush()
        self._rows = [f"{indent * ' '}  {text[2:]}"] if begins else []
        return done

    def flush(self) -> Sequence[LogLine]:
        """The text ends here."""
        rows, self._rows = self._rows, []
        return tuple(json_lines.log_lines(_mapping(rows))) if rows else ()


def _mapping(rows: Sequence[str]) -> dict[str, object]:
    """The keys and values of a record."""
    whole: dict[str, object] = {}
    open_at: list[tuple[int, dict[str, object]]] = [(-1, whole)]
    at = 0
    while at < len(rows):
        text = rows[at].lstrip(" ")
        indent = len(rows[at]) - len(text)
        if text.startswith("- "):
            text, indent = text[2:], indent + 2
        at += 1
        match = _KEY.match(text.rstrip())
        if match is None:
            continue
        while open_at[-1][0] >= indent:
            open_at.pop()
        key, value = match["key"].strip("\"'"), (match["value"] or "").strip()
        below = list(_below(rows, at, indent)) if value else []
        at += len(below)
        if value:
            open_at[-1][1][key] = _scalar(value, below)
        else:
            inner: dict[str, object] = {}
            open_at[-1][1][key] = inner
            open_at.append((indent, inner))
    return whole


def _below(rows: Sequence[str], at: int, indent: int) -> Iterator[str]:
    """The rows from `at` on that are further lines of a value whose key is set in by `indent`."""
    for row in rows[at:]:
        if row.strip() and len(row) - len(row.lstrip(" ")) <= indent:
            return
        yield row


def _scalar(value: str, below: Sequence[str]) -> object:
    if _BLOCK.match(value):
        width = min((len(row) - len(row.lstrip(" ")) for row in below if row.strip()), default=0)
        lines = [row[width:] for row in below]
        return "\n".join(lines).rstrip("\n") if value[0] == "|" else " ".join(lines).strip()
    parts = [value]
    for row in below:
        part = row.strip()
        if parts[-1].endswith("\\") and value.startswith('"'):
            parts[-1] = parts[-1][:-1]
            parts.append(part.removeprefix("\\"))
        else:
            parts.append((" " if part and not parts[-1].endswith("\n") else "") + (part or "\n"))
    joined = "".join(parts)
    if joined.startswith("'"):
        return joined[1:].removesuffix("'").replace("''", "'")
    if joined.startswith('"'):
        try:
            return json.loads(joined, strict=False)
        except ValueError:
            return joined.strip('"')
    return joined
