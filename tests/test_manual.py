"""man/*.scd: they build, the formatters have nothing to complain of, and they tell of all there is."""

import shutil
import subprocess
from pathlib import Path

import pytest

from oomwatchd.ctl import VERBS

MAN = Path(__file__).parent.parent / "man"
SOURCES = sorted(MAN.glob("*.scd"))

needs_scdoc = pytest.mark.skipif(shutil.which("scdoc") is None, reason="scdoc isn't installed (`make man` installs it)")


def _build(source: Path, directory: Path) -> Path:
    page = directory / source.stem
    with source.open("rb") as text, page.open("wb") as output:
        subprocess.run(["scdoc"], stdin=text, stdout=output, check=True, timeout=30)
    return page


def test_there_are_the_three_pages() -> None:
    assert [source.stem for source in SOURCES] == ["oomwatchctl.1", "oomwatchd.8", "oomwatchd.toml.5"]


@needs_scdoc
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_groff_has_no_warnings(source: Path, tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff isn't installed")
    page = _build(source, tmp_path)
    done = subprocess.run(
        ["groff", "-t", "-man", "-Tutf8", "-ww", str(page)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_scdoc
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_mandoc_has_no_warnings(source: Path, tmp_path: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc isn't installed")
    page = _build(source, tmp_path)
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", str(page)], capture_output=True, text=True, timeout=60)
    # scdoc separates generously.
    complaints = [line for line in done.stdout.splitlines() if "skipping paragraph macro" not in line]
    assert complaints == []


@pytest.mark.parametrize("verb", sorted(VERBS) or [pytest.param("", marks=pytest.mark.skip(reason="no verbs yet"))])
def test_each_verb_is_explained(verb: str) -> None:
    lines = (MAN / "oomwatchctl.1.scd").read_text().splitlines()
    assert any(line.startswith(f"*{verb}*") for line in lines)
