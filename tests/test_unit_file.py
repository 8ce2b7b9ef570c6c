"""systemd/oomwatchd.service and the drop-in, as systemd-analyze sees them without a PID 1."""

import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNIT = SYSTEMD / "oomwatchd.service"

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze isn't installed"
)


def _analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _installed(tmp_path: Path) -> Path:
    """The unit as `make install` writes it, with programs that exist: verify looks for them."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text()
    for program in ("/usr/sbin/oomwatchd", "/usr/bin/oomwatchctl"):
        assert program in text
        text = text.replace(program, "/bin/true")
    unit.write_text(text)
    return unit


@needs_systemd_analyze
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    assert _analyze("verify", "--man=no", str(_installed(tmp_path))) == ""


@needs_systemd_analyze
def test_exposure_is_at_most_2_1(tmp_path: Path) -> None:
    _analyze("security", "--offline=true", "--threshold=21", str(_installed(tmp_path)))


@needs_systemd_analyze
def test_without_ptrace_exposure_is_less(tmp_path: Path) -> None:
    unit = _installed(tmp_path)
    # --offline reads no drop-ins; at the end of [Service] the example's lines mean the same.
    example = (SYSTEMD / "no-ptrace.conf").read_text().partition("[Service]\n")[2]
    assert example
    unit.write_text(unit.read_text().replace("[Install]", f"{example}\n[Install]"))
    assert _analyze("verify", "--man=no", str(unit)) == ""
    _analyze("security", "--offline=true", "--threshold=20", str(unit))


@needs_systemd_analyze
def test_the_path_that_acts_upon_kills(tmp_path: Path) -> None:
    for name in ("oomwatchd-kill.service", "oomwatchd-kill.path"):
        (tmp_path / name).write_text((SYSTEMD / name).read_text())
    _installed(tmp_path)
    assert _analyze("verify", "--man=no", str(tmp_path / "oomwatchd-kill.path")) == ""


@needs_systemd_analyze
def test_the_metrics_timer(tmp_path: Path) -> None:
    for name in ("oomwatchd-metrics.service", "oomwatchd-metrics.timer"):
        (tmp_path / name).write_text((SYSTEMD / name).read_text().replace("/usr/bin/oomwatchctl", "/bin/true"))
    _installed(tmp_path)
    assert _analyze("verify", "--man=no", str(tmp_path / "oomwatchd-metrics.timer")) == ""
    _analyze("security", "--offline=true", "--threshold=20", str(tmp_path / "oomwatchd-metrics.service"))


def test_each_part_of_the_unit_has_a_reason() -> None:
    """A paragraph of settings begins with, or has, a comment; [Install] speaks for itself."""
    service = UNIT.read_text().partition("[Service]\n")[2].partition("[Install]")[0]
    for paragraph in service.strip().split("\n\n"):
        assert any(line.startswith("#") for line in paragraph.splitlines()), paragraph
