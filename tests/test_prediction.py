"""The kernel kills whom `rank` says. OOMWATCHD_TRIALS sets how many kills (10)."""

import os
import random
from pathlib import Path

import pytest

from tests import prediction


@pytest.fixture(scope="session")
def eater(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = prediction.why_impossible()
    if reason is not None:
        pytest.skip(reason)
    return prediction.compile_eater(tmp_path_factory.mktemp("eater"))


@pytest.mark.parametrize("number", range(int(os.environ.get("OOMWATCHD_TRIALS", "10"))))
def test_the_victim_is_as_predicted(eater: Path, number: int) -> None:
    trial = prediction.run_trial(eater, random.Random(number))
    if trial.close:
        pytest.skip(f"closer than the kernel's own counters are exact: {trial}")
    assert trial.right, str(trial)
