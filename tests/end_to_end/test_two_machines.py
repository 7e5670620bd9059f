"""What one machine trained is reported on another, which shares two remotes with it and trains nothing."""

from __future__ import annotations

import pytest

from tests.fixtures.small_repository import run, write_repository
from tests.trials.two_machines import bucket, exchange


@pytest.mark.stories
@pytest.mark.parametrize("through", ["folder", "S3"])
def test_an_experiment_goes_to_another_machine_which_reports_it_without_training(through, tmp_path):
    root = write_repository(tmp_path / "repository")
    run(root, "dvc push --quiet", "git add --all", "git commit --quiet --message store")
    with bucket() as in_bucket:
        if through == "S3" and in_bucket is None:
            pytest.skip("expected moto; pip install -r requirements/s3.txt")
        remote = in_bucket if through == "S3" else ()
        assert exchange(root, tmp_path / "machines", remote) == ["evaluate_5runs"]
