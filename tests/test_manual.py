"""man/*.scd: they build, the formatters have nothing to complain of, and they tell of all there is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from oomwatchd.config import lint
from oomwatchd.config import load as config
from oomwatchd.config.document import ConfigFile
from oomwatchd.config.keys import ACTIONS, DAEMON_KEYS, RULE_KEYS
from oomwatchd.config.load import parse
from oomwatchd.ctl import VERBS
from oomwatchd.rules.criteria import CRITERIA

MAN = Path(__file__).parent.parent / "man"
SOURCES = sorted(MAN.glob("*.scd"))

needs_scdoc = pytest.mark.skipif(shutil.which("scdoc") is None, reason="scdoc isn't installed (`make man` installs it)")

needs_groff = pytest.mark.skipif(shutil.which("groff") is None, reason="groff isn't installed")


def _build(source: Path, directory: Path) -> Path:
    page = directory / source.stem
    with source.open("rb") as text:
        made = subprocess.run(["scdoc"], stdin=text, capture_output=True, check=True, timeout=30).stdout
    mended = subprocess.run(["sed", "-f", MAN / "roff.sed"], input=made, capture_output=True, check=True, timeout=30)
    page.write_bytes(mended.stdout)
    return page


def _rendered(source: Path, directory: Path) -> str:
    """The page as a terminal of 80 columns shows it, without bold and underline."""
    command = ["groff", "-t", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-rLL=80n", str(_build(source, directory))]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def _examples() -> list[str]:
    root = MAN.parent
    pages = [(MAN / "oomwatchd.toml.5.scd").read_text(), (MAN / "oomwatchd.8.scd").read_text()]
    pages.append((root / "README.md").read_text())
    found = [block for page in pages for block in re.findall(r"```(?:toml)?\n(.*?)```", page, re.DOTALL)]
    shipped = (root / "config/oomwatchd.toml").read_text()
    enabled = "\n".join(re.sub(r"^#(?=[a-z\[])", "", line) for line in shipped.split("\n"))
    return [*(block for block in found if "[[rule]]" in block), enabled]


@pytest.mark.parametrize("example", _examples())
def test_examples_are_accepted(example: str) -> None:
    loaded = config.parse([ConfigFile("example", example)])

    assert loaded.rules
    assert not [problem for problem in lint.warnings(loaded) if "never lowers" in problem.message]


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


@needs_scdoc
@needs_groff
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_word_is_broken_over_lines(source: Path, tmp_path: Path) -> None:
    """Else nobody can search for an identifier, or copy it."""
    page = _rendered(source, tmp_path)
    assert [line for line in page.splitlines() if line.endswith(("-", "\u2010"))] == []
    assert "\u2010" not in page


def _rules_in(text: str) -> list[str]:
    """Each example of a configuration: the indented lines from a header up to a line that is indented less."""
    examples: list[str] = []
    indent = None
    for line in text.splitlines():
        content = line.lstrip()
        depth = len(line) - len(content)
        if indent is None and content in ("[[rule]]", "[daemon]"):
            indent = depth
            examples.append("")
        elif indent is not None and content and depth < indent:
            indent = None
        if indent is not None:
            examples[-1] += line[indent:] + "\n"
    return examples


CONFIGURATION = (MAN / "oomwatchd.toml.5.scd").read_text()


def _paragraph(key: str) -> str:
    """What oomwatchd.toml(5) says of a key of the configuration, up to the next key."""
    found = re.search(rf"^\*{key}\*\n(.*?)(?=^\S+\n\t|^#)", CONFIGURATION, re.DOTALL | re.MULTILINE)
    assert found is not None, key
    return found[1]


def _example_lines(paragraph: str) -> list[str]:
    _, _, examples = paragraph.partition("\tExample")
    lines = re.findall(r"\*(.*)\*$", examples, re.MULTILINE)
    return [re.sub(r"\\(.)", r"\1", line) for line in lines]


def _with_the_rest(key: str, line: str) -> str:
    """A configuration with this line, which sets `key`."""
    if key in DAEMON_KEYS:
        return f"[daemon]\n{line}\n"
    others = {"name": 'name = "r"', "user": 'user = "root"', "oom_score_adj": "oom_score_adj = 5"}
    if key in ACTIONS:
        del others["oom_score_adj"]
    others.pop(key, None)
    other_rule = "" if key == "name" else '[[rule]]\nname = "sshd"\nuser = 0\nignore = true\n'
    return other_rule + "\n".join(["[[rule]]", *others.values(), line, ""])


@pytest.mark.parametrize("key", [*DAEMON_KEYS, *RULE_KEYS])
def test_each_key_has_its_type_and_examples_that_hold(key: str) -> None:
    paragraph = _paragraph(key)
    lines = _example_lines(paragraph)

    assert "\n\tType: " in paragraph
    assert lines
    assert key in CRITERIA or key in ACTIONS or "Default: " in paragraph or "Required." in paragraph
    for line in lines:
        parse([ConfigFile(line, _with_the_rest(key, line))])


@needs_scdoc
@needs_groff
def test_each_example_of_the_manual_holds(tmp_path: Path) -> None:
    """As it is shown, since it is copied from there."""
    examples = [example for source in SOURCES for example in _rules_in(_rendered(source, tmp_path))]

    assert len(examples) >= 4
    for number, example in enumerate(examples):
        parse([ConfigFile(f"example {number}:\n{example}", example)])


def test_each_example_of_the_readme_holds() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (MAN.parent / "README.md").read_text(), re.DOTALL)

    assert blocks
    for block in blocks:
        parse([ConfigFile("README.md", block)])


def test_the_shipped_configuration_holds_with_all_that_is_commented_out(tmp_path: Path) -> None:
    text = (MAN.parent / "config/oomwatchd.toml").read_text()
    rules = re.sub(r"^#(?=\[\[|\w+ *= )", "", text, flags=re.MULTILINE)

    assert len(parse([ConfigFile("shipped", text)]).rules) == 1
    assert len(parse([ConfigFile("all of it", rules)]).rules) >= 5


@pytest.mark.parametrize("verb", sorted(VERBS) or [pytest.param("", marks=pytest.mark.skip(reason="no verbs yet"))])
def test_each_verb_is_explained(verb: str) -> None:
    lines = (MAN / "oomwatchctl.1.scd").read_text().splitlines()
    assert any(line.startswith(f"*{verb}*") for line in lines)
