"""The ledger's file: what it says is checked before it is believed, it stays small, and a full disk is a state."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oomwatchd.base.clock import boottime
from oomwatchd.pinning import ledger_codec
from oomwatchd.pinning.ledger import Ledger
from oomwatchd.pinning.ledger_codec import DamagedLedger, RuntimePin, early_pin_template
from oomwatchd.pinning.lineage import Node, Pin, VerifiedExe
from tests.full_disk import full_disk

HEADER = '{"oomwatchd_ledger":1,"boot_id":"boot"}\n'
GOOD = '{"pid":5,"starttime":7,"hold":{"rule":"r","first":3,"value":500,"child_value":0,"since":1.5,"source":"exec"}}'


def pinned(pid: int, rule: str = "r") -> Node:
    node = Node(pid, pid, None)
    node.pin = Pin(rule, 0, 500, 500, 1.5, "exec")
    return node


def alive(_pid: int, _starttime: int) -> bool:
    return True


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(str(tmp_path / "run" / "ledger.json"), "boot")
    assert made.load(alive) is None
    yield made
    made.close()


def loaded(path: Path, content: str | bytes) -> tuple[Ledger, str | None]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ledger = Ledger(str(path), "boot")
    damage = ledger.load(alive)
    ledger.close()
    return ledger, damage


def reread(ledger: Ledger) -> Ledger:
    """The ledger as the next start reads it."""
    assert ledger.path is not None
    again = Ledger(ledger.path, "boot")
    assert again.load(alive, lambda _pid: 7) is None
    again.close()
    return again


DEEP = "[" * 11_000 + "]" * 11_000


@pytest.mark.parametrize(
    "line",
    [
        DEEP,
        '{"pid":' * 11_000,
        f'{{"pid":6,"starttime":7,"parent":{DEEP}}}',
        f'{{"pid":6,"starttime":7,"hold":{DEEP}}}',
        '{"pid":NaN,"starttime":7}',
        '{"pid":6,"starttime":NaN}',
        '{"pid":6,"starttime":7.5}',
        '{"pid":true,"starttime":7}',
        '{"pid":0,"starttime":7}',
        '{"pid":-6,"starttime":7}',
        '{"pid":2147483648,"starttime":7}',
        '{"pid":6,"starttime":' + "9" * 5000 + "}",
        '{"pid":6,"starttime":' + "9" * 400 + "}",
        '{"pid":"6","starttime":7}',
        '{"pid":6}',
        "null",
        "6",
        '"x"',
        "{",
        '{"pid":6,"starttime":7,"left_to":5}',
        '{"pid":6,"starttime":7,"settled_ns":1e9}',
        '{"pid":6,"starttime":7,"parent":[1]}',
        '{"pid":6,"starttime":7,"parent":[1,2,3]}',
        '{"pid":6,"starttime":7,"parent":{"pid":1}}',
        '{"pid":6,"starttime":7,"hold":5}',
        '{"pid":6,"starttime":7,"hold":{}}',
        GOOD.replace('"pid":5', '"pid":6').replace('"first":3', '"first":1001'),
        GOOD.replace('"pid":5', '"pid":6').replace('"value":500', '"value":"500"'),
        GOOD.replace('"pid":5', '"pid":6').replace("1.5", "NaN"),
        GOOD.replace('"pid":5', '"pid":6').replace("1.5", "1e999"),
        GOOD.replace('"pid":5', '"pid":6').replace('"r"', "7"),
        '{"pid":6,"starttime":7,"pin":5000,"ends":null}',
        '{"pid":6,"starttime":7,"pin":5,"ends":NaN}',
        '{"pid":6,"starttime":7,"pin":5,"ends":"never"}',
        '{"pid":6,"starttime":7,"pin":true}',
        "x" * (3 << 20),
        "\0" * 100,
    ],
    ids=lambda line: line[:40],
)
def test_a_damaged_line_is_refused_and_the_others_count(tmp_path: Path, line: str) -> None:
    ledger, damage = loaded(tmp_path / "ledger.json", f"{HEADER}{line}\n{GOOD}\n")

    assert damage is not None
    assert "can't be read" in damage
    assert list(ledger.nodes) == [5]
    assert ledger.nodes[5].pin == Pin("r", 3, 500, 0, 1.5, "exec")
    assert ledger.runtime_pins == {}


@pytest.mark.parametrize(
    "head",
    [DEEP, "", "[]", "5", '{"oomwatchd_ledger":NaN}', '{"oomwatchd_ledger":1,"boot_id":[]}', '{"oomwatchd_ledger":9}'],
    ids=lambda head: head[:30],
)
def test_a_damaged_head_is_refused(tmp_path: Path, head: str) -> None:
    ledger, damage = loaded(tmp_path / "ledger.json", f"{head}\n{GOOD}\n")

    assert damage
    assert ledger.nodes == {}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "no JSON"),
        ("{}\n", "its first line isn't that of a ledger"),
        (HEADER.replace("1", "2", 1), "another version"),
    ],
)
def test_what_is_damaged_is_said(tmp_path: Path, content: str, what: str) -> None:
    """An empty file is what a full disk may leave."""
    ledger, damage = loaded(tmp_path / "ledger.json", content)

    assert damage is not None
    assert what in damage
    assert ledger.nodes == {}


def test_a_ledger_of_another_boot_is_no_damage(tmp_path: Path) -> None:
    ledger, damage = loaded(tmp_path / "ledger.json", f"{HEADER.replace('boot', 'other', 1)}\n{GOOD}\n".encode())
    assert damage
    ledger, damage = loaded(tmp_path / "ledger.json", HEADER.replace('"boot"', '"other"') + GOOD)
    assert (damage, ledger.nodes) == (None, {})


def test_a_ledger_of_too_many_processes_is_not_believed_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oomwatchd.pinning.ledger_reader._MOST_NODES", 100)
    lines = "".join(f'{{"pid":{pid},"starttime":7}}\n' for pid in range(1, 1000))

    ledger, damage = loaded(tmp_path / "ledger.json", HEADER + lines)

    assert damage == "899 of its lines can't be read"
    assert len(ledger.nodes) == 100


def test_a_long_chain_with_a_circle_at_its_end(tmp_path: Path) -> None:
    lines = "".join(f'{{"pid":{pid},"starttime":7,"parent":[{pid + 1},7]}}\n' for pid in range(1, 5_000))

    ledger, damage = loaded(
        tmp_path / "ledger.json", f'{HEADER}{lines}{{"pid":5000,"starttime":7,"parent":[2000,7]}}\n'
    )

    assert damage == "1 of its lines can't be read"
    assert len(ledger.nodes) == 5_000


def test_a_line_comes_back_as_it_was() -> None:
    pin = RuntimePin(5, 7, -900, 12.5)
    entry = ledger_codec.decode(ledger_codec.encode_pin(pin).encode())
    assert entry == pin
    ended = ledger_codec.decode(ledger_codec.encode_pin(pin, ended=True).encode())
    assert ended == RuntimePin(5, 7, 0, ends=0.0)
    with pytest.raises(DamagedLedger):
        ledger_codec.decode(b"\xff")


def test_a_process_comes_back_as_it_was() -> None:
    node = pinned(5)
    node.left_to, node.settled_ns, node.verified_exe = 'a "rule"', 17, VerifiedExe("/usr/bin/x", (1, 2))
    found = ledger_codec.decode(ledger_codec.encode_node(node, Node(3, 4, None)).encode())
    assert isinstance(found, tuple)
    again, above = found
    assert above == (3, 4)
    for name in ("pid", "starttime", "pin", "left_to", "settled_ns", "verified_exe", "dead"):
        assert getattr(again, name) == getattr(node, name), name
    gone = ledger_codec.decode(ledger_codec.encode_gone(node).encode())
    assert isinstance(gone, tuple) and gone[0].dead


BOUNDS = {
    ("pid",): (1, (1 << 31) - 1),
    ("starttime",): (0, (1 << 63) - 1),
    ("settled_ns",): (0, (1 << 63) - 1),
    ("parent", 0): (1, (1 << 31) - 1),
    ("parent", 1): (0, (1 << 63) - 1),
    ("hold", "first"): (-1000, 1000),
    ("hold", "value"): (-1000, 1000),
    ("hold", "child_value"): (-1000, 1000),
    ("exe", 1): (0, (1 << 64) - 1),
    ("exe", 2): (0, (1 << 64) - 1),
}


@pytest.mark.parametrize("at", BOUNDS, ids=str)
def test_each_number_has_bounds(at: tuple[Any, ...]) -> None:
    def decode(value: object) -> object:
        line = {**json.loads(GOOD), "settled_ns": 1, "parent": [3, 4], "exe": ["/usr/bin/x", 1, 2]}
        if len(at) == 1:
            line[at[0]] = value
        else:
            line[at[0]][at[1]] = value
        return ledger_codec.decode(json.dumps(line).encode())

    least, most = BOUNDS[at]
    assert decode(least) and decode(most)
    for value in (least - 1, most + 1, str(most), True, None):
        with pytest.raises(DamagedLedger):
            decode(value)


@pytest.mark.parametrize(
    "line",
    [
        {"hold": {"rule": None}},
        {"hold": {"source": 5}},
        {"hold": {"since": -1}},
        {"hold": {"since": True}},
        {"left_to": None},
        {"parent": [1, 2, 3]},
        {"exe": 5},
        {"exe": ["/usr/bin/x", 1]},
        {"exe": [5, 1, 2]},
    ],
    ids=str,
)
def test_a_value_of_a_wrong_type_is_damage(line: dict[str, Any]) -> None:
    whole = json.loads(GOOD)
    hold = {**whole["hold"], **line["hold"]} if "hold" in line else whole["hold"]
    with pytest.raises(DamagedLedger):
        ledger_codec.decode(json.dumps({**whole, **line, "hold": hold}).encode())


def test_a_dead_process_takes_its_runtime_pin_along(ledger: Ledger) -> None:
    ledger.add_pin(RuntimePin(5, 5, 100))
    assert ledger.runtime_pins == {5: RuntimePin(5, 5, 100)}
    ledger.enter(pinned(5))
    ledger.enter(Node(6, 6, None))
    ledger.died(5)
    ledger.died(6)
    assert ledger.runtime_pins == {}
    # Only the pinned ones are reported, once.
    assert ([node.pid for node in ledger.take_departed()], ledger.take_departed()) == ([5], [])


def test_a_dead_pinned_process_is_found_for_ten_seconds(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken or not. Of two with the same PID, the last one is found, and a living one before all."""
    now = 100.0
    monkeypatch.setattr("oomwatchd.pinning.ledger.time.monotonic", lambda: now)
    first, second, living = pinned(5), pinned(5), Node(5, 7, None)
    ledger.add(first)
    ledger.died(5)
    assert (ledger.lately(5), ledger.lately(6)) == (first, None)
    assert ledger.take_departed() == [first]
    ledger.add(second)
    ledger.died(5)
    now = 109.9
    assert ledger.lately(5) is second
    assert ledger.take_departed() == [second]
    assert ledger.lately(5) is second
    ledger.add(living)
    assert ledger.lately(5) is living
    ledger.died(5)
    assert ledger.lately(5) is second
    now = 110.0
    assert ledger.lately(5) is None


