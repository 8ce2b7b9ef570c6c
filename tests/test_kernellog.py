"""What the kernel counts."""

from pathlib import Path

import pytest

from oomwatchd.oomlog.kmsg import Counters, read_counters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nr_free_pages 1\nallocstall_dma 1\nallocstall_normal 2\noom_kill 3\nnuma_hit 4\n", Counters(3, 3)),
        ("nr_free_pages 1\nallocstall 5\n", Counters(None, 5)),
        (f"nr_free_pages 1\n{'x' * (1 << 17)} 1\noom_kill 3\nlast 1\n", Counters(3, 0)),
        ("", Counters(None, 0)),
    ],
)
def test_counters(tmp_path: Path, text: str, expected: Counters) -> None:
    (tmp_path / "vmstat").write_text(text)

    assert read_counters(str(tmp_path)) == expected


def test_no_counters(tmp_path: Path) -> None:
    assert read_counters(str(tmp_path)) == Counters(None, 0)


def test_counters_of_this_kernel() -> None:
    names = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())

    assert (read_counters().kills or 0) >= int(names["oom_kill"])
