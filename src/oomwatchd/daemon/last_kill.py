"""Writes last-kill.json, which has the last kill. When the file is replaced, oomwatchd-kill.path starts a service. So
the daemon itself executes nothing."""

import contextlib
import json
import os
from collections.abc import Sequence

from oomwatchd.daemon.log_records import Record

NAME = "last-kill.json"


def write_last_kill(directory: str, records: Sequence[Record], now: float) -> None:
    """Replace the file in the runtime directory. `records`: those of one kill, the victim's first. `now`: seconds since
    the epoch. Raises OSError."""
    path = f"{directory}/{NAME}"
    fresh = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)  # it isn't opened, since it may be a FIFO
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # One write(2) may take a part only, where the file system has no more room.
    with open(os.open(fresh, flags, 0o600), "wb") as file:
        file.write(json.dumps(as_json(records, now)).encode() + b"\n")
    os.replace(fresh, path)


def as_json(records: Sequence[Record], now: float) -> dict[str, object]:
    """The JSON object in the file, which oomwatchd(8) describes."""
    first = records[0].fields
    return {
        "time": now,
        "killer": first.get("OOMWATCHD_KILLER"),
        "message": records[0].message,
        "count": first.get("OOMWATCHD_COUNT", len(_also(records)) + 1),
        "scope": first.get("OOMWATCHD_SCOPE"),
        "memcg": first.get("OOMWATCHD_MEMCG"),
        "victim": _process(records[0]) if "OBJECT_PID" in first else None,
        "also_killed": _also(records),
        "held": [_process(record) for record in records if "OOMWATCHD_RULE" in record.fields],
    }


def _also(records: Sequence[Record]) -> list[int]:
    """The PIDs of the processes that died with the victim."""
    listed = str(records[0].fields.get("OOMWATCHD_ALSO_KILLED", "")).split()
    told = [record.fields.get("OBJECT_PID") for record in records[1:]]
    return sorted({int(pid) for pid in listed} | {pid for pid in told if isinstance(pid, int)})


def _process(record: Record) -> dict[str, object]:
    fields = record.fields
    return {
        "pid": fields.get("OBJECT_PID"),
        "comm": fields.get("OOMWATCHD_COMM"),
        "uid": fields.get("OOMWATCHD_UID"),
        "unit": fields.get("OOMWATCHD_UNIT"),
        "exe": fields.get("OOMWATCHD_EXE"),
        "oom_score_adj": fields.get("OOMWATCHD_OLD"),
        "rule": fields.get("OOMWATCHD_RULE"),
    }
