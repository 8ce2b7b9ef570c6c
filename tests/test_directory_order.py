"""What is said doesn't depend on the order in which a file system lists a directory: ext4 goes by a hash of the names,
tmpfs begins with the newest."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomwatchd.ctl import main
from oomwatchd.oom.memcgs import MemcgHierarchy, walk
from oomwatchd.oomlog.source import kills
from tests.faketree import Tree

LOG = (Path(__file__).parent / "data/oomlog/simple.kmsg").read_bytes()
NAMES = ["a", "b", "c", "d"]


class Entries(list[os.DirEntry[str]]):
    """What os.scandir returns."""

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self)

    def __exit__(self, *_: object) -> None:
        pass

    def __next__(self) -> os.DirEntry[str]:
        if not self:
            raise StopIteration
        return self.pop(0)


@pytest.fixture(params=[False, True], ids=["by name", "backwards"], autouse=True)
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory is listed by name, or backwards."""
    listed, scanned = os.listdir, os.scandir

    def scandir(path: str) -> Entries:
        with scanned(path) as entries:
            return Entries(sorted(entries, key=lambda entry: entry.name, reverse=request.param))

    monkeypatch.setattr(os, "listdir", lambda path: sorted(listed(path), reverse=request.param))
    monkeypatch.setattr(os, "scandir", scandir)


def test_drop_ins_that_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop_ins = tmp_path / "etc/oomwatchd.d"
    drop_ins.mkdir(parents=True)
    for name in NAMES:
        (drop_ins / name).write_text("nonsense")
    main(["check", "--root", str(tmp_path)])
    found = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if "Not read" in line]
    assert found == [f"{drop_ins}/{name}" for name in NAMES]


def test_an_event_is_of_the_first_log_of_a_folder_that_has_it(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "kern.log").write_bytes(LOG)
    found = list(kills([str(tmp_path)], lambda error: pytest.fail(str(error))))
    assert {kill.file for kill in found} == {str(tmp_path / "a/kern.log")}


def test_memory_cgroups(tree: Tree) -> None:
    for name in NAMES:
        tree.write(f"sys/fs/cgroup/{name}/memory.current", 0)
    assert list(walk(MemcgHierarchy(2, os.fsencode(tree.cgroup)))) == [f"/{name}".encode() for name in NAMES]
