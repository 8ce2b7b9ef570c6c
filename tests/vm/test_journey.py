"""The journey of a user on Debian 12: install, enable, reboot, edit, ask the journal, remove. In order."""

import re
from typing import Any

from tests.vm.conftest import install
from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide, start, wait_for_value

IMAGE = "bookworm"

# Up before the daemon at every boot, and executed: so a scan finds it.
EARLY_UNIT = f"""
[Unit]
Before=oomwatchd.service
[Service]
Type=exec
ExecStart={GUARDED} infinity
[Install]
WantedBy=multi-user.target
"""
# A moment after its start, a process can't lower its value any more.
UNTIL_REFUSED = """
mine=/proc/self/oom_score_adj
while echo -1000 > $mine; do echo 0 > $mine; sleep 0.1; done
"""
# All that a package could leave behind, but for logs and caches.
PRUNED = ("/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/root", "/home", "/tmp", "/var/tmp")
FOOTPRINT = (
    "find / -xdev " + " ".join(f"-path {path} -prune -o" for path in PRUNED) + " -print | sort; ls -d /run/oomwatchd"
)


def test_the_package_installs_and_runs(machine: Machine, deb: bytes) -> None:
    machine.succeed("systemctl is-system-running --wait")
    machine.run(f"{{ {FOOTPRINT}; }} > /root/footprint 2>/dev/null")
    install(machine, deb)
    assert machine.succeed("systemctl is-enabled oomwatchd; systemctl is-active oomwatchd").split() == [
        "enabled",
        "active",
    ]
    assert machine.succeed("dpkg --verify oomwatchd") == ""
    machine.succeed("oomwatchctl status")
    assert machine.succeed("systemctl is-system-running") == "running"
    assert machine.run("systemd-analyze verify --man=no oomwatchd.service").stderr == ""


def test_enabled_it_comes_back_after_a_reboot_and_pins_what_started_before_and_after(machine: Machine) -> None:
    provide(machine, GUARDED)
    machine.write("/etc/systemd/system/early.service", EARLY_UNIT)
    machine.write("/etc/oomwatchd.toml", f'[daemon]\nscan_interval = "1h"\n{GUARD}')  # no scan is faster than an event
    machine.succeed("systemctl enable early.service; systemctl enable --now oomwatchd")

    machine.reboot()

    machine.succeed("systemctl is-system-running --wait")
    assert machine.is_active("oomwatchd")
    early = machine.main_pid("early.service")
    assert machine.oom_score_adj(early) == -1000
    late = start(machine, "late", f"{GUARDED} infinity")
    wait_for_value(machine, late, -1000)
    pins = {pin["pid"]: pin for pin in machine.json("oomwatchctl list --json")["pins"]}
    assert {early, late} <= pins.keys()
    assert (pins[early]["original"], pins[late]["unit"]) == (0, "late.service")


def test_the_event_pins_not_the_scan(machine: Machine) -> None:
    assert machine.json("oomwatchctl status --json")["proc_events"] == "on"
    pins = {pin["unit"]: pin for pin in machine.json("oomwatchctl list --json")["pins"]}
    assert pins["late.service"]["source"] == "exec"
    assert pins["early.service"]["source"] == "scan"


def test_a_saved_configuration_is_applied(machine: Machine) -> None:
    late = machine.main_pid("late")
    machine.write("/etc/oomwatchd.toml", GUARD.replace("-1000", "-321"))
    wait_for_value(machine, late, -321)
    machine.write("/etc/oomwatchd.toml", GUARD.replace('"guarded"', '"guarded" # -1000 again', 1))
    wait_for_value(machine, late, -1000)


