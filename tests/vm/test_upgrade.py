"""The upgrade from 0.1.0, which is built from this repository's history, and what is left when dpkg fails halfway."""

import os
import subprocess

import pytest

from tests.vm.conftest import INSTALL_TIMEOUT_S, REPOSITORY, install
from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, provide, start, wait_for_value

IMAGE = "bookworm"
LAST_OF_0_1_0 = "da94f5682060de1e9dcf15ca8964b0f2ffb7a41a"
"""Before the version was raised. Its modules lie flat in one package, and no maintainer script gives values back."""
SHELL = "/usr/local/bin/guarded-shell"
RULES = f"""# edited by the administrator
{GUARD}
[[rule]]
name = "shell"
exe = "{SHELL}"
user = "root"
oom_score_adj = -800
children = 50
"""
# What a maintainer script calls that isn't dpkg's own.
BREAK = "mkdir -p /root/broken; printf '#!/bin/sh\\nexit 1\\n' > /root/broken/py3clean; chmod +x /root/broken/py3clean"
BROKEN = "PATH=/root/broken:$PATH dpkg --force-confold {}"
WITHOUT_SOURCE = """
find /usr/lib/oomwatchd -name '*.pyc' | while read -r file; do
    name=${file##*/}; test -e "${file%/*/*}/${name%%.*}.py" || echo "$file"
done
"""


@pytest.fixture(scope="module")
def first(deb: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The package of 0.1.0. To build today's first installs what both are built with."""
    work = tmp_path_factory.mktemp("first")
    source = work / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", LAST_OF_0_1_0], cwd=REPOSITORY, capture_output=True)
    if archive.returncode != 0:
        pytest.skip("this checkout has no history that goes back to 0.1.0, so its package can't be built")
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    build = ["dpkg-buildpackage", "--build=binary", "--no-sign"]
    environment = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck"}
    done = subprocess.run(build, cwd=source, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return (work / "oomwatchd_0.1.0_all.deb").read_bytes()


def _pins(machine: Machine) -> dict[int, dict[str, object]]:
    return {pin["pid"]: pin for pin in machine.json("oomwatchctl list --json")["pins"]}


def _version(machine: Machine) -> str:
    return machine.succeed("dpkg-query -W -f '${Version} ${db:Status-Status}' oomwatchd")


def test_0_1_0_is_there_and_holds_some(machine: Machine, first: bytes) -> None:
    install(machine, first)
    assert _version(machine) == "0.1.0 installed"
    provide(machine, GUARDED)
    provide(machine, SHELL, "/usr/bin/dash")
    machine.write("/etc/oomwatchd.toml", RULES)
    machine.succeed("systemctl enable --now oomwatchd; systemctl reload oomwatchd")
    wait_for_value(machine, start(machine, "held", f"{GUARDED} infinity"), -1000)
    shell = start(machine, "shell", f"{SHELL} -c 'sleep 1000 & wait'")
    wait_for_value(machine, shell, -800)
    child = machine.wait("the shell has its child", lambda: machine.run(f"pgrep -P {shell}").stdout.strip())
    wait_for_value(machine, int(child), 50)
    pinned = start(machine, "pinned", "/usr/bin/sleep 10000")
    machine.succeed(f"oomwatchctl pin {pinned} 300 --for 2h; dpkg -L oomwatchd > /root/first")


def test_an_upgrade_takes_everything_over(machine: Machine, first: bytes, deb: bytes) -> None:
    pids = {unit: machine.main_pid(unit) for unit in ("held", "shell", "pinned", "oomwatchd")}
    child = int(machine.succeed(f"pgrep -P {pids['shell']}"))
    machine.write("/root/oomwatchd.deb", deb)

    machine.succeed(
        "DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o Dpkg::Options::=--force-confold /root/oomwatchd.deb",
        2 * INSTALL_TIMEOUT_S,
    )

    new = machine.succeed("dpkg-deb -f /root/oomwatchd.deb Version")
    assert _version(machine) == f"{new} installed" != "0.1.0 installed"
    assert machine.json("oomwatchctl status --json")["version"] == new
    assert machine.main_pid("oomwatchd") != pids["oomwatchd"]
    assert machine.succeed("systemctl is-enabled oomwatchd") == "enabled"
    assert machine.read("/etc/oomwatchd.toml") == RULES.strip()
    for pid, value in ((pids["held"], -1000), (pids["shell"], -800), (child, 50), (pids["pinned"], 300)):
        assert machine.oom_score_adj(pid) == value
    pins = _pins(machine)
    assert {pid: (pins[pid]["rule"], pins[pid]["original"]) for pid in (pids["held"], pids["shell"])} == {
        pids["held"]: ("guarded", 0),
        pids["shell"]: ("shell", 0),
    }
    assert (pins[pids["pinned"]]["original"], pins[pids["pinned"]]["until"] is not None) == (0, True)
    failures = machine.journal("-b -u oomwatchd -p err")
    assert failures == []


def test_no_file_of_the_old_one_is_left(machine: Machine, first: bytes) -> None:
    gone = "dpkg -L oomwatchd | sort > /root/second; sort /root/first | comm -23 - /root/second"
    left = [path for path in machine.succeed(gone).splitlines() if machine.run(f"test -e {path}").status == 0]
    # Directories that others have, too.
    assert [path for path in left if "oomwatchd" in path] == []
    machine.succeed("find /usr/lib/oomwatchd ! -name '*.pyc' ! -name __pycache__ -exec dpkg -S {} +")
    assert machine.succeed(WITHOUT_SOURCE) == ""


def test_the_first_value_comes_back(machine: Machine, first: bytes) -> None:
    held = machine.main_pid("held")
    machine.write("/etc/oomwatchd.toml", RULES.replace(GUARDED + '"', GUARDED + '-not"'))
    machine.succeed("systemctl reload oomwatchd")
    wait_for_value(machine, held, 0)
    machine.write("/etc/oomwatchd.toml", RULES)
    wait_for_value(machine, held, -1000)


@pytest.mark.parametrize("action", ["--install /root/oomwatchd.deb", "--remove oomwatchd"], ids=["upgrade", "removal"])
def test_what_fails_halfway_is_undone(machine: Machine, first: bytes, action: str) -> None:
    """dpkg calls the postinst with abort-upgrade or abort-remove."""
    machine.succeed(BREAK)
    before = _version(machine)
    held, pinned = machine.main_pid("held"), machine.main_pid("pinned")

    done = machine.run(BROKEN.format(action), INSTALL_TIMEOUT_S)

    assert done.status != 0
    assert _version(machine) == before
    assert machine.is_active("oomwatchd")
    wait_for_value(machine, held, -1000)
    assert _pins(machine)[held]["original"] == 0
    if action.startswith("--install"):
        assert machine.oom_score_adj(pinned) == 300


def test_a_removal_then_leaves_nothing(machine: Machine, first: bytes) -> None:
    held, shell = machine.main_pid("held"), machine.main_pid("shell")

    machine.succeed("DEBIAN_FRONTEND=noninteractive apt-get purge -q -y oomwatchd")

    assert [machine.oom_score_adj(pid) for pid in (held, shell)] == [0, 0]
    left = machine.run("ls -d /run/oomwatchd /usr/lib/oomwatchd /etc/oomwatchd*")
    assert left.stdout == ""
