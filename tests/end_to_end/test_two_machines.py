"""What one machine trained is reported on another, which shares two remotes with it and trains nothing."""

from __future__ import annotations

import pytest

from tests.fixtures.small_repository import run, write_repository
from tests.trials.two_machines import exchange


@pytest.mark.stories
def test_an_experiment_goes_to_another_machine_which_reports_it_without_training(tmp_path):
    root = write_repository(tmp_path / "repository")
    run(root, "dvc push --quiet", "git add --all", "git commit --quiet --message store")
    assert exchange(root, tmp_path / "machines") == ["evaluate_5runs"]
