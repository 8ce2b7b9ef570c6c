"""A real container, made by crun in a scope of systemd's on Debian 12's kernel, is left to its manager, unless a rule
says otherwise."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vm import packages
from tests.vm.machine import Machine
from tests.vm.steps import configure, provide, start, wait_for_value

IMAGE = "with_package"
TARGET = "/opt/contained"
BUNDLE = "/root/bundle"
MAKE_BUNDLE = f"mkdir -p {BUNDLE}/root/dev && cd {BUNDLE} && crun spec && ln -s usr/bin usr/lib usr/lib64 root"
RULE = f"""
[daemon]
scan_interval = "{{scan}}"
[[rule]]
name = "contained"
exe = "{TARGET}"
user = 0
oom_score_adj = {{value}}
"""


@pytest.fixture(scope="module")
def spec(machine: Machine) -> dict[str, Any]:
    """What `crun spec` writes, with the machine's own programs in the container."""
    packages.unpack(machine, "bookworm", ("crun", "libyajl2"))
    provide(machine, TARGET)
    machine.succeed(MAKE_BUNDLE)
    made: dict[str, Any] = json.loads(machine.read(f"{BUNDLE}/config.json"))
    made["root"] = {"path": "root"}
    made["process"].update(terminal=False, args=[TARGET, "1000"], cwd="/")
    made["mounts"] = [mount for mount in made["mounts"] if mount["destination"] == "/proc"]
    for path in ("/usr", "/opt"):
        made["mounts"].append({"destination": path, "type": "bind", "source": path, "options": ["rbind"]})
    made["linux"]["cgroupsPath"] = "system.slice:crun:contained"
    for key in ("seccomp", "resources", "maskedPaths", "readonlyPaths"):
        made["linux"].pop(key, None)
    return made


@pytest.fixture(autouse=True)
def ended(machine: Machine) -> Iterator[None]:
    machine.succeed("systemctl start oomwatchd")
    yield
    machine.run("crun kill contained KILL; crun delete -f contained; systemctl stop runtime outside")


def contained(machine: Machine, spec: dict[str, Any], own: int | None) -> int:
    """Start the container, with a value that its manager gives it. Returns the PID of its process as PID 1 sees it."""
    spec["process"].pop("oomScoreAdj", None)
    if own is not None:
        spec["process"]["oomScoreAdj"] = own
    machine.write(f"{BUNDLE}/config.json", json.dumps(spec))
    start(machine, "runtime", f"/usr/bin/crun --systemd-cgroup run -b {BUNDLE} contained")

    def pid() -> int | None:
        state = machine.run("crun state contained")
        found = json.loads(state.stdout) if state.status == 0 else {}
        executed = machine.run(f"readlink /proc/{found.get('pid', 0)}/exe").stdout.strip() == TARGET
        return int(found["pid"]) if found.get("status") == "running" and executed else None

    return machine.wait("the container runs", pid)


@pytest.mark.parametrize("own", [None, 200])
@pytest.mark.parametrize("value", [-500, 500])
def test_is_left_to_its_manager(machine: Machine, spec: dict[str, Any], value: int, own: int | None) -> None:
    configure(machine, RULE.format(scan="1s", value=value))
    pid = contained(machine, spec, own)
    scans = machine.json("oomwatchctl status --json")["counters"]["scans"]
    outside = start(machine, "outside", f"{TARGET} 1000")
    wait_for_value(machine, outside, value)
    machine.wait("two scans", lambda: machine.json("oomwatchctl status --json")["counters"]["scans"] >= scans + 2)
    assert machine.oom_score_adj(pid) == (own or 0)


def test_is_pinned_where_a_rule_says_so(machine: Machine, spec: dict[str, Any]) -> None:
    """By the event of its start: the next scan is an hour away."""
    configure(machine, RULE.format(scan="1h", value=500) + "containers = true\n")
    assert machine.json("oomwatchctl status --json")["filter"] == "names"
    wait_for_value(machine, contained(machine, spec, None), 500)