def test_a_cancelled_early_pin_is_none_after_a_restart(ledger: Ledger) -> None:
    ledger.enter_early_pin(5, early_pin_template(Pin("r", 0, 500, 500, 1.5, "exec")))
    ledger.cancel_early_pin(5)
    ledger.flush()
    assert reread(ledger).pinned() == []


@pytest.mark.parametrize("anew", [False, True])
def test_a_descendant_keeps_its_pinned_ancestors_over_a_restart(ledger: Ledger, anew: bool) -> None:
    """Above it: one that no rule fits, one that isn't saved, and two pinned ones, of which the upper lives."""
    upper, lower, plain = pinned(2, "upper"), pinned(3, "lower"), Node(5, 5, None)
    unsaved, descendant, sibling = Node(4, None, None), Node(6, 6, None), Node(7, 7, None)
    lower.parent, unsaved.parent, plain.parent = upper, lower, unsaved
    descendant.parent = sibling.parent = plain
    ledger.add(unsaved)
    for node in (upper, lower, plain, descendant, sibling):
        ledger.enter(node)
    ledger.died(lower.pid)
    ledger.died(plain.pid)
    for node in (descendant, sibling):
        ledger.record(node)
    assert ledger.dead_origins() == [lower]
    if anew:
        ledger.rewrite()
        lines = [json.loads(line) for line in Path(ledger.path or "").read_text().splitlines()[1:]]
        assert sorted(line["pid"] for line in lines) == [2, 3, 6, 7]
    else:
        ledger.flush()
    again = reread(ledger)
    for pid in (6, 7):
        assert [above.rule for above in again.nodes[pid].ancestors() if above.rule] == ["lower", "upper"]


