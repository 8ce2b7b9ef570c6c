"""What makes the daemon look at its configuration again, on real directories."""

import os
import re
import select
from pathlib import Path

import pytest

from oomwatchd.config.load import layout
from oomwatchd.config.stamp import stamp, waits_for_nobody
from oomwatchd.config.watch import ConfigWatch


def changed(watch: ConfigWatch) -> bool:
    """inotify(7) queues an event before the system call that caused it returns."""
    return bool(select.select([watch], [], [], 0)[0]) and watch.changed()


@pytest.mark.parametrize("target", ["../mounted/o.toml", "/mounted/o.toml"])
def test_file_behind_two_links(target: str, tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: o.toml -> ..data/o.toml, ..data -> ..1, and ..data is replaced. An absolute
    link is followed below the root."""
    mounted = tmp_path / "mounted"
    for version in ("..1", "..2"):
        (mounted / version).mkdir(parents=True)
        (mounted / version / "o.toml").touch()
    (mounted / "..data").symlink_to("..1")
    (mounted / "o.toml").symlink_to("..data/o.toml")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/oomwatchd.toml").symlink_to(target)
    watch = ConfigWatch(layout(root=str(tmp_path)))
    assert not changed(watch)

    (mounted / "..new").symlink_to("..2")
    assert not changed(watch)
    (mounted / "..new").rename(mounted / "..data")
    assert changed(watch)

    assert watch.renew()
    (mounted / "..2/o.toml").write_text("# saved")
    assert changed(watch)


def test_drop_in_that_is_a_link(tmp_path: Path) -> None:
    drop_ins = tmp_path / "etc/oomwatchd.d"
    drop_ins.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/other.toml").touch()
    (drop_ins / "a.toml").symlink_to("../../elsewhere/other.toml")
    watch = ConfigWatch(layout(root=str(tmp_path)))

    (tmp_path / "elsewhere/other.toml").write_text("# saved")

    assert changed(watch)


def test_drop_ins_in_a_directory_below_the_root_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "conf").mkdir()
    (tmp_path / "etc/oomwatchd.d").symlink_to("/conf")
    where = layout(root=str(tmp_path))
    watch = ConfigWatch(where)
    before = stamp(where.main_file, where.drop_in_dirs, where.root)

    (tmp_path / "conf/b.toml").touch()

    assert changed(watch)
    assert stamp(where.main_file, where.drop_in_dirs, where.root) != before


def test_drop_ins_below_a_link(tmp_path: Path) -> None:
    drop_ins = tmp_path / "real/etc/oomwatchd.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "a.toml").touch()
    (tmp_path / "root").symlink_to("real")
    watch = ConfigWatch(layout(root=os.path.relpath(tmp_path / "root")))

    (drop_ins / "b.toml").touch()

    assert changed(watch)


def test_directory_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    watch = ConfigWatch(layout(str(tmp_path / "a/o.toml")))
    assert not watch.renew()

    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()

    assert watch.renew()
    assert not watch.renew()
    (tmp_path / "a/o.toml").touch()
    assert changed(watch)


def test_name_of_any_bytes_beside_it(tmp_path: Path) -> None:
    watch = ConfigWatch(layout(str(tmp_path / "o.toml")))

    os.close(os.open(os.fsencode(tmp_path) + b"/\xff", os.O_CREAT | os.O_WRONLY))
    (tmp_path / "o.toml").touch()

    assert changed(watch)


def test_directories_that_appear(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    watch = ConfigWatch(layout(root=str(tmp_path)))
    assert not watch.renew()
    assert capfd.readouterr() == ("", "")

    (tmp_path / "etc").mkdir()
    assert watch.renew()
    (tmp_path / "etc/oomwatchd.d").mkdir()
    assert changed(watch)
    assert watch.renew()
    (tmp_path / "etc/oomwatchd.d/a.toml").touch()
    assert changed(watch)


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    ConfigWatch(layout(str(tmp_path / "a")))


def mountinfo_of(directory: Path, fields: str) -> str:
    """A file like /proc/self/mountinfo with one mount, which `directory` lies on."""
    descriptor = os.open(directory, os.O_PATH)
    (number,) = re.findall(r"mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{descriptor}").read_text())
    os.close(descriptor)
    mountinfo = directory / "mountinfo"
    mountinfo.write_text(f"{number} 1 {fields} rw - {{type}} /dev/x rw\n")
    return str(mountinfo)


@pytest.mark.parametrize(
    ("kind", "local"),
    [
        *((kind, True) for kind in ("ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "tmpfs", "squashfs", "vfat")),
        *((kind, False) for kind in ("nfs4", "cifs", "9p", "fuse.sshfs", "fuseblk", "virtiofs", "ceph", "overlay")),
    ],
)
@pytest.mark.parametrize("shown", [True, False], ids=["device of the mount", "device of a subvolume"])
def test_file_systems_that_may_not_answer(kind: str, local: bool, shown: bool, tmp_path: Path) -> None:
    file = tmp_path / "oomwatchd.toml"
    file.touch()
    device = os.stat(file).st_dev if shown else os.makedev(0, 1 << 15)
    mountinfo = mountinfo_of(tmp_path, f"{os.major(device)}:{os.minor(device)} / /")
    Path(mountinfo).write_text(Path(mountinfo).read_text().format(type=kind))

    assert waits_for_nobody(stamp(str(file), (), "/"), mountinfo) is local


def test_a_mount_that_is_in_no_mount_table(tmp_path: Path) -> None:
    (tmp_path / "oomwatchd.toml").touch()
    (tmp_path / "mountinfo").write_text("1 1 0:77777 / / rw - ext4 /dev/x rw\n")

    assert not waits_for_nobody(stamp(str(tmp_path / "oomwatchd.toml"), (), "/"), str(tmp_path / "mountinfo"))
