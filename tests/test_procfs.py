"""Parsers of /proc/PID files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.kernel.hidepid import hides_processes, parse_hidepid
from oomwatchd.kernel.proc_stat import Stat, parse_arguments_length, parse_killed, parse_start_stack, parse_stat
from oomwatchd.kernel.proc_status import Status, parse_status
from oomwatchd.kernel.systemd_cgroups import (
    Hierarchy,
    Units,
    parse_cgroup,
    parse_hierarchies,
    parse_hierarchy,
    parse_units,
)

TAIL = b" S 1 812 700 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 3456 15728640 1200 18446744073709551615 1 1 0 0\n"


@pytest.mark.parametrize("comm", [b"sshd", b"a b", b"a) S 1 (b", b"\xff\n", b""])
def test_stat(comm: bytes) -> None:
    assert parse_stat(b"812 (" + comm + b")" + TAIL) == Stat(
        comm=comm, zombie=False, ppid=1, session=700, flags=4194560, threads=1, starttime=3456
    )


@given(st.binary(max_size=300))
def test_stat_of_any_bytes_is_a_value_error_at_most(raw: bytes) -> None:
    try:
        parse_stat(raw)
    except ValueError:
        return


@pytest.mark.parametrize("comm", [b"plain", b"a) R 1 2 3 (b", b")", b"\n) "])
def test_no_name_hides_the_fields_behind_it(comm: bytes) -> None:
    """Each field shows the square of its number (proc_pid_stat(5))."""
    raw = b"7 (%s) X %s\n" % (comm, " ".join(str(number**2) for number in range(4, 53)).encode())
    assert parse_stat(raw) == Stat(comm, True, 4**2, 6**2, 9**2, 20**2, 22**2)
    assert parse_start_stack(raw) == 28**2
    assert parse_arguments_length(raw) == 49**2 - 48**2


def test_a_kernel_that_does_not_show_the_stack() -> None:
    assert parse_start_stack(b"7 (a) S " + b"5 " * 23 + b"6") == 0
    assert parse_start_stack(b"7 (a) S " + b"5 " * 24 + b"6") == 6


@pytest.mark.parametrize(
    ("pending", "killed"), [(0, False), (1 << 8, True), (1 << 7 | 1 << 9, False), (0x7FFFFFFF, True)]
)
def test_a_thread_for_which_sigkill_is_pending(pending: int, killed: bool) -> None:
    assert parse_killed(b"7 (a) 9) D " + b"5 " * 27 + b"%d 256 256" % pending) is killed


def test_a_kernel_that_does_not_show_which_signals_are_pending() -> None:
    assert not parse_killed(b"7 (a) D " + b"256 " * 26 + b"256")


@pytest.mark.parametrize(
    ("status", "belongs"),
    [
        ((5, 5, 5), True),
        ((6, 5, 5), False),
        ((5, 6, 5), False),
        ((5, 5, 6), False),
    ],
)
def test_a_process_belongs_to_a_user_by_all_its_ids(status: tuple[int, int, int], belongs: bool) -> None:
    raw = "Name:\ta\nUmask:\t0022\nPPid:\t1\nUid:\t{}\t{}\t{}\t7\nGid:\t0\t0\t0\t0\nNSpid:\t9\n".format(*status)
    assert parse_status(raw.encode()).belongs_to(5) is belongs


def test_status() -> None:
    status = parse_status(
        b"Name:\tx\\nUid:\t9\nPPid:\t1\nUid:\t1\t1000\t3\t4\nGid:\t5\t100\t7\t8\nNSpid:\t812\t7\nCapEff:\t0\n"
    )

    assert status == Status(1, 1000, 3, 5, 7, pid_ns_depth=1)


@pytest.mark.parametrize(
    ("raw", "unified", "named"),
    [
        (b"0::/system.slice/ssh.service\n", b"/system.slice/ssh.service", b""),
        (b"9:name=systemd:/a:b\n4:memory:/x\n", b"", b"/a:b"),
        (b"9:name=systemd:/v1\n0::/v2\n", b"/v2", b"/v1"),
        (b"0::/a/b (deleted)\n", b"/a/b", b""),
        (b"4:memory:/x\n", b"", b""),
        (b"", b"", b""),
    ],
)
def test_cgroup(raw: bytes, unified: bytes, named: bytes) -> None:
    assert parse_cgroup(raw, Hierarchy.UNIFIED) == unified
    assert parse_cgroup(raw, Hierarchy.NAMED) == named


MOUNT = "31 23 0:28 / {} rw,relatime shared:9 - {} none rw\n"
V1 = MOUNT.format("/sys/fs/cgroup", "tmpfs") + MOUNT.format("/sys/fs/cgroup/systemd", "cgroup")


@pytest.mark.parametrize(
    ("mountinfo", "hierarchy"),
    [
        (MOUNT.format("/sys/fs/cgroup", "cgroup2"), Hierarchy.UNIFIED),
        (V1, Hierarchy.NAMED),
        (V1 + MOUNT.format("/mnt", "cgroup2"), Hierarchy.NAMED),
        (V1 + MOUNT.format("/sys/fs/cgroup/memory/x", "cgroup2"), Hierarchy.NAMED),
        (V1 + MOUNT.format("/sys/fs/cgroup/unified", "cgroup2"), Hierarchy.UNIFIED),
        (V1 + MOUNT.format("/sys/fs/cgroup/systemd", "cgroup2"), Hierarchy.UNIFIED),
        (MOUNT.format("/mnt", "cgroup2"), Hierarchy.UNIFIED),
        ("", Hierarchy.UNIFIED),
    ],
)
def test_hierarchy_is_the_one_that_systemd_chooses(mountinfo: str, hierarchy: Hierarchy) -> None:
    assert parse_hierarchy(mountinfo.encode()) is hierarchy


@pytest.mark.parametrize(
    ("cgroup", "unit", "user_unit", "slice_"),
    [
        ("/", "", "", "-.slice"),
        ("/init.scope", "init.scope", "", "-.slice"),
        ("/system.slice/ssh.service", "ssh.service", "", "system.slice"),
        ("/system.slice/ssh.service/sub/group", "ssh.service", "", "system.slice"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "", "system-getty.slice"),
        ("/user.slice/user-1000.slice/session-2.scope", "session-2.scope", "", "user-1000.slice"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service",
            *("user@1000.service", "sshd.service", "user-1000.slice"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.slice/x.scope/deeper.service",
            *("user@1000.service", "x.scope", "user-1000.slice"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/ssh.service",
            "user@1000.service",
            "ssh.service",
            "user-1000.slice",
        ),
        (
            "/user.slice/user-1000.slice/session-2.scope/app.slice/sub.service",
            *("session-2.scope", "sub.service", "user-1000.slice"),
        ),
        # Neither a session nor a user's manager, whatever it is called.
        ("/a.slice/session-x-y.scope/sub.service", "session-x-y.scope", "", "a.slice"),
        ("/a.slice/session-.scope/sub.service", "session-.scope", "", "a.slice"),
        ("/a.slice/session-2.service/sub.service", "session-2.service", "", "a.slice"),
        ("/a.slice/session-2x.swap/sub.service", "session-2x.swap", "", "a.slice"),
        ("/a.slice/x-session-2.scope/sub.service", "x-session-2.scope", "", "a.slice"),
        ("/a.slice/user@root.service/sub.service", "user@root.service", "", "a.slice"),
        ("/a.slice/user@1000.scope/sub.service", "user@1000.scope", "", "a.slice"),
        ("/a.slice/auser@1000.service/sub.service", "auser@1000.service", "", "a.slice"),
        ("/system.slice/_cpu.service", "cpu.service", "", "system.slice"),
        ("/system.slice", "", "", "system.slice"),
        ("/machine.slice/libpod-1.scope/container", "libpod-1.scope", "", "machine.slice"),
        ("/docker/0123", "", "", "-.slice"),
        ("/system.slice/foo@.service", "", "", "system.slice"),
        ("/system.slice/bad name.service", "", "", "system.slice"),
        ("/system.slice/dev-disk-by\\x2dlabel.swap", "dev-disk-by\\x2dlabel.swap", "", "system.slice"),
    ],
)
def test_units(cgroup: str, unit: str, user_unit: str, slice_: str) -> None:
    assert parse_units(cgroup) == Units(unit, user_unit, slice_)


@pytest.mark.parametrize("ends", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_no_name_of_a_cgroup_makes_a_line_of_its_own(ends: str) -> None:
    """A user names the cgroups below his own manager's. The kernel refuses a line feed alone (cgroup_mkdir())."""
    path = f"/user.slice/user-1000.slice/user@1000.service/a{ends}0::/system.slice/sshd.service".encode()
    assert parse_hierarchies(b"0::%s\n" % path) == {b"0::": path}
    assert parse_cgroup(b"0::%s\n" % path, Hierarchy.UNIFIED) == path


@given(st.text(max_size=80))
def test_units_of_any_text(cgroup: str) -> None:
    parse_units(cgroup)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (b"rw,nosuid", None),
        (b"rw,hidepid=0", None),
        (b"rw,hidepid=off", None),
        (b"rw,hidepid=2", "2"),
        (b"rw,gid=5,hidepid=invisible", "invisible"),
        (b"rw,hidepid=ptraceable,subset=pid", "ptraceable"),
    ],
)
def test_hidepid(options: bytes, value: str | None) -> None:
    mounts = b"proc /elsewhere proc hidepid=2 0 0\nproc /proc proc %s 0 0\ntmpfs /tmp tmpfs rw 0 0\n" % options
    assert parse_hidepid(mounts) == value


def test_hidepid_of_a_proc_that_is_not_there(tmp_path: Path) -> None:
    assert hides_processes(str(tmp_path)) is True
