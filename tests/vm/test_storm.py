"""The daemon is killed, stopped and restarted while programs start by the hundred: none that fits is left unpinned."""

import pytest

from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide

IMAGE = "with_package"
# More than a thousand processes at once.
MEMORY_MIB = 2048

STARTS = 400
DISTURBED_AFTER = STARTS // 4
# The herd itself disturbs the daemon, so that it can't be faster. Its arguments are those of systemctl(1).
HERD = f"""
for i in $(seq {STARTS}); do
    {GUARDED} infinity &
    [ $i -ne {DISTURBED_AFTER} ] || systemctl "$@" oomwatchd
done
wait
"""
WATCHDOG_S = 6
# The unit as it is, only less patient.
DROP_IN = f"[Service]\nWatchdogSec={WATCHDOG_S}s\nTimeoutAbortSec=2s\n"


@pytest.fixture(scope="module", autouse=True)
def prepared(machine: Machine) -> None:
    provide(machine, GUARDED)
    machine.write("/root/herd.sh", HERD)
    machine.succeed("mkdir -p /etc/systemd/system/oomwatchd.service.d")
    machine.write("/etc/systemd/system/oomwatchd.service.d/watchdog.conf", DROP_IN)
    machine.succeed("systemctl daemon-reload; systemctl restart oomwatchd")
    configure(machine, GUARD)


def _count(machine: Machine, condition: str) -> int:
    """How many of the herd there are whose oom_score_adj is, or isn't, a value: `grep` with options."""
    pids = "cat /sys/fs/cgroup/system.slice/herd-*.service/cgroup.procs"
    return int(machine.run(f"{pids} | sed 's|.*|/proc/&/oom_score_adj|' | xargs -r grep {condition} | wc -l").stdout)


def _started(machine: Machine, unit: str) -> int:
    return int(machine.succeed(f"cat /sys/fs/cgroup/system.slice/{unit}/pids.current 2>/dev/null || echo 1")) - 1


# Without waiting for the new daemon: the herd may be done by then.
@pytest.mark.parametrize(
    ("name", "disturbance"),
    [("kill", "kill --signal=KILL"), ("stop", "kill --signal=STOP"), ("restart", "restart --no-block")],
)
def test_no_process_is_missed(machine: Machine, name: str, disturbance: str) -> None:
    unit = f"herd-{name}.service"
    pid = machine.main_pid("oomwatchd")
    machine.succeed(f"systemd-run -q --unit={unit} -p TasksMax=infinity /bin/bash /root/herd.sh {disturbance}")
    machine.wait("all have started", lambda: _started(machine, unit) == STARTS, 1200)
    machine.wait("another daemon runs", lambda: machine.main_pid("oomwatchd") not in (0, pid), 600)
    # bash, of which there is one a herd, is the only one that no rule fits.
    herds = int(machine.succeed("ls -d /sys/fs/cgroup/system.slice/herd-*.service | wc -l"))
    machine.wait("all are pinned", lambda: _count(machine, "-Lx -e -1000") == herds, 900)
    machine.wait("it is active", lambda: machine.is_active("oomwatchd"), 600)


def test_what_was_pinned_by_the_first_daemon_is_released_by_the_last(machine: Machine) -> None:
    # Of as many herds as were started: it holds for a test run by itself, too.
    assert machine.json("oomwatchctl status --json")["pinned"] == _count(machine, "-x -e -1000")
    configure(machine, "")
    machine.wait("all are released", lambda: _count(machine, "-Lx 0") == 0, 900)
