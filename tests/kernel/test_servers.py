"""Servers that fork without exec, as Debian has them. Each is started from a copy, which alone the rules fit."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oomwatchd.kernel import procfs
from tests.kernel.running import Daemon, Processes, oom_score_adj, public_directory, wait_for_value, wait_until

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
NGINX = Path("/usr/sbin/nginx")
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
AT_800 = ["sh", "-c", 'echo 800 > /proc/self/oom_score_adj; exec "$@"', "sh"]


def children_of(parent: int) -> list[int]:
    found = []
    for pid, _ in procfs.processes():
        with contextlib.suppress(procfs.Vanished):
            found += [pid] if procfs.read_stat(pid).ppid == parent else []
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    with public_directory() as directory:
        yield directory


@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL isn't installed (apt install postgresql)")
@pytest.mark.parametrize("daemon_first", [True, False])
def test_postgres(daemon: Daemon, processes: Processes, place: Path, daemon_first: bool) -> None:
    home = place / "home"
    home.mkdir()
    shutil.chown(home, "postgres")
    program, data = place / "postgres", home / "data"
    shutil.copy(POSTGRES[-1], program)
    initdb: list[str | Path] = [
        *AS_POSTGRES,
        POSTGRES[-1].with_name("initdb"),
        "-D",
        data,
        "-A",
        "trust",
        "--no-sync",
        "-N",
    ]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL)
    # The backends are the same program: what sets them apart is whose children they are.
    config = f"""
[daemon]
scan_interval = "1h"

[[rule]]
name = "backend"
exe = "{program}"
descendant_of = "postmaster"
oom_score_adj = 600

[[rule]]
name = "postmaster"
exe = "{program}"
user = "postgres"
oom_score_adj = 300
"""
    if daemon_first:
        daemon.start(config)
    postmaster = processes.start(
        *AT_800,
        *AS_POSTGRES,
        *(str(program), "-D", str(data), "-k", str(home), "-c", "listen_addresses=", "-F"),
        *("-c", "dynamic_shared_memory_type=mmap"),  # in its directory: being killed, it leaves it behind
        stderr=subprocess.DEVNULL,
    )
    wait_until((data / "postmaster.pid").exists, "the postmaster has started")
    wait_until(lambda: "ready" in (data / "postmaster.pid").read_text(), "it is ready")
    asking: list[str | Path] = [
        "psql",
        "-h",
        home,
        "-U",
        "postgres",
        "-Atc",
        "select pg_backend_pid()",
        "-c",
        "select pg_sleep(60)",
    ]
    client = subprocess.Popen(asking, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        backend = int(client.stdout.readline())
        if not daemon_first:
            daemon.start(config)

        wait_for_value(postmaster, 300)
        assert backend in children_of(postmaster)
        wait_for_value(children_of(postmaster), 600)

        daemon.write("")
        daemon.reload()
        wait_for_value([postmaster, *children_of(postmaster)], 800)
    finally:
        client.kill()
        client.communicate()


@pytest.mark.skipif(not NGINX.exists(), reason="nginx isn't installed (apt install nginx-light)")
@pytest.mark.parametrize("daemon_first", [True, False])
def test_nginx(daemon: Daemon, processes: Processes, place: Path, daemon_first: bool) -> None:
    program, configuration = place / "nginx", place / "nginx.conf"
    shutil.copy(NGINX, program)
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration.write_text(
        f"daemon off;\nuser nobody nogroup;\nworker_processes 4;\npid {place}/pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} server {{ listen unix:{place}/socket; }} }}\n"
    )
    config = f"""
[daemon]
scan_interval = "1h"

[[rule]]
name = "nginx"
exe = "{program}"
user = "root"
oom_score_adj = 300
"""
    if daemon_first:
        daemon.start(config.replace("300\n", '300\nchildren = "reset"\n'))
    master = processes.start(*AT_800, program, "-c", configuration, "-p", place, "-e", "stderr")
    wait_until(lambda: len(children_of(master)) == 4, "its workers have started")
    if not daemon_first:
        daemon.start(config)

    wait_for_value(master, 300)
    wait_for_value(children_of(master), 800)
    killed = children_of(master)[0]
    os.kill(killed, 9)
    wait_until(
        lambda: killed not in children_of(master) and len(children_of(master)) == 4,
        "another worker has taken the place of the dead one",
    )
    wait_for_value(children_of(master), 800)

    assert oom_score_adj(master) == 300
    workers = children_of(master)
    os.kill(master, signal.SIGTERM)
    ended = [f"/proc/{pid}/exe" for pid in workers]
    wait_until(lambda: not any(map(os.path.exists, ended)), "the workers have ended")