def test_a_runtime_pin_that_is_removed_is_none_after_a_restart(ledger: Ledger) -> None:
    for pid in (5, 6):
        ledger.add_pin(RuntimePin(pid, pid, 100))
    ledger.remove_pin(RuntimePin(5, 5, 100))
    ledger.flush()
    assert list(ledger.runtime_pins) == list(reread(ledger).runtime_pins) == [6]


def test_what_has_ended_meanwhile_is_parted_from_what_lives(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    lines = [json.dumps({**json.loads(GOOD), "pid": pid, "parent": [5, 7]}) for pid in (6, 8)]
    pins = [
        json.dumps({"pid": pid, "starttime": start, "pin": 5, "ends": None}) for pid, start in ((5, 7), (6, 7), (9, 8))
    ]
    path.write_text("\n".join([HEADER.strip(), GOOD, *lines, '{"pid":8,"starttime":7,"gone":true}', *pins, ""]))
    ledger = Ledger(str(path), "boot")

    assert ledger.load(lambda pid, start: (pid, start) in ((5, 7), (9, 7))) is None

    # 6 has died unseen, the end of 8 is in the file, and 9 is another process by now.
    assert (list(ledger.nodes), list(ledger.runtime_pins)) == ([5], [5])
    assert (ledger.nodes[5].recorded, ledger.nodes[5].has_children) == (True, True)
    assert (list(ledger.take_died_unseen()), ledger.take_died_unseen()) == ([6], {})
    ledger.close()


def test_each_circle_is_cut_and_counted(tmp_path: Path) -> None:
    parents = {1: 2, 2: 1, 3: 3, 4: 5, 5: 6, 6: 4, 7: 4, 8: 9, 9: 10, 10: 99}
    lines = [json.dumps({**json.loads(GOOD), "pid": pid, "parent": [above, 7]}) for pid, above in parents.items()]

    ledger, damage = loaded(tmp_path / "ledger.json", HEADER + "\n".join(lines))

    assert damage == "3 of its lines can't be read"
    assert [len(list(ledger.nodes[pid].ancestors())) for pid in (7, 8, 9, 10)] == [3, 2, 1, 0]


def test_no_more_of_a_file_is_read_than_a_ledger_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oomwatchd.pinning.ledger_file._LARGEST_FILE", 1000)
    monkeypatch.setattr("oomwatchd.pinning.ledger_file._LONGEST_LINE", 400)
    lines = "".join(f'{{"pid":{pid},"starttime":7}}\n' for pid in range(10, 99))

    ledger, damage = loaded(tmp_path / "ledger.json", f"{HEADER}{'x' * 410}\n{lines}")

    assert damage == "2 of its lines can't be read"  # the long one, in two pieces
    assert 15 < len(ledger.nodes) < 25


def test_only_root_can_read_the_file(ledger: Ledger) -> None:
    assert ledger.path is not None
    ledger.rewrite()
    assert os.stat(ledger.path).st_mode & 0o777 == 0o600


def test_without_a_path_nothing_is_saved() -> None:
    ledger = Ledger(None, "boot")
    assert ledger.load(alive) is None
    ledger.enter(pinned(5))
    ledger.rewrite()
    ledger.close()
    assert (ledger.path, ledger.trouble, list(ledger.nodes)) == (None, "", [5])


@pytest.mark.parametrize(
    ("make", "damage"), [(os.mkdir, "Is a directory"), (os.mkfifo, "no JSON")], ids=["directory", "FIFO"]
)
def test_something_else_in_the_place_of_the_file_is_damage(
    tmp_path: Path, make: Callable[[Path], None], damage: str
) -> None:
    make(tmp_path / "ledger.json")
    ledger = Ledger(str(tmp_path / "ledger.json"), "boot")
    before = os.listdir("/proc/self/fd")
    assert ledger.load(alive) == damage
    ledger.close()
    assert os.listdir("/proc/self/fd") == before


def test_no_descriptor_is_left(ledger: Ledger) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        ledger.rewrite()
    assert len(os.listdir("/proc/self/fd")) == before
    ledger.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_what_0_1_0_wrote_is_taken_over(tmp_path: Path) -> None:
    """An upgrade that lost it would leave every process with its pin for good."""
    pin = '"hold":{"rule":"r","first":3,"value":500,"child_value":0,"since":1.5,"source":"exec"}'
    pinned_line = f'{{"pid":5,"starttime":7,{pin},"comm":"x","exe":"/usr/bin/x","uid":0,"unit":"x.service"}}'
    pins = '{"pid": 6, "starttime": 7, "pin": 5, "until": null}\n{"pid": 8, "starttime": 7, "pin": 5, "until": %f}'
    before, until = boottime(), time.time() + 3600

    ledger, damage = loaded(tmp_path / "ledger.json", f"{HEADER}{pinned_line}\n{pins % until}\n")

    assert damage is None
    assert (ledger.nodes[5].pin, ledger.nodes[5].verified_exe) == (Pin("r", 3, 500, 0, 1.5, "exec"), None)
    assert ledger.runtime_pins[6].ends is None
    ends = ledger.runtime_pins[8].ends
    assert ends is not None and 3500 < ends - before < 3700


def test_it_is_written_anew_when_most_of_it_is_superseded(ledger: Ledger) -> None:
    assert ledger.path is not None
    for _ in range(50):
        for pid in range(100, 200):
            node = pinned(pid, "r" * 200)
            ledger.add(node)
            ledger.record(node)
        ledger.flush()
        for _ in ledger.tidying(0.0):
            pass
        assert os.stat(ledger.path).st_size < 2 * 100 * 400 + (100 << 10)
    assert len(Path(ledger.path).read_text().splitlines()) > 100


def test_what_changes_while_it_is_written_anew_is_in_it(ledger: Ledger) -> None:
    for pid in range(2, 5000):
        node = pinned(pid)
        ledger.add(node)
        ledger.record(node)
        ledger.flush()
        ledger.record(node)
        ledger.flush()

    tidying = ledger.tidying(0.0)
    for pauses, _ in enumerate(tidying):
        ledger.died(2 + pauses)
        late = pinned(10_000 + pauses, "late")
        ledger.add(late)
        ledger.record(late)
        ledger.flush()

    assert pauses > 3
    again = Ledger(ledger.path, "boot")
    assert again.load(alive) is None
    assert set(again.nodes) == {*range(3 + pauses, 5000), *range(10_000, 10_001 + pauses)}
    again.close()


def test_texts_are_shared(ledger: Ledger) -> None:
    one, other = b"/usr/bin/x".decode(), b"/usr/bin/x".decode()
    assert one is not other
    assert ledger.share(one) is ledger.share(other)
    for number in range(5000):
        ledger.share(str(number))
    assert len(ledger._texts) <= 1024


def test_a_full_disk_is_logged_and_the_write_tried_again(ledger: Ledger) -> None:
    assert ledger.path is not None
    with full_disk():
        for pid in range(2, 102):
            node = pinned(pid)
            ledger.add(node)
            ledger.record(node)
            ledger.flush()
        assert ledger.trouble == "File too large"
        assert len(ledger.pinned()) == 100
        for _ in ledger.tidying(100.0):
            pass
        assert ledger.trouble
        assert not Path(f"{ledger.path}.new").exists()

        for pid in range(12, 102):
            ledger.died(pid)
            ledger.flush()
        for _ in ledger.tidying(105.0):
            pass
        assert ledger.trouble  # not yet tried again
        for _ in ledger.tidying(110.0):
            pass

    assert ledger.trouble == ""
    lines = [json.loads(line) for line in Path(ledger.path).read_text().splitlines()]
    assert {line["pid"] for line in lines[1:]} == set(range(2, 12))


EARLY_PIN = (
    '{"pid":5,"started_by":9,"hold":{"rule":"r","first":3,"value":500,"child_value":0,"since":1.5,"source":"exec"}}'
)


@pytest.mark.parametrize(
    ("lines", "starttime", "first"),
    [
        ([EARLY_PIN], 9, 3),
        ([EARLY_PIN], 10, None),  # another process has its PID
        ([EARLY_PIN], None, None),
        ([EARLY_PIN, '{"pid":5,"started_by":9,"hold":null}'], 9, None),
        ([EARLY_PIN, GOOD.replace('"first":3', '"first":4')], 7, 4),
        ([EARLY_PIN, '{"pid":5,"starttime":7,"gone":true}'], 7, None),
    ],
)
def test_an_early_pin_is_of_whom_had_started_by_then(
    tmp_path: Path, lines: list[str], starttime: int | None, first: int | None
) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(HEADER + "\n".join(lines) + "\n")
    ledger = Ledger(str(path), "boot")

    assert ledger.load(lambda _pid, started: started == starttime, lambda _pid: starttime) is None

    pins = [node.pin for node in ledger.nodes.values() if node.pin is not None]
    assert [pin.original for pin in pins] == ([] if first is None else [first])
    assert first is None or ledger.nodes[5].starttime == starttime
    ledger.close()


def test_what_is_written_of_an_early_pin_can_be_read(ledger: Ledger) -> None:
    node = pinned(5)
    node.starttime, node.started_by = None, 8
    ledger.enter(node)

    again = Ledger(ledger.path, "boot")
    assert again.load(alive, lambda _pid: 7) is None
    assert {pid: (found.starttime, found.pin) for pid, found in again.nodes.items()} == {5: (7, node.pin)}
    again.close()


@pytest.mark.parametrize("rule", ["target", '100 % "pid":0 \\ "since":0', "%d"])
def test_the_ready_made_line_of_an_early_pin_can_be_read(ledger: Ledger, rule: str) -> None:
    pin = Pin(rule, 1, 500, 2, 17.5, "exec")
    ledger.add_pin(RuntimePin(6, 7, 10))  # what is still to be saved comes before
    ledger.enter_early_pin(5, early_pin_template(pin))

    again = Ledger(ledger.path, "boot")
    assert again.load(alive, lambda _pid: 7) is None
    found = again.nodes[5].pin
    assert found is not None
    assert replace(found, since=17.5) == pin
    assert abs(found.since - time.time()) < 3600
    assert list(again.runtime_pins) == [6]
    again.close()


@pytest.mark.parametrize("how", ["file", "directory", "replaced", "emptied"])
def test_one_that_someone_removes_is_written_anew(ledger: Ledger, tmp_path: Path, how: str) -> None:
    ledger.add(pinned(5))
    ledger.record(ledger.nodes[5])
    ledger.flush()
    path = tmp_path / "run" / "ledger.json"
    if how == "directory":
        path.parent.rename(tmp_path / "elsewhere")
    elif how == "emptied":
        path.write_text("")
    else:
        path.unlink()
    if how == "replaced":
        path.write_text(HEADER)

    for _ in ledger.tidying(1.0):
        pass

    again = Ledger(str(path), "boot")
    assert again.load(alive) is None
    assert list(again.nodes) == [5]
    again.close()


def test_the_dead_of_whom_one_was_not_told_yet(ledger: Ledger) -> None:
    nodes = [pinned(5), pinned(6)]
    for node in nodes:
        ledger.add(node)
        ledger.died(node.pid)
    assert (ledger.take_departed(), ledger.take_departed()) == (nodes, [])


def test_a_process_that_only_a_runtime_pin_has_shown_dies(ledger: Ledger) -> None:
    pin = RuntimePin(5, 5, 100)
    ledger.add_pin(pin)
    ledger.died(5)
    assert ledger.runtime_pins == {}
    ledger.remove_pin(pin)  # its removal comes after its death
    assert ledger.runtime_pins == {}


def test_a_dead_ancestor_of_many_is_written_anew_once(ledger: Ledger) -> None:
    above = pinned(5)
    ledger.enter(above)
    ledger.died(5)
    for pid in (6, 7, 8):
        ledger.enter(Node(pid, pid, above))

    ledger.rewrite()

    assert ledger.path is not None
    assert len(Path(ledger.path).read_text().splitlines()) == 5


def test_early_pins_whose_start_time_no_line_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that has the PID now is the pinned one, unless it has started later."""
    monkeypatch.setattr("oomwatchd.pinning.ledger_reader._MOST_NODES", 2)
    pin = json.loads(GOOD)["hold"]
    lines = [json.dumps({"pid": pid, "started_by": 100, "hold": pin}) for pid in (1, 2, 3, 4, 5, 6)]
    path = tmp_path / "ledger.json"
    path.write_text(HEADER + "\n".join(lines))
    ledger = Ledger(str(path), "boot")

    # 1 has started later, 2 is gone, and there is no room for 5 and 6.
    damage = ledger.load(alive, {1: 101, 3: 100, 4: 50, 5: 60, 6: 70}.get)
    ledger.close()

    assert {pid: node.starttime for pid, node in ledger.nodes.items()} == {3: 100, 4: 50}
    assert damage == "2 of its lines can't be read"


def test_who_died_unseen_and_leaves_something(tmp_path: Path) -> None:
    """One that is pinned, or was a moment ago."""
    pin = json.loads(GOOD)["hold"]
    facts: list[dict[str, object]] = [{"hold": pin}, {"former": pin}, {}]
    lines = [json.dumps({"pid": pid, "starttime": 7, **fact}) for pid, fact in enumerate(facts, 1)]
    path = tmp_path / "ledger.json"
    path.write_text(HEADER + "\n".join(lines))
    ledger = Ledger(str(path), "boot")
    assert ledger.load(lambda _pid, _starttime: False) is None
    ledger.close()

    assert sorted(ledger.take_died_unseen()) == [1, 2]
