"""Encodes and decodes the lines of the ledger's file: a header, then one JSON object for each change. Pure.

The keys are the format of the file. They stay as they are, also where the code has other names:

- header: `oomwatchd_ledger` (the format's number), `boot_id`
- a process: `pid`, `starttime` (ticks since boot, proc_pid_stat(5)), and those of the following that it has: `parent`
  ([pid, starttime] of the nearest ancestor in the file), `left_to` (the rule that ignores it), `settled_ns`, `hold`
  {`rule`, `first`, `value`, `child_value`, `since`, `source`}, `former` (as `hold`: the pin before the last change, as
  long as descendants may have its values), `exe` ([path, device, inode] of the verified executable)
- an early pin, of a process whose start time isn't read yet: `pid`, `started_by` (ticks since boot at which it had
  started), `hold` (null: it isn't pinned after all). The next line of that process counts in its place
- a process that is gone, or isn't tracked any more: `pid`, `starttime`, `gone`
- a runtime pin: `pid`, `starttime`, `pin` (its value; null: it has ended), `ends` (CLOCK_BOOTTIME in seconds, or null)

Files of version 0.1.0, which have the same number, are read, too, so that an upgrade takes the pins over. In these,
`exe` was only the path, beside `comm`, `uid` and `unit`, and a runtime pin had `until` (seconds since the epoch)
instead of `ends`."""

import json
import math
from dataclasses import dataclass, replace
from json.encoder import encode_basestring_ascii as _quote

from oomwatchd.base.uapi import OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN
from oomwatchd.pinning.lineage import Node, Pin, VerifiedExe

FORMAT = 1
_LARGEST = (1 << 63) - 1


class DamagedLedger(Exception):
    """A line isn't as oomwatchd writes it. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RuntimePin:
    """A rule for one process, made by `oomwatchctl pin`."""

    pid: int
    starttime: int
    value: int
    ends: float | None = None
    """When the pin ends: CLOCK_BOOTTIME in seconds, which no one can set and which goes on in suspend. None: with the
    process. 0: it has ended."""

    @property
    def rule(self) -> str:
        """The name of the rule that the pin stands for."""
        return f"pin {self.pid}"


NodeLine = tuple[Node, tuple[int, int] | None]
"""The content of a line about a process: its node, which is dead if the process is gone; and PID and start time of the
nearest ancestor in the file. A node without a start time is that of an early pin: a process with its PID that started
after `started_by` is another process."""


def encode_header(boot_id: str) -> str:
    """The first line of a file about the boot `boot_id`."""
    return json.dumps({"oomwatchd_ledger": FORMAT, "boot_id": boot_id})


def encode_node(node: Node, above: Node | None) -> str:
    """The line of a process that descends from `above`. The JSON is put together by hand, because each pin waits for
    it, and the module json takes five times as long."""
    line = f'{{"pid":{node.pid},"starttime":{node.starttime}'
    if above is not None:
        line += f',"parent":[{above.pid},{above.starttime}]'
    if node.left_to:
        line += f',"left_to":{_quote(node.left_to)}'
    if node.settled_ns > 0:
        line += f',"settled_ns":{node.settled_ns}'
    if node.pin is not None:
        line += f',"hold":{_encode_pin(node.pin)}'
    if node.former is not None:
        line += f',"former":{_encode_pin(node.former)}'
    exe = node.verified_exe
    if exe is not None:
        line += f',"exe":[{_quote(exe.path)},{exe.file[0]},{exe.file[1]}]'
    return line + "}"


def encode_early_pin(node: Node) -> str:
    """The line of an early pin; of a process that isn't pinned after all, if the node has no pin."""
    pin = "null" if node.pin is None else _encode_pin(node.pin)
    return f'{{"pid":{node.pid},"started_by":{node.started_by or 0},"hold":{pin}}}'


def early_pin_template(pin: Pin) -> bytes:
    """The line of an early pin, as a template for the operator % with three numbers: the PID, the ticks since boot at
    which the process had started, and since when it is pinned, in seconds. The write waits for this line, and one
    operation makes it."""
    node = Node(0, None, None)
    node.pin = replace(pin, since=0)
    line = encode_early_pin(node).replace("%", "%%")
    for key in ("pid", "started_by", "since"):
        line = line.replace(f'"{key}":0', f'"{key}":%d', 1)
    return line.encode() + b"\n"


