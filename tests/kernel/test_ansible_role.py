"""The Ansible role, run by ansible-playbook on this machine over a private /etc: nothing of the machine changes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROLES = Path(__file__).parents[2] / "config/ansible/roles"
CTL = Path(sys.executable).with_name("oomwatchctl")
GOOD = '[[rule]]\nname = "batch"\ncomm = "no-such-program"\noom_score_adj = 500\n'
PRIVATE_ETC = """
set -e
mount -t tmpfs none "$1/layers"
mkdir "$1/layers/upper" "$1/layers/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/layers/upper,workdir=$1/layers/work" /etc
shift
for playbook; do
    code=0; ansible-playbook --inventory localhost, --connection local "$playbook" || code=$?
    echo "ENDED $code"
    cat /etc/oomwatchd.d/batch.toml 2>/dev/null || echo "no drop-in"
done
"""


def _overlay_works() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs n /mnt && mkdir /mnt/u /mnt/w && "]
    command[-1] += "mount -t overlay o -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc"
    return subprocess.run(command, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.skipif(shutil.which("ansible-playbook") is None, reason="ansible-playbook isn't installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a private /etc wants root"),
]


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  roles:
    - role: {role}
      oomwatchd_package: ""
      oomwatchd_service: false
      oomwatchd_ctl: {ctl}
      oomwatchd_config: |
        [daemon]
        scan_interval = "7s"
      oomwatchd_dropins:
        batch: |
{text}
"""


def _playbook(path: Path, text: str) -> Path:
    indented = "".join(f"          {line}\n" for line in text.splitlines())
    path.write_text(PLAYBOOK.format(role=ROLES / "oomwatchd", ctl=CTL, text=indented))
    return path


def test_two_runs_change_once_and_a_mistake_changes_nothing(tmp_path: Path) -> None:
    if not _overlay_works():
        pytest.skip("an overlay over /etc can't be mounted here")
    (tmp_path / "layers").mkdir()
    good = _playbook(tmp_path / "good.yml", GOOD)
    bad = _playbook(tmp_path / "bad.yml", GOOD.replace("500", "5000"))
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", PRIVATE_ETC, "sh", str(tmp_path), str(good), str(good), str(bad)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    changed = [int(number) for number in re.findall(r"changed=(\d+)", done.stdout)]
    assert re.findall(r"ENDED (\d+)", done.stdout) == ["0", "0", "2"], done.stdout
    assert changed[0] > 0
    assert changed[1] == 0, done.stdout
    assert "5000" in done.stdout
    assert done.stdout.count(GOOD) == 3, "the drop-in stays as it was"
    assert not Path("/etc/oomwatchd.d/batch.toml").exists()
