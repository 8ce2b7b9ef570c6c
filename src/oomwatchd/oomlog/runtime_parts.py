"""Joins the parts of lines that a container runtime has split, since they were longer than it writes at once. Pure.

CRI (kubelet's format): "TIME stdout P text", the last part with F instead of P. Docker's
json-file: the text of "log" has a line feed at its end only in the last part."""

import json
import re
from collections.abc import Sequence

from oomwatchd.oomlog import json_lines
from oomwatchd.oomlog.logline import LogLine

_CRI = re.compile(
    r"(?P<head>\d{4}-\d\d-\d\dT\S{8,40} (?P<stream>std(?:out|err)) )(?P<tag>[PF])(?::\S*)? (?P<text>.*)", re.DOTALL
)
_TEXT_MAX = 64 * 1024
_STREAMS = ("stdout", "stderr")


def has_parts(rows: Sequence[str]) -> bool:
    """Whether a runtime has split lines of this text."""
    for row in rows:
        found = _CRI.match(row)
        if found is not None and found["tag"] == "P":
            return True
        record = _record(row) if row.startswith('{"log":') else None
        if record is not None and not str(record["log"]).endswith("\n"):
            return True
    return False


def _record(row: str) -> dict[str, object] | None:
    """A record of Docker's json-file; None: it is none."""
    try:
        value = json.loads(row)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("stream") not in _STREAMS or not isinstance(value.get("log"), str):
        return None
    return value


class RuntimeParts:
    """Reads such a text. The parts of a line have the time of the first."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, str]] = {}
        """For each stream what stands before the text, and the text so far."""

    def feed(self, line: str) -> Sequence[LogLine]:
        """Take one line; return the line that it completes."""
        found = _CRI.match(line)
        if found is not None:
            whole = self._join(found["stream"], f"{found['head']}F ", found["text"], ended=found["tag"] == "F")
            return () if whole is None else (LogLine("".join(whole)),)
        record = _record(line) if line.startswith("{") else None
        if record is None:
            return json_lines.unwrap(line) or (LogLine(line),)
        text = str(record["log"])
        before = json.dumps({key: value for key, value in record.items() if key != "log"})
        whole = self._join(str(record["stream"]), before, text, ended=text.endswith("\n"))
        if whole is None:
            return ()
        return list(json_lines.log_lines({**json.loads(whole[0]), "log": whole[1]}))

    def flush(self) -> Sequence[LogLine]:
        """The text ends here: the parts of a line whose last part is missing."""
        rest, self._open = self._open, {}
        lines: list[LogLine] = []
        for before, text in rest.values():
            if before.startswith("{"):
                lines += json_lines.log_lines({**json.loads(before), "log": text})
            else:
                lines.append(LogLine(before + text))
        return lines

    def _join(self, stream: str, before: str, text: str, *, ended: bool) -> tuple[str, str] | None:
        """Join a part to those before it. Returns the line if it is complete."""
        first, start = self._open.pop(stream, (before, ""))
        whole = (first, (start + text)[:_TEXT_MAX])
        if ended:
            return whole
        self._open[stream] = whole
        return None