def _encode_pin(pin: Pin) -> str:
    return (
        f'{{"rule":{_quote(pin.rule)},"first":{pin.original},"value":{pin.target},'
        f'"child_value":{pin.child_value},"since":{pin.since!r},"source":{_quote(pin.source)}}}'
    )


def encode_gone(node: Node) -> str:
    """The line of a process that is gone, or isn't tracked any more."""
    return f'{{"pid":{node.pid},"starttime":{node.starttime},"gone":true}}'


def encode_pin(pin: RuntimePin, *, ended: bool = False) -> str:
    """The line of a runtime pin. `ended`: it has ended."""
    value = None if ended else pin.value
    return json.dumps({"pid": pin.pid, "starttime": pin.starttime, "pin": value, "ends": pin.ends})


def decode_header(line: bytes) -> str:
    """The ID of the boot whose processes are in the file, by its first line. Raises DamagedLedger."""
    entry = _object(line)
    if "oomwatchd_ledger" not in entry:
        raise DamagedLedger("its first line isn't that of a ledger")
    if entry["oomwatchd_ledger"] != FORMAT:
        raise DamagedLedger("it is of another version")
    return _text(entry, "boot_id")


def decode(line: bytes, boot_epoch: float = 0.0) -> NodeLine | RuntimePin:
    """The change that a line describes. `boot_epoch`: when CLOCK_BOOTTIME was 0, in seconds since the epoch. Raises
    DamagedLedger."""
    entry = _object(line)
    pid = _integer(entry, "pid", 1, (1 << 31) - 1)
    is_early = "started_by" in entry
    starttime = _integer(entry, "started_by" if is_early else "starttime", 0, _LARGEST)
    if "pin" in entry:
        return _runtime_pin(entry, pid, starttime, boot_epoch)
    node = Node(pid, None if is_early else starttime, None)
    node.started_by = starttime if is_early else None
    node.dead = entry.get("gone") is True
    node.pin, node.former = _pin(entry.get("hold")), _pin(entry.get("former"))
    if "left_to" in entry:
        node.left_to = _text(entry, "left_to")
    if "settled_ns" in entry:
        node.settled_ns = _integer(entry, "settled_ns", 0, _LARGEST)
    node.verified_exe = _verified_exe(entry.get("exe"))
    return node, _identity(entry.get("parent"))


def _runtime_pin(entry: dict[str, object], pid: int, starttime: int, boot_epoch: float) -> RuntimePin:
    if entry["pin"] is None:
        return RuntimePin(pid, starttime, 0, ends=0.0)
    ends = _seconds(entry, "ends") if entry.get("ends") is not None else None
    if entry.get("until") is not None:
        ends = max(_seconds(entry, "until") - boot_epoch, 0.0)
    return RuntimePin(pid, starttime, _score(entry, "pin"), ends)


def _pin(entry: object) -> Pin | None:
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise DamagedLedger("hold is no object")
    return Pin(
        _text(entry, "rule"),
        _score(entry, "first"),
        _score(entry, "value"),
        _score(entry, "child_value"),
        _seconds(entry, "since"),
        _text(entry, "source"),
    )


def _object(line: bytes) -> dict[str, object]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise DamagedLedger("no JSON") from None
    if not isinstance(entry, dict):
        raise DamagedLedger("no object")
    return entry


def _identity(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise DamagedLedger("parent is no pair")
    entry: dict[str, object] = {"pid": value[0], "starttime": value[1]}
    return _integer(entry, "pid", 1, (1 << 31) - 1), _integer(entry, "starttime", 0, _LARGEST)


def _verified_exe(value: object) -> VerifiedExe | None:
    if value is None or isinstance(value, str):
        return None
    if not isinstance(value, list) or len(value) != 3:
        raise DamagedLedger("exe has not three members")
    entry: dict[str, object] = {"path": value[0], "device": value[1], "inode": value[2]}
    file = _integer(entry, "device", 0, (1 << 64) - 1), _integer(entry, "inode", 0, (1 << 64) - 1)
    return VerifiedExe(_text(entry, "path"), file)


def _integer(entry: dict[str, object], key: str, least: int, most: int) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DamagedLedger(f"{key} is no number from {least} to {most}")
    return value


def _score(entry: dict[str, object], key: str) -> int:
    return _integer(entry, key, OOM_SCORE_ADJ_MIN, OOM_SCORE_ADJ_MAX)


def _seconds(entry: dict[str, object], key: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise DamagedLedger(f"{key} is no time")
    return float(value)


def _text(entry: dict[str, object], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise DamagedLedger(f"{key} is no text")
    return value
