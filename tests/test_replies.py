"""What oomwatchctl makes of replies that aren't those of this daemon: one plain error, and never a traceback."""

import contextlib
import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oomwatchd.control.replies import MONITOR_LINE, REPLIES, Shape, flag, misfit, moment, number, path, text, whole
from oomwatchd.ctl import main

WRONG: list[object] = [None, True, 7, -1e300, float("nan"), 1 << 80, "\x1b[31m\n\0", [], [[[]]], {}, {"pid": []}]
SOUND = {whole: 1, number: 1.5, moment: 1.7e9, text: "x", path: "/nonexistent/x", flag: True}

ARGUMENTS = {
    "status": ["status"],
    "list": ["list"],
    "rules": ["rules"],
    "loaded": ["explain", str(os.getpid())],
    "lineage": ["explain", str(os.getpid())],
    "metrics": ["metrics"],
    "reload": ["reload"],
    "restore": ["restore"],
    "pin": ["pin", str(os.getpid()), "5"],
}
"""A command line that asks for the reply."""


def sample(shape: Shape) -> Any:
    """A reply that has the shape, with one member in each list."""
    if isinstance(shape, tuple):
        return sample(shape[0])
    if isinstance(shape, list):
        return [sample(shape[0])]
    if shape is None or callable(shape):
        return None if shape is None else SOUND[shape]  # type: ignore[index]
    return {key: sample(each) for key, each in shape.items()}


def changed(reply: Any, value: object) -> Iterator[Any]:
    """The reply with each of its parts in turn replaced by the value."""
    yield value
    members = reply.items() if isinstance(reply, dict) else enumerate(reply) if isinstance(reply, list) else ()
    for key, member in members:
        for other in changed(member, value):
            copy = reply.copy()
            copy[key] = other
            yield copy


def every_second(replies: Iterator[Any], turn: int) -> Iterator[Any]:
    """Each part of a reply gets half of the wrong values, its neighbours the others."""
    return itertools.islice(replies, turn % 2, None, 2)


class FakeDaemon:
    """Replies to each verb what a test says."""

    def __init__(self, directory: Path) -> None:
        self.replies = {verb: sample(shape) for verb, shape in REPLIES.items()}
        self.replies["metrics"]["latency"] = {"bounds_us": [100], "counts": [1, 2], "sum_us": 5}
        self.replies["lineage"]["processes"][0]["pid"] = os.getpid()
        self.replies["loaded"]["sources"] = []
        self.lines: list[object] = []
        """What follows the reply to `monitor`."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / "control"))
        self._listening.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            peer, _ = self._listening.accept()
            with peer, peer.makefile("rb") as requests, contextlib.suppress(OSError):
                for request in requests:
                    verb = json.loads(request)["verb"]
                    if verb == "end":
                        return
                    for reply in [self.replies.get(verb, {"ok": True}), *(self.lines if verb == "monitor" else [])]:
                        peer.sendall(json.dumps(reply).encode() + b"\n")
                    if verb == "monitor":
                        break

    def end(self, directory: Path) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(directory / "control"))
            last.sendall(b'{"verb": "end"}\n')
            self._thread.join()
        self._listening.close()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    fake = FakeDaemon(tmp_path)
    try:
        yield fake
    finally:
        fake.end(tmp_path)


def check_ending(status: int, shown: str, complaint: str) -> None:
    assert status in (0, 1, 3)
    assert "\x1b" not in shown + complaint
    if status != 0 and not shown:
        assert complaint.startswith(("oomwatchctl: ", "x:1:1: "))  # the latter is an error of the configuration


@pytest.mark.parametrize(
    ("verb", "more"), [(verb, more) for verb in ARGUMENTS for more in ([], ["--json"]) if not (verb == "pin" and more)]
)
def test_replies_of_wrong_types(
    verb: str, more: list[str], daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = daemon.replies[verb]
    for turn, value in enumerate(WRONG if not more else WRONG[:6]):  # JSON is passed on, so little depends on it
        for reply in every_second(changed(sound, value), turn):
            daemon.replies[verb] = reply
            status = main([*ARGUMENTS[verb], *more])
            shown = capsys.readouterr()
            check_ending(status, shown.out, shown.err)
            if more and status == 0:
                json.loads(shown.out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_monitor_lines_of_wrong_types(more: list[str], daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    sound = sample(MONITOR_LINE)
    del sound["message"]
    for event in ("pinned", "seen", "dropped"):
        for turn, value in enumerate(WRONG):
            for line in every_second(changed(sound | {"event": event}, value), turn):
                daemon.lines = [line]
                status = main(["monitor", *more])
                shown = capsys.readouterr()
                check_ending(status, shown.out, shown.err)


def test_a_sound_reply_passes(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the tests above would hold by themselves."""
    for verb, words in ARGUMENTS.items():
        daemon.replies[verb] = {**daemon.replies[verb], "new": [1]}
        assert main(words) in (0, 1), verb
        assert "answer" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["rank", "doctor", "check", "config"])
def test_verbs_that_can_do_without_a_daemon(
    verb: str, daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies["status"]["pid"] = "x"
    daemon.replies["list"]["pins"] = 5

    assert main([verb, "--root", str(tmp_path)] if verb in ("check", "config") else [verb]) in (0, 1)
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "line", [b"[" * 100000 + b"\n", b'{"version": 1e999, "pid": NaN}\n', b"\xff\xfe\n", b'"\\ud800"\n']
)
def test_lines_that_are_no_reply(
    line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()

        def answer() -> None:
            peer, _ = listening.accept()
            with peer, contextlib.suppress(OSError):
                peer.recv(4096)
                peer.sendall(line)

        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["status"]) in (1, 3)
        thread.join()
    assert capsys.readouterr().err.startswith("oomwatchctl: ")


def test_the_path_of_what_has_the_wrong_type() -> None:
    shape: Shape = {"a": [{"b": (whole, None)}], "c": text}

    assert misfit({"a": [{"b": 1}, {"b": None}], "d": 1}, shape) is None
    assert misfit({"a": [{"b": 1}, {"b": "x"}]}, shape) == "a.1.b"
    assert misfit({"c": 1}, shape) == "c"
    assert misfit({"a": 1}, shape) == "a"
