"""What `oomwatchctl doctor` finds, on made-up trees: the reader and the findings together."""

import json
import os
from pathlib import Path

import pytest

from oomwatchd import doctor
from oomwatchd.ctl import main
from oomwatchd.doctor import Finding, denials, reader, system
from tests import unprivileged
from tests.faketree import ALL_CAPS, Tree

MIB = 2**20


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A healthy system: swap, an init, one small process, the daemon."""
    made = Tree(tmp_path)
    made.machine(ram_kib=8 << 20, swap_kib=2 << 20)
    made.process(1, b"systemd", ppid=0, uid=0, caps=ALL_CAPS)
    made.process(2, b"kthreadd", ppid=0, uid=0, rss_kib=None, kernel_thread=True)
    made.process(50, b"oomwatchd", uid=0, adj=-900, caps=ALL_CAPS)
    made.process(100, b"sleep")
    for name in ("panic_on_oom", "oom_kill_allocating_task", "overcommit_memory", "overcommit_kbytes"):
        made.write(f"proc/sys/vm/{name}", 0)
    made.write("proc/sys/vm/overcommit_ratio", 50)
    made.write("proc/sys/kernel/dmesg_restrict", 1)
    return made


def found(tree: Tree) -> dict[str, Finding]:
    return {finding.id: finding for finding in doctor.findings_of(reader.read_system(str(tree.root)))}


def test_a_healthy_system(tree: Tree) -> None:
    assert found(tree) == {}


def test_nothing_at_all_is_no_crash(tmp_path: Path) -> None:
    for finding in doctor.findings_of(reader.read_system(str(tmp_path))):
        assert finding.severity in ("critical", "warning", "notice")
    assert doctor.findings_of(reader.read_system(str(tmp_path / "nowhere")))


SETTINGS = [
    ("proc/sys/vm/panic_on_oom", 1, "panic-on-oom", "critical"),
    ("proc/sys/vm/panic_on_oom", 2, "panic-on-oom", "critical"),
    ("proc/sys/vm/oom_kill_allocating_task", 1, "oom-kill-allocating-task", "critical"),
    ("proc/sys/vm/overcommit_memory", 1, "overcommit-always", "notice"),
    ("proc/sys/vm/overcommit_memory", 2, "overcommit-never", "warning"),
    ("proc/net/connector", "Name ID", "no-proc-connector", "warning"),
]


@pytest.mark.parametrize(("path", "value", "identity", "severity"), SETTINGS)
def test_settings(tree: Tree, path: str, value: int | str, identity: str, severity: str) -> None:
    tree.write(path, value)
    made = found(tree)
    assert list(made) == [identity]
    assert made[identity].severity == severity


def test_overcommit_names_the_ratio_and_the_share(tree: Tree) -> None:
    tree.write("proc/sys/vm/overcommit_memory", 2)
    message = found(tree)["overcommit-never"].message
    assert "2048 MiB of 4096 MiB are committed, 50 %, by vm.overcommit_ratio 50" in message
    tree.write("proc/meminfo", "MemTotal: 100 kB\nSwapTotal: 50 kB\nCommitLimit: 1000 kB\nCommitted_AS: 950 kB")
    assert found(tree)["overcommit-never"].severity == "critical"


def test_swap(tree: Tree) -> None:
    tree.machine(swap_kib=0)
    assert list(found(tree)) == ["no-swap"]
    tree.machine(ram_kib=8 << 20, swap_kib=100 << 10)
    assert list(found(tree)) == ["little-swap"]


def test_oom_group(tree: Tree) -> None:
    tree.memcg2("/u", MIB, **{"oom.group": 1})
    tree.process(101, cgroup="/u")
    assert found(tree) == {}
    tree.process(102, cgroup="/u/sub")
    assert found(tree)["memcg-oom-group-plain"].severity == "notice"
    tree.process(103, b"db\x1b", adj=-500, cgroup="/u")
    made = found(tree)
    assert list(made) == ["memcg-oom-group"]
    assert "db\\x1b (103)" in made["memcg-oom-group"].message
    tree.process(103, adj=-1000, cgroup="/u")
    assert "memcg-oom-group" not in found(tree)


def test_v1_oom_killer_off(tree: Tree) -> None:
    tree.memcg1("/", 0)
    tree.memcg1("/g", 0, oom_control="oom_kill_disable 1\nunder_oom 0")
    assert list(found(tree)) == ["memcg-oom-kill-disabled"]


def test_limits_smaller_than_what_is_protected(tree: Tree) -> None:
    tree.memcg2("/g", 60 * MIB, 64 * MIB)
    tree.process(101, b"db", adj=-500, rss_kib=30 << 10, cgroup="/g")
    assert found(tree) == {}
    tree.process(101, b"db", adj=-500, rss_kib=50 << 10, cgroup="/g/sub")
    assert list(found(tree)) == ["memcg-protected"]
    tree.process(101, b"db", adj=-500, rss_kib=50 << 10, anon_kib=20 << 10, cgroup="/g")
    assert found(tree) == {}
    tree.process(101, b"db", adj=-1000, cgroup="/g")
    assert list(found(tree)) == ["memcg-nothing-killable"]
    tree.process(102, cgroup="/g")
    assert found(tree) == {}
    tree.write("sys/fs/cgroup/g/memory.min", 65 * MIB)
    assert list(found(tree)) == ["memcg-min-over-max"]


@pytest.mark.parametrize("name", ["systemd-oomd", "earlyoom", "nohang", "oomd"])
def test_other_killers(tree: Tree, name: str) -> None:
    tree.process(70, name.encode(), uid=0)
    tree.process(71, name.encode(), uid=0)
    made = found(tree)
    assert list(made) == [f"{name}-running"]
    assert "PID 7" in made[f"{name}-running"].message


def test_a_daemon_that_does_not_run(tree: Tree) -> None:
    without_daemon(tree)
    assert found(tree)["daemon-not-running"].severity == "critical"
    tree.me(uid=1000, caps=0)
    tree.write("proc/self/mounts", MOUNTS.format("hidepid=2"))
    assert "daemon-not-running" not in found(tree), "it may be hidden"


def service(tree: Tree, name: str, settings: str = "") -> str:
    """A unit with its cgroup. Returns the cgroup's path."""
    cgroup = f"/system.slice/{name}"
    for path in ("/system.slice", cgroup):
        tree.memcg2(path, MIB, stat="pgscan 0")
        tree.write(f"sys/fs/cgroup{path}/memory.oom.group", 0)
    tree.write(f"etc/systemd/system/{name}", f"[Service]\n{settings}")
    return cgroup


