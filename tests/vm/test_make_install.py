"""`make install` into /usr/local, with Debian's Python."""

import io
import tarfile
from pathlib import Path

import pytest

from tests.vm.machine import Machine
from tests.vm.steps import GUARD, GUARDED, configure, provide, start, wait_for_value

IMAGE = "bookworm"


@pytest.fixture(scope="module")
def tree(installed_tree: Path) -> bytes:
    """What `make install` makes, in an archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz") as tar:
        for path in sorted(installed_tree.iterdir()):
            tar.add(path, path.name)
    return archive.getvalue()


def test_it_runs_from_usr_local(machine: Machine, tree: bytes) -> None:
    machine.write("/root/tree.tar.xz", tree)
    machine.succeed('python3 -c \'import tarfile; tarfile.open("/root/tree.tar.xz").extractall("/")\'')
    machine.succeed("systemctl daemon-reload; journalctl --update-catalog; systemctl enable --now oomwatchd")
    provide(machine, GUARDED)
    configure(machine, GUARD)
    pid = start(machine, "guarded", f"{GUARDED} infinity")
    wait_for_value(machine, pid, -1000)
    machine.succeed("oomwatchctl status")
    main_pid = machine.main_pid("oomwatchd")
    assert b"/usr/local/sbin/oomwatchd" in machine.read(f"/proc/{main_pid}/cmdline").encode()


def test_its_byte_code_is_used_as_it_is(machine: Machine) -> None:
    stale = "find /usr/local/lib/oomwatchd -name '*.pyc' -newer /root/tree.tar.xz"
    assert machine.succeed(stale) == ""


def test_no_other_python_sees_it(machine: Machine) -> None:
    assert machine.run("python3 -c 'import oomwatchd'").status == 1


def test_without_ptrace_rules_by_unit_still_work(machine: Machine) -> None:
    machine.succeed(
        "install -D -m 644 /usr/local/share/doc/oomwatchd/examples/no-ptrace.conf "
        "/etc/systemd/system/oomwatchd.service.d/no-ptrace.conf; systemctl daemon-reload"
    )
    machine.write("/etc/oomwatchd.toml", GUARD.replace(f'exe = "{GUARDED}"', 'unit = "guarded.service"'))
    machine.succeed("systemctl restart oomwatchd; systemctl stop guarded")
    wait_for_value(machine, start(machine, "guarded", f"{GUARDED} infinity"), -1000)
    capability_sys_ptrace = 1 << 19
    main_pid = machine.main_pid("oomwatchd")
    effective = int(machine.succeed(f"awk '/CapEff/ {{ print $2 }}' /proc/{main_pid}/status"), 16)
    assert effective & capability_sys_ptrace == 0
