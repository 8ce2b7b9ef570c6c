"""debian/oomwatchd.prerm, in a mount namespace with a /run of its own. With systemd and dpkg: tests/vm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.running import rule

PRERM = Path(__file__).parent.parent.parent / "debian/oomwatchd.prerm"
BIN = Path(sys.executable).parent

# $1: the configuration, $2: the program, $3: "running" or "stopped", $4: what dpkg says. Prints the values of a
# process that a rule holds and of one that `oomwatchctl pin` holds, before and after.
SCRIPT = f"""
set -e
mount -t tmpfs none /run
PATH={BIN}:$PATH
mkdir /run/oomwatchd
"$2" 600 & target=$!
oomwatchd -c "$1" 2>/run/log & daemon=$!
for _ in $(seq 300); do [ "$(cat /proc/$target/oom_score_adj)" = 500 ] && break; sleep 0.1; done
"$2" 600 & other=$!
oomwatchctl pin $other 600
values() {{ cat /proc/$target/oom_score_adj /proc/$other/oom_score_adj; }}
[ "$3" = running ] || {{ kill $daemon; wait $daemon; }}
before=$(values)
sh {PRERM} "$4" >&2
echo $before $(values)
kill $target $other
[ "$3" = stopped ] || {{ kill $daemon; wait $daemon; }}
"""


@pytest.mark.parametrize("daemon_is", ["running", "stopped"])
@pytest.mark.parametrize(("reason", "after"), [("remove", ["0", "0"]), ("upgrade", ["500", "600"])])
def test_a_removal_gives_values_back_and_an_upgrade_does_not(
    daemon_is: str, reason: str, after: list[str], target: Path, tmp_path: Path
) -> None:
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/run"], check=False).returncode != 0:
        pytest.skip("mounts can't be made here, not even in a mount namespace of one's own")
    config = tmp_path / "a.toml"
    config.write_text(rule(target, 500))
    environment = {key: value for key, value in os.environ.items() if key != "RUNTIME_DIRECTORY"}
    command = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(config), str(target), daemon_is, reason]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stdout.split()) == (0, ["500", "600", *after]), done.stderr
    assert "not every process" not in done.stderr