def test_a_unit_that_systemd_stops_as_a_whole(tree: Tree) -> None:
    cgroup = service(tree, "db.service")
    tree.process(80, b"db", uid=0, adj=-1000, cgroup=cgroup)
    assert found(tree) == {}, "nobody else in it can be killed"
    tree.process(81, b"worker", ppid=80, uid=0, cgroup=cgroup)
    made = found(tree)["unit-oom-policy"]
    assert "OOMPolicy=stop in db.service" in made.message and "worker (81)" in made.message
    assert made.advice == "OOMPolicy=continue in db.service (systemctl edit db.service)"
    service(tree, "db.service", "OOMPolicy=kill")
    assert "systemd kills all of it" in found(tree)["unit-oom-policy"].message
    for harmless in ("OOMPolicy=continue", "Delegate=yes"):
        service(tree, "db.service", harmless)
        assert found(tree) == {}
    tree.write("etc/systemd/system/db.service.d/oom.conf", "[Service]\nOOMPolicy=stop")
    assert "unit-oom-policy" in found(tree)


def test_only_what_is_held_counts_where_the_daemon_says_so(tree: Tree) -> None:
    cgroup = service(tree, "db.service")
    tree.process(80, b"db", uid=0, adj=100, cgroup=cgroup)
    tree.process(81, b"worker", uid=0, adj=200, cgroup=cgroup)

    def made(*pinned: tuple[int, int, int]) -> dict[str, Finding]:
        pins = {pid: system.Pinned("base", value, original) for pid, value, original in pinned}
        return {f.id: f for f in doctor.findings_of(reader.read_system(str(tree.root), daemon=50, pinned=pins))}

    assert made() == made((80, 100, 0)) == {}
    assert "which rule 'base' lowered" in made((80, 100, 200))["unit-oom-policy"].message


