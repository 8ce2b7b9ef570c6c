"""What goes wrong with one process is told of, and keeps no other from its pin."""

from pathlib import Path

from oomwatchd import config
from oomwatchd.daemon import Daemon
from oomwatchd.decisions import SCAN
from oomwatchd.journal import ERR, Log, Record


class KeptLog(Log):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


def test_an_exception_in_dealing_with_one_process_is_told_of_and_the_next_is_dealt_with(tmp_path: Path) -> None:
    file = tmp_path / "oomwatchd.toml"
    file.write_text("")
    file.chmod(0o600)
    where = config.layout(str(file), str(tmp_path))
    log, asked = KeptLog(), list[int]()
    daemon = Daemon(where, config.load(where), log, root=str(tmp_path))

    def fails(pid: int, inode: int = 0) -> bool:
        assert inode > 0
        asked.append(pid)
        if pid == 1001:
            raise ValueError("\033[31m")
        return False

    daemon.pinner.may_fit = fails  # type: ignore[method-assign]

    for _ in daemon._looking({1000: 1, 1001: 2, 1002: 3}, SCAN):
        pass

    assert asked == [1000, 1001, 1002]
    (record,) = log.records
    assert (record.event, record.priority) == ("pin-failed", ERR)
    assert record.message.startswith("Internal error at test_daemon.py:")
    assert record.message.endswith(r", going on: ValueError: '\x1b[31m'")