def test_a_broken_configuration_fails_the_reload_and_nothing_else(machine: Machine) -> None:
    pid = machine.main_pid("oomwatchd")
    broken = GUARD.replace("-1000", "-1001")
    line = broken.splitlines().index("oom_score_adj = -1001") + 1
    machine.write("/etc/oomwatchd.toml", broken)

    reload = machine.run("systemctl reload oomwatchd")

    assert reload.status != 0
    assert machine.is_active("oomwatchd")
    assert machine.main_pid("oomwatchd") == pid
    where = re.compile(rf"/etc/oomwatchd\.toml:{line}:\d+: .*-1001")
    status = machine.run("systemctl status --no-pager -l -n 0 oomwatchd").stdout
    assert where.search(status), status
    journal = machine.succeed("journalctl --sync; journalctl -b --no-pager -u oomwatchd -o cat")
    assert where.search(journal), journal
    assert where.search(machine.json("oomwatchctl status --json")["config"]["error"])
    (failed,) = machine.journal("-b -u oomwatchd OOMWATCHD_EVENT=reload-failed")[-1:]
    assert int(failed["PRIORITY"]) <= 3
    # The old rules stay in force.
    wait_for_value(machine, start(machine, "meanwhile", f"{GUARDED} infinity"), -1000)

    configure(machine, GUARD.replace("-1000", "-500"))
    wait_for_value(machine, machine.main_pid("meanwhile"), -500)
    assert machine.json("oomwatchctl status --json")["config"]["error"] is None
    assert ".toml:" not in machine.run("systemctl status --no-pager -l -n 0 oomwatchd").stdout.split("CGroup:")[0]


def test_the_journal_has_the_fields_of_the_contract(machine: Machine) -> None:
    configure(machine, GUARD)
    pid = start(machine, "told", f"{GUARDED} infinity")
    wait_for_value(machine, pid, -1000)

    def pinned() -> list[dict[str, Any]]:
        return machine.journal(f"-b -u oomwatchd OOMWATCHD_EVENT=pinned OBJECT_PID={pid}")

    (record,) = machine.wait("the pin is in the journal", pinned)
    assert record["OOMWATCHD_RULE"] == "guarded"
    assert record["OOMWATCHD_COMM"] == "guarded"
    assert record["OOMWATCHD_EXE"] == GUARDED
    assert record["OOMWATCHD_UID"] == "0"
    assert record["OOMWATCHD_UNIT"] == "told.service"
    assert (record["OOMWATCHD_OLD"], record["OOMWATCHD_NEW"]) == ("0", "-1000")
    assert record["OOMWATCHD_SOURCE"] == "exec"
    assert int(record["OOMWATCHD_LATENCY_US"]) > 0
    assert record["OBJECT_SYSTEMD_UNIT"] == "told.service"
    assert re.fullmatch(r"[0-9a-f]{32}", record["MESSAGE_ID"])
    assert record["PRIORITY"] in "56"
    # The unit's own log shows it.
    assert record["MESSAGE"] in machine.succeed("journalctl -b --no-pager -o cat -u told.service")


def test_the_catalog_explains_each_event(machine: Machine) -> None:
    records = machine.journal("-b -u oomwatchd _COMM=oomwatchd")
    ids = {record["OOMWATCHD_EVENT"]: record["MESSAGE_ID"] for record in records if "OOMWATCHD_EVENT" in record}
    assert {"started", "pinned", "reloaded", "reload-failed"} <= ids.keys()
    listed = machine.succeed("journalctl --no-pager --list-catalog")
    for event, message_id in ids.items():
        assert message_id in listed, event
    explained = machine.succeed("journalctl -b --no-pager -x -u told.service")
    assert re.search(r"Subject: .*pinned", explained), explained
    assert "man:oomwatchd(8)" in explained


def test_sshd_is_pinned_and_who_logs_in_is_not(machine: Machine) -> None:
    configure(
        machine,
        """
[[rule]]
name = "sshd"
exe = "/usr/sbin/sshd"
user = "root"
oom_score_adj = -1000
children = "reset"
""",
    )
    wait_for_value(machine, machine.main_pid("ssh"), -1000)
    assert machine.succeed("ssh alice@localhost 'sleep 1; cat /proc/self/oom_score_adj'") == "0"
    # Nor can he take it back: the floor was moved.
    machine.succeed(f"ssh alice@localhost '{UNTIL_REFUSED}'")