def test_systemd_oomd_that_may_take_a_pinned_unit(tree: Tree) -> None:
    cgroup = service(tree, "db.service", "OOMPolicy=continue")
    tree.process(80, b"db", uid=0, adj=-1000, cgroup=cgroup)
    tree.process(90, b"systemd-oomd", uid=0, cgroup=service(tree, "systemd-oomd.service"))
    assert list(found(tree)) == ["systemd-oomd-running"], "it watches nothing"
    tree.write("usr/lib/systemd/system/-.slice", "[Slice]\nManagedOOMSwap=kill")
    made = found(tree)["systemd-oomd-takes-pinned"]
    assert "all of /system.slice/db.service for swap" in made.message and made.severity == "warning"
    assert made.advice == "ManagedOOMPreference=omit in db.service (systemctl edit)"
    tree.write("usr/lib/systemd/system/system.slice", "[Slice]\nManagedOOMMemoryPressure=kill")
    assert "for swap and the pressure in /system.slice" in found(tree)["systemd-oomd-takes-pinned"].message
    try:
        os.setxattr(f"{tree.cgroup}{cgroup}", "user.oomd_avoid", b"1")
    except OSError:
        pytest.skip("the file system of the temporary directory has no user.* extended attributes")
    assert found(tree)["systemd-oomd-takes-pinned"].severity == "notice"
    os.setxattr(f"{tree.cgroup}{cgroup}", "user.oomd_omit", b"1")
    assert list(found(tree)) == ["systemd-oomd-running"]


def test_earlyoom_that_takes_a_pinned_process(tree: Tree) -> None:
    def made(*arguments: bytes) -> list[str]:
        tree.write("proc/90/cmdline", b"\0".join((b"earlyoom", *arguments, b"")))
        return [identity for identity in found(tree) if identity != "earlyoom-running"]

    tree.process(80, b"db", uid=0, adj=-500, rss_kib=90 << 10)
    tree.process(90, b"earlyoom", uid=0, rss_kib=1 << 10)
    tree.process(100, b"sleep", rss_kib=100 << 10)
    assert made() == []
    assert made(b"--prefer", b"^db$") == ["earlyoom-takes-pinned"]
    assert made(b"--sort-by-rss") == ["earlyoom-takes-pinned"]
    assert made(b"--sort-by-rss", b"--avoid", b"db") == []
    tree.process(80, b"db", uid=0, adj=-1000, rss_kib=90 << 10)
    assert made(b"--prefer", b"^db$") == []
    tree.process(80, b"db", uid=0, adj=-500, rss_kib=3 << 20)
    tree.process(100, b"sleep", adj=-800)
    assert made() == ["earlyoom-stuck"]
    assert "oom_score_adj = -1000" in found(tree)["earlyoom-stuck"].advice


def test_nohang_that_takes_a_pinned_process(tree: Tree) -> None:
    tree.process(80, b"db", uid=0, adj=-100, rss_kib=4 << 20)
    tree.process(90, b"nohang", uid=0, rss_kib=1 << 10)
    tree.write("proc/90/cmdline", b"/usr/bin/python3\0/usr/sbin/nohang\0--monitor\0--config\0/etc/nohang.conf\0")
    tree.write("etc/nohang.conf", "soft_threshold_min_mem = 5 %")
    assert "nohang-takes-pinned" in found(tree)
    tree.write("etc/nohang.conf", "@BADNESS_ADJ_RE_NAME -900 /// ^db$")
    assert "nohang-takes-pinned" not in found(tree)
    tree.write("etc/nohang.conf", "@BADNESS_ADJ_RE_ENVIRON -9 /// x")
    tree.me(uid=1000, caps=0)
    assert "nohang-not-judged" in found(tree)


def test_protected_share(tree: Tree) -> None:
    tree.process(101, b"big", adj=-1000, rss_kib=5 << 20)
    assert found(tree)["protected-share"].severity == "warning"
    tree.process(101, b"big", adj=-1000, rss_kib=7 << 20)
    assert found(tree)["protected-share"].severity == "critical"
    tree.process(101, b"big", adj=-1000, rss_kib=7 << 20, anon_kib=1 << 20)
    assert found(tree) == {}


