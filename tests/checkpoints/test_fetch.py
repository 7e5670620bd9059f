"""A checkpoint comes out of a repository by its address alone, to a folder that knows neither git nor DVC."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

import pytest

from pipeline.checkpoints.fetch import fetch
from pipeline.config.rows import SHIPPED
from pipeline.system.errors import UserError
from pipeline.system.files import md5_as_dvc
from tests.fixtures.lifting import write_small_checkpoint
from tests.fixtures.small_repository import run

PATH = PurePosixPath(SHIPPED)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as the project's: its remote of DVC is a folder inside it, which is in git."""
    root = tmp_path_factory.mktemp("repository")
    write_small_checkpoint(root / SHIPPED)
    (root / ".dvcignore").write_text("/data/store\n", encoding="utf-8")
    (root / ".dvc").mkdir()
    config = "[core]\n    remote = store\n['remote \"store\"']\n    url = ../data/store\n"
    (root / ".dvc" / "config").write_text(config, encoding="utf-8")
    (root / ".gitignore").write_text("/.dvc/cache\n/.dvc/tmp\n", encoding="utf-8")
    run(
        root,
        "git init --quiet --initial-branch main",
        f"dvc add --quiet {SHIPPED}",
        "dvc push --quiet",
        "git add --all",
        "git commit --quiet --message first",
    )
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test run in an empty folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


def test_a_checkpoint_is_fetched_by_the_address_of_its_repository(repository):
    assert fetch(f"file://{repository}", PATH) == SHIPPED
    assert md5_as_dvc(SHIPPED) == md5_as_dvc(repository / SHIPPED)
    with pytest.raises(UserError, match=f"{SHIPPED}: expected no such folder yet, found one"):
        fetch(str(repository), PATH)


@pytest.mark.parametrize(
    ("path", "revision", "complaint"),
    [
        ("data/lifter/run7", None, "expected a checkpoint at data/lifter/run7, found FileNotFoundError"),
        ("data/lifter", None, "expected weights.safetensors and card.json at data/lifter, found neither or one"),
        ("data/lifter/run0", "v9", "expected a repository that git can clone, found .* branch v9 not found"),
        ("../elsewhere", None, "expected a path within the repository"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_written(path, revision, complaint, repository):
    with pytest.raises(UserError, match=complaint):
        fetch(f"file://{repository}", PurePosixPath(path), revision=revision)
    assert list(Path().iterdir()) == []


def test_a_damaged_store_is_noticed(repository, tmp_path):
    damaged = shutil.copytree(repository, tmp_path / "damaged")
    weights = max((damaged / "data" / "store").rglob("*"), key=lambda path: path.stat().st_size)
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    run(damaged, "git commit --quiet --all --message damaged")
    with pytest.raises(
        UserError, match=r"expected the files of data/lifter/run0 to have the hash \w+\.dir, found another"
    ):
        fetch(str(damaged), PATH)
    assert list(Path().iterdir()) == []
