"""Parsers of /proc/PID files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomwatchd.kernel import procfs
from oomwatchd.kernel.procfs import Stat, parse_stat, parse_status
from oomwatchd.kernel.systemd_cgroups import Units, parse_cgroup, parse_units

TAIL = b" S 1 812 700 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 3456 15728640 1200 18446744073709551615 1 1 0 0\n"


@pytest.mark.parametrize("comm", [b"sshd", b"a b", b"a) S 1 (b", b"\xff\n", b""])
def test_stat(comm: bytes) -> None:
    assert parse_stat(b"812 (" + comm + b")" + TAIL) == Stat(
        comm=comm, leader_ended=False, ppid=1, session=700, flags=4194560, threads=1, starttime=3456
    )


@given(st.binary(max_size=300))
def test_stat_of_any_bytes_is_a_value_error_at_most(raw: bytes) -> None:
    try:
        parse_stat(raw)
    except ValueError:
        return


def test_status() -> None:
    status = parse_status(
        b"Name:\tx\\nUid:\t9\nPPid:\t1\nUid:\t1\t1000\t3\t4\nGid:\t5\t100\t7\t8\nNSpid:\t812\t7\nCapEff:\t0\n"
    )

    assert (status.uid, status.gid, status.pid_ns_depth) == (1000, 100, 1)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"0::/system.slice/ssh.service\n", b"/system.slice/ssh.service"),
        (b"9:name=systemd:/a:b\n4:memory:/x\n", b"/a:b"),
        (b"9:name=systemd:/v1\n0::/v2\n", b"/v2"),
        (b"4:memory:/x\n", b""),
        (b"", b""),
    ],
)
def test_cgroup(raw: bytes, path: bytes) -> None:
    assert parse_cgroup(raw) == path


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


@given(st.text(max_size=80))
def test_units_of_any_text(cgroup: str) -> None:
    parse_units(cgroup)


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        (b"rw,nosuid", False),
        (b"rw,hidepid=0", False),
        (b"rw,hidepid=off", False),
        (b"rw,hidepid=2", True),
        (b"rw,gid=5,hidepid=invisible", True),
        (b"rw,hidepid=ptraceable,subset=pid", True),
    ],
)
def test_hidepid(options: bytes, hidden: bool) -> None:
    mounts = b"proc /elsewhere proc hidepid=2 0 0\nproc /proc proc %s 0 0\ntmpfs /tmp tmpfs rw 0 0\n" % options
    assert procfs.parse_hidepid(mounts) is hidden


def test_hidepid_of_a_proc_that_is_not_there(tmp_path: Path) -> None:
    assert procfs.hides_processes(str(tmp_path)) is True