def test_nothing_killable(tree: Tree) -> None:
    for pid, name in ((50, b"oomwatchd"), (100, b"sleep")):
        tree.process(pid, name, uid=0, adj=-1000, caps=ALL_CAPS)
    assert found(tree)["nothing-killable"].severity == "critical"


def test_an_unkillable_shell(tree: Tree) -> None:
    tree.process(80, b"sshd", uid=0, adj=-1000, caps=ALL_CAPS)
    assert found(tree) == {}
    tree.process(81, b"sshd", ppid=80, uid=0, adj=-1000, caps=ALL_CAPS)
    tree.process(82, b"bash", ppid=81, uid=0, adj=-1000, caps=ALL_CAPS)
    made = found(tree)
    assert list(made) == ["unkillable-shell"]
    assert made["unkillable-shell"].message.startswith("sshd (80) at -1000 owns a shell at -1000 (bash (82))")


def test_a_shell_that_is_unkillable_by_itself(tree: Tree) -> None:
    tree.process(82, b"bash", uid=0, adj=-1000)
    assert found(tree)["unkillable-shell"].message.startswith("bash (82) at -1000 is a shell at -1000")


def test_an_unkillable_container(tree: Tree) -> None:
    tree.process(80, b"containerd-shim", uid=0, adj=-1000, caps=ALL_CAPS)
    tree.process(81, b"java", ppid=80, uid=0, adj=-1000, nspid="81\t1", caps=ALL_CAPS)
    made = found(tree)
    assert list(made) == ["unkillable-container"]
    assert "containerd-shim (80) at -1000 owns a container" in made["unkillable-container"].message


def test_a_value_that_leaked_to_another_user(tree: Tree) -> None:
    tree.process(80, b"sshd", uid=0, adj=-900, caps=ALL_CAPS)
    tree.process(81, b"worker", ppid=80, uid=0, adj=-900, caps=ALL_CAPS)
    assert found(tree) == {}
    tree.process(82, b"vi", ppid=81, uid=1000, adj=-900)
    assert list(found(tree)) == ["leaked-value"]
    assert "from sshd (80): vi (82)" in found(tree)["leaked-value"].message


def test_a_floor_that_may_have_leaked(tree: Tree) -> None:
    tree.process(80, b"server", uid=1000, adj=-900)
    tree.process(81, b"worker", ppid=80, uid=1000, adj=0)
    assert found(tree) == {}, "with the daemon running, its reset has moved the floor"
    without_daemon(tree)
    assert list(found(tree)) == ["daemon-not-running", "leaked-floor"]
    tree.process(81, b"worker", ppid=80, uid=0, adj=0, caps=ALL_CAPS)
    assert list(found(tree)) == ["daemon-not-running"], "whoever had CAP_SYS_RESOURCE when it wrote has moved it"


def without_daemon(tree: Tree) -> None:
    for file in (tree.root / "proc/50").iterdir():
        file.unlink()
    (tree.root / "proc/50").rmdir()


CAPS = [(24, "sys-resource", "critical"), (1, "dac-override", "critical"), (19, "sys-ptrace", "critical")]


@pytest.mark.parametrize(("number", "name", "severity"), [*CAPS, (12, "net-admin", "warning")])
def test_a_daemon_without_a_capability(tree: Tree, number: int, name: str, severity: str) -> None:
    tree.process(50, b"oomwatchd", uid=0, caps=ALL_CAPS & ~(1 << number))
    made = found(tree)
    assert list(made) == [f"no-cap-{name}"]
    assert made[f"no-cap-{name}"].severity == severity
    assert made[f"no-cap-{name}"].message.startswith("The daemon (50) lacks CAP_" + name.replace("-", "_").upper())


def test_a_daemon_that_can_not_be_seen_is_not_accused(tree: Tree) -> None:
    tree.me(uid=1000, caps=0)
    without_daemon(tree)
    assert doctor.findings_of(reader.read_system(str(tree.root), daemon=50)) == []


