"""The kernel kills whom `rank` says: cgroup v2 and the whole machine, with values from -1000 to 1000.
OOMWATCHD_TRIALS sets how many kills in cgroups (8). Of the whole machine there is one for each 8: before it,
the machine thrashes, in emulation, for up to minutes."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests import prediction
from tests.vm.machine import Machine

IMAGE = "bookworm"
TRIALS = int(os.environ.get("OOMWATCHD_TRIALS", "8"))
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trials(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine with the trials in it. It has no compiler."""
    eater = prediction.compile_eater(tmp_path_factory.mktemp("eater"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(eater, "eater")
        for path in [*(REPOSITORY / "src/oomwatchd").rglob("*.py"), REPOSITORY / "tests/prediction.py"]:
            archive.add(path, path.relative_to(REPOSITORY))
    machine.write("/root/trials.tar.gz", packed.getvalue())
    machine.succeed("tar -C /root -xzf /root/trials.tar.gz")
    return machine


def run(machine: Machine, arguments: str, timeout_s: float) -> str:
    done = machine.run(
        f"cd /root && PYTHONPATH=src python3 tests/prediction.py --eater /root/eater --lower --seed 1 {arguments}",
        timeout_s,
    )
    print(done.stdout, done.stderr)
    assert done.status == 0, done.stdout + done.stderr
    return done.stdout


def test_in_memory_cgroups_v2(trials: Machine) -> None:
    run(trials, f"--trials {TRIALS}", 120 + 60 * TRIALS)


def test_in_the_whole_machine(trials: Machine) -> None:
    run(trials, f"--trials {max(1, TRIALS // 8)} --machine", 60 + 120 * TRIALS)