def test_a_users_session_and_units_differ_from_the_systems(machine: Machine) -> None:
    provide(machine, "/usr/local/bin/seat")
    configure(
        machine,
        """
[[rule]]
name = "unit"
exe = "/usr/local/bin/seat"
unit = "job.service"
oom_score_adj = 111

[[rule]]
name = "user unit"
user_unit = "job.service"
oom_score_adj = 222

[[rule]]
name = "slice"
exe = "/usr/local/bin/seat"
slice = "user-1000.slice"
oom_score_adj = 333
""",
    )
    # Over PAM, so that logind opens a session: the user's manager starts with the first and ends with the last.
    machine.succeed(
        "systemd-run -q --unit=login ssh alice@localhost "
        "'systemd-run -q --user --unit=job /usr/local/bin/seat infinity; exec /usr/local/bin/seat 1000'"
    )
    pids = machine.wait(
        "both seats are taken",
        lambda: p if len(p := machine.run("pgrep -u alice -x seat").stdout.split()) == 2 else None,
    )
    cgroups = {machine.read(f"/proc/{pid}/cgroup"): int(pid) for pid in pids}
    job = next(pid for cgroup, pid in cgroups.items() if cgroup.endswith("/job.service"))
    session = next(pid for cgroup, pid in cgroups.items() if cgroup.endswith(".scope"))
    wait_for_value(machine, job, 222)
    wait_for_value(machine, session, 333)
    # The same name as a unit of the system.
    wait_for_value(machine, start(machine, "job", "/usr/local/bin/seat infinity"), 111)
    machine.run("systemctl stop login job")


def test_the_service_is_confined_and_protected(machine: Machine) -> None:
    pid = machine.main_pid("oomwatchd")
    assert machine.oom_score_adj(pid) == -900
    assert machine.succeed(f"chrt -p {pid}").count("SCHED_RR|SCHED_RESET_ON_FORK") == 1
    memory_max = int(machine.read("/sys/fs/cgroup/system.slice/oomwatchd.service/memory.max"))
    assert int(machine.read("/sys/fs/cgroup/system.slice/oomwatchd.service/memory.current")) < memory_max / 2
    machine.succeed("systemd-analyze security --threshold=21 oomwatchd.service")
    # CAP_DAC_OVERRIDE 1, NET_ADMIN 12, SYS_PTRACE 19, SYS_RESOURCE 24
    capabilities = 1 << 1 | 1 << 12 | 1 << 19 | 1 << 24
    has = machine.succeed(f"awk '/CapPrm|CapEff/ {{ print $2 }}' /proc/{pid}/status").split()
    assert [int(mask, 16) for mask in has] == [capabilities] * 2
    # PERFMON 38 and BPF 39 load the filter, and are given up then. To leave the bounding set would take SETPCAP.
    bounding = int(machine.succeed(f"awk '/CapBnd/ {{ print $2 }}' /proc/{pid}/status"), 16)
    assert bounding == capabilities | 1 << 38 | 1 << 39


def test_rules_see_programs_wherever_they_are(machine: Machine) -> None:
    """The sandbox takes nothing from its view: home directories, /tmp, mounts that came after it."""
    machine.succeed("mkdir -p /mnt/late && mount -t tmpfs none /mnt/late")
    places = ["/home/alice/here", "/root/here", "/tmp/here", "/mnt/late/here", "/opt/here"]
    for place in places:
        provide(machine, place)
    configure(machine, f'[[rule]]\nname = "here"\nexe = {places}\nuser = 0\noom_score_adj = -200\n'.replace("'", '"'))
    for number, place in enumerate(places):
        wait_for_value(machine, start(machine, f"here{number}", f"{place} infinity"), -200)
    machine.run("systemctl stop 'here*'; umount -l /mnt/late")


def test_an_invalid_configuration_at_the_start_fails_at_once_and_says_why(machine: Machine) -> None:
    machine.write("/etc/oomwatchd.toml", '[daemon]\nscan_interval = "5 parsecs"\n')
    assert machine.run("systemctl restart oomwatchd").status != 0
    properties = machine.succeed("systemctl show -p ActiveState,ExecMainStatus,NRestarts oomwatchd").split()
    assert sorted(properties) == ["ActiveState=failed", "ExecMainStatus=78", "NRestarts=0"]
    assert "/etc/oomwatchd.toml:2:" in machine.run("systemctl status --no-pager -l oomwatchd").stdout
    machine.write("/etc/oomwatchd.toml", GUARD)
    machine.succeed("systemctl start oomwatchd")


def test_purged_it_leaves_nothing(machine: Machine) -> None:
    machine.succeed("systemctl disable --now early late told meanwhile; rm -f /etc/systemd/system/early.service")
    machine.succeed("DEBIAN_FRONTEND=noninteractive apt-get purge -q -y oomwatchd")
    machine.succeed("rm -rf /usr/local/bin/guarded /usr/local/bin/seat /opt/here /mnt/late")
    assert machine.run(f"{{ {FOOTPRINT}; }} 2>/dev/null | diff /root/footprint -").stdout == ""
    assert machine.run("systemctl status oomwatchd").status == 4