def test_without_a_daemon_root_s_own_capabilities_count(tree: Tree) -> None:
    without_daemon(tree)
    tree.me(caps=ALL_CAPS & ~(1 << 24))
    assert "would lack CAP_SYS_RESOURCE" in found(tree)["no-cap-sys-resource"].message


def test_a_user_is_advised_to_ask_as_root(tree: Tree) -> None:
    tree.me(uid=1000, caps=0)
    assert found(tree) == {}
    without_daemon(tree)
    made = found(tree)
    assert list(made) == ["daemon-not-running", "kernel-log-unreadable", "unprivileged"]
    assert "CAP_SYS_RESOURCE, CAP_DAC_OVERRIDE" in made["unprivileged"].message


MOUNTS = "/dev/a / ext4 rw 0 0\nproc /proc proc rw,nosuid,gid=27,{} 0 0\n"


def test_hidepid(tree: Tree) -> None:
    tree.write("proc/self/mounts", MOUNTS.format("hidepid=invisible"))
    assert found(tree)["hidepid"].severity == "notice"
    tree.process(50, b"oomwatchd", uid=0, caps=ALL_CAPS & ~(1 << 19))
    assert found(tree)["hidepid"].severity == "critical"


def test_no_proc_connector_outside_of_the_initial_namespaces(tree: Tree) -> None:
    tree.me(pid_ns=4026532000, user_ns=4026532001)
    message = found(tree)["no-proc-connector"].message
    assert "not in the initial PID namespace; not in the initial user namespace" in message
    assert "no-cap-sys-resource" in found(tree), "a user namespace's own CAP_SYS_RESOURCE lowers nothing"


def test_no_proc_connector_where_it_was_tried(tree: Tree) -> None:
    def tried(works: bool, reason: str) -> list[str]:
        return [f.message for f in doctor.findings_of(reader.read_system(str(tree.root), events=(works, reason)))]

    assert tried(True, "") == []
    [message] = tried(False, "CAP_NET_ADMIN is missing")
    assert "(CAP_NET_ADMIN is missing)" in message


def test_the_kernel_log(tree: Tree) -> None:
    tree.process(50, b"oomwatchd", uid=0, caps=ALL_CAPS & ~(1 << 34))
    assert "dmesg_restrict" in found(tree)["kernel-log-unreadable"].message
    tree.write("var/log/journal/0123/system.journal", "")
    assert found(tree) == {}


def test_no_kmsg_and_no_journal(tree: Tree) -> None:
    (tree.root / "dev/kmsg").unlink()
    assert "/dev/kmsg" in found(tree)["kernel-log-unreadable"].message


DENIALS = [
    b'type=AVC msg=audit(1.2:3): avc:  denied  { write } for  pid=9 comm="oomwatchd" name="oom_score_adj"',
    b'6,1,2,-;audit: type=1400 apparmor="DENIED" operation="ptrace" profile="oomwatchd" comm="x"',
]


@pytest.mark.parametrize("line", DENIALS)
@pytest.mark.parametrize("file", ["var/log/audit/audit.log", "dev/kmsg"])
def test_denials(tree: Tree, line: bytes, file: str) -> None:
    tree.write(file, line + b"\n")
    assert list(found(tree)) == ["lsm-denials"]


def test_denials_of_others_are_not_ours() -> None:
    assert not denials.is_denial(b'avc:  denied  { write } for  pid=9 comm="httpd"')
    assert not denials.is_denial(b'apparmor="ALLOWED" profile="oomwatchd"')


def test_the_gravest_comes_first(tree: Tree) -> None:
    tree.machine(swap_kib=0)
    tree.write("proc/sys/vm/panic_on_oom", 1)
    assert [f.severity for f in found(tree).values()] == ["critical", "notice"]


# --- this machine -----------------------------------------------------------------------------------------


def test_json_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    made = json.loads(capsys.readouterr().out)
    assert status == (1 if made["findings"] else 0)
    for finding in made["findings"]:
        assert list(finding) == ["id", "severity", "message", "advice"]


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(("finding.", "findings.") if status == 1 else "Nothing here weakens the pins.")


def test_without_privilege() -> None:
    done = unprivileged.oomwatchctl("doctor", "--json")
    assert done.stderr == b""
    assert done.returncode in (0, 1)
    json.loads(done.stdout)
