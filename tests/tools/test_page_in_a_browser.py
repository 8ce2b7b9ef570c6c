"""The page of `oomwatchctl postmortem --html`, as a browser reads it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from oomwatchd import ctl
from tests.checkout import REPOSITORY

DATA = REPOSITORY / "tests/data/oomlog"


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    target = tmp_path / "page.html"
    logs = [str(DATA / name) for name in ("simple.kmsg", "nested.kmsg", "simple-5.10-german.log")]
    assert ctl.main(["postmortem", "--html", str(target), *logs]) == 0
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    command += [f"--user-data-dir={tmp_path}/profile", "--dump-dom", f"file://{target}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # What the browser made of it: nothing fell out of a table, every mark leads to a section.
    assert len(re.findall(r"<section id=\"k\d+\" class", done.stdout)) == 5
    assert sorted(re.findall(r"<a href=\"#(k\d)\" class=\"k-memcg\"><circle", done.stdout)) == [
        "k1",
        "k2",
        "k3",
        "k4",
        "k5",
    ]
    assert len(re.findall(r"<tr class=\"dead\">", done.stdout)) == 5
    assert "a,task=b,uid=0 (20970)" in done.stdout
