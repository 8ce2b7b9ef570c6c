"""-1000 and the hidden floor: what needs CAP_SYS_RESOURCE, and sshd with real logins."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.vm.machine import Machine
from tests.vm.steps import start, wait_for_value

IMAGE = "with_package"

CONFIG = """
[daemon]
scan_interval = "1s"

[[rule]]
name = "sshd"
exe = "/usr/sbin/sshd"
user = "root"
oom_score_adj = -1000
children = "reset"

[[rule]]
name = "parent"
exe = "/usr/local/bin/parent"
user = "root"
oom_score_adj = -1000
children = "reset"
"""

# What a user's process can do: come to 0 by itself, and try to get back, until it is refused.
GREEDY = """\
#!/bin/bash
mine=/proc/$$/oom_score_adj
[ "$1" = show ] || echo 0 > $mine
for ((i = 0; i < ${TRIES:-2000}; i++)); do
    [ "$(< $mine)" != 0 ] || echo -1000 2> /dev/null > $mine || { echo "refused at $(< $mine)"; exit; }
    sleep 0.02
    [ "$1" = show ] || echo 0 > $mine
done
echo "got it"
"""
AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups /usr/local/bin/greedy"
LOGIN = "ssh alice@localhost /usr/local/bin/greedy"
REFUSED = "refused at 0"


@pytest.fixture(scope="module", autouse=True)
def protected(machine: Machine) -> None:
    machine.write("/usr/local/bin/greedy", GREEDY, mode=0o755)
    machine.succeed("cp /bin/bash /usr/local/bin/parent")
    machine.write("/etc/oomwatchd.toml", CONFIG)
    machine.succeed("systemctl start oomwatchd && oomwatchctl reload")  # which may still be starting


def listener(machine: Machine) -> int:
    return machine.main_pid("ssh.service")


def test_a_process_without_a_rule_loses_the_protection(machine: Machine) -> None:
    """So that what follows proves something."""
    shown = machine.succeed(f"bash -c 'echo -1000 > /proc/$$/oom_score_adj; TRIES=50 {AS_NOBODY}; true'")

    assert shown == "got it"


def test_a_login_has_neither_value_nor_floor(machine: Machine) -> None:
    machine.succeed("systemctl restart ssh")
    machine.wait("the listener is pinned", lambda: machine.oom_score_adj(listener(machine)) == -1000 or None)

    assert machine.succeed("ssh alice@localhost cat /proc/self/oom_score_adj") == "0"
    assert machine.succeed(f"for _ in {{1..3}}; do {LOGIN}; done").splitlines() == [REFUSED] * 3
    assert machine.succeed(f"{LOGIN} show") == REFUSED


def test_children_lose_the_floor_whatever_they_show(machine: Machine) -> None:
    """A hundred of a hundred, of which half have come to 0 by themselves."""
    script = f"""
    one() {{ /usr/local/bin/parent -c "{AS_NOBODY} $1; true"; }}
    for _ in {{1..10}}; do
        for _ in {{1..5}}; do one & one show & done
        wait
    done
    """

    assert machine.succeed(script, 1200).splitlines() == [REFUSED] * 100


def test_grandchildren_and_orphans_lose_it_too(machine: Machine) -> None:
    script = f"""
    for _ in {{1..10}}; do /usr/local/bin/parent -c '(bash -c "{AS_NOBODY} &" &); sleep 0.1'; done > /tmp/refused
    for _ in {{1..2000}}; do [ $(wc -l < /tmp/refused) = 10 ] && break; sleep 0.1; done
    cat /tmp/refused
    """

    assert machine.succeed(script, 600).splitlines() == [REFUSED] * 10


def test_forked_while_the_daemon_was_down(machine: Machine) -> None:
    machine.succeed(
        "mkfifo /tmp/forks; systemd-run --unit=family /usr/local/bin/parent -c 'read < /tmp/forks; "
        f"{AS_NOBODY} show > /tmp/late & {AS_NOBODY} > /tmp/late-too & wait'"
    )
    family = machine.main_pid("family.service")
    machine.wait("the parent is pinned", lambda: machine.oom_score_adj(family) == -1000 or None)
    forked = "until [ -e /tmp/late ] && [ -e /tmp/late-too ]; do sleep 0.1; done"
    machine.succeed(f"systemctl stop oomwatchd; echo > /tmp/forks; {forked}; systemctl start oomwatchd")

    machine.wait("both are done", lambda: machine.run("systemctl is-active -q family").status != 0 or None)
    assert machine.succeed("cat /tmp/late /tmp/late-too").splitlines() == [REFUSED] * 2


def test_released_by_exec_it_has_no_floor_left(machine: Machine) -> None:
    shown = machine.succeed(f"/usr/local/bin/parent -c 'exec {AS_NOBODY}'")

    assert shown == REFUSED


def scans(machine: Machine) -> int:
    return int(machine.json("oomwatchctl status --json")["counters"]["scans"])


def test_own_code_in_a_protected_program(machine: Machine, tmp_path: Path) -> None:
    """By LD_PRELOAD: the executable is genuine in every respect, and only who started it tells the two apart."""
    library = tmp_path / "preload.so"
    source = Path(__file__).parents[1] / "kernel/preload.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-Wl,-z,now", "-s", "-o", library, source], check=True)
    machine.write("/usr/local/lib/preload.so", library.read_bytes())
    environment = "-E LD_PRELOAD=/usr/local/lib/preload.so"

    genuine = start(machine, "genuine", "/usr/local/bin/parent", environment)
    hog = start(machine, "impostor", "/usr/local/bin/parent", f"{environment} -p User=nobody")

    wait_for_value(machine, genuine, -1000)
    before = scans(machine)
    machine.wait("two more scans", lambda: scans(machine) >= before + 2)
    assert machine.read(f"/proc/{hog}/comm") == "parent"
    assert machine.oom_score_adj(hog) == 0
    machine.run("systemctl stop genuine impostor")


def test_executable_alone_is_refused(machine: Machine) -> None:
    machine.write("/root/alone.toml", '[[rule]]\nname = "r"\nexe = "/usr/sbin/sshd"\noom_score_adj = -1000\n')

    refused = machine.run("oomwatchctl check /root/alone.toml")

    assert refused.status == 1
    assert 'add user = "root"' in refused.stdout + refused.stderr


def test_a_login_does_not_make_sshd_flap(machine: Machine) -> None:
    """Its monitor takes the user's effective ID several times at each login, and is root's all the same. pam_keyinit(8)
    takes the real one for a moment, at the begin and at the end: on a slow machine that is seen."""
    machine.succeed("journalctl --rotate; journalctl --vacuum-time=1s")

    machine.succeed("for _ in 1 2 3; do ssh alice@localhost true; done")

    machine.succeed("oomwatchctl reload")
    records = [json.loads(line) for line in machine.succeed("journalctl -u oomwatchd -o json -b").splitlines()]
    told = Counter(
        (record["OBJECT_PID"], record["OOMWATCHD_EVENT"])
        for record in records
        if record.get("OOMWATCHD_EVENT") in ("pinned", "released") and record.get("OOMWATCHD_COMM") == "sshd"
    )
    assert max(told.values(), default=0) <= 2, told
    assert machine.oom_score_adj(listener(machine)) == -1000


SPAWN = """\
mkfifo /run/wait
until [ -e /run/go ]; do read -t 0.1 <> /run/wait; done
setpriv --reuid=65534 --regid=65534 --clear-groups /usr/local/bin/setself -500 &
/usr/local/bin/setself -400 &
wait
"""
SETSELF = """\
#!/bin/bash
echo $1 > /proc/$$/oom_score_adj
exec -a setself$1 sleep 1000
"""


def test_a_user_keeps_no_value_that_only_the_pin_allowed(machine: Machine) -> None:
    """What was faster than the daemon: -500 by a user's program, -400 by one of root's, which may."""
    machine.write("/root/spawn", SPAWN)
    machine.write("/usr/local/bin/setself", SETSELF, mode=0o755)
    wait_for_value(machine, start(machine, "spawning", "/usr/local/bin/parent /root/spawn"), -1000)
    daemon = machine.main_pid("oomwatchd")

    machine.succeed(f"kill -STOP {daemon}; touch /run/go")
    pids = machine.wait(
        "both have set themselves",
        lambda: p if len(p := machine.run("pgrep -f '^setself-'").stdout.split()) == 2 else None,
    )
    machine.succeed(f"kill -CONT {daemon}")

    by_owner = {machine.succeed(f"stat -c %U /proc/{pid}"): int(pid) for pid in pids}
    wait_for_value(machine, by_owner["nobody"], 0)
    before = scans(machine)
    machine.wait("two more scans", lambda: scans(machine) >= before + 2)
    assert machine.oom_score_adj(by_owner["root"]) == -400
    machine.run("systemctl stop spawning")
