"""params.yaml is complete, typed and in range, or refused by the name of its key.

The keys are those of the project's own params.yaml, whatever they are: each test changes a copy of it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.config.params import (
    MocapRecipe,
    Params,
    Recipe,
    Training,
    TrainingConfig,
    architecture_of,
    load_params,
    recipe_for,
)
from pipeline.config.rows import Row
from pipeline.config.values import validated
from pipeline.system.errors import UserError
from pipeline.system.files import read_yaml, write_json

REPOSITORY = Path(__file__).parents[2]
CONTENT = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
OPTIONAL = ("for_keypoints", "for_model")
Keys = tuple[str, ...]


def groups(content: dict[str, Any], keys: Keys = ()) -> Iterator[Keys]:
    """Where there is a mapping with fixed keys."""
    yield keys
    for key, value in content.items():
        if isinstance(value, dict) and key not in (*OPTIONAL, "models"):
            yield from groups(value, (*keys, key))


def at(content: Any, keys: Keys) -> Any:
    for key in keys:
        content = content[key]
    return content


GROUPS = list(groups(CONTENT))
KEYS = [(*keys, key) for keys in GROUPS for key in at(CONTENT, keys) if key not in OPTIONAL]
LEAVES = [keys for keys in KEYS if not isinstance(at(CONTENT, keys), dict)]
named = ".".join


def is_required(keys: Keys) -> bool:
    group: Any = Params
    for key in keys[:-1]:
        group = group.model_fields[key].annotation
    return group.model_fields[keys[-1]].is_required()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Params]:
    """Loads a copy of params.yaml after `change` has been made to its content."""

    def load_changed(change: Callable[[Any], object]) -> Params:
        content = yaml.safe_load(yaml.safe_dump(CONTENT))
        change(content)
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return load_params(tmp_path / "params.yaml")

    return load_changed


def setting(keys: Keys, value: object) -> Callable[[Any], object]:
    return lambda content: at(content, keys[:-1]).update({keys[-1]: value})


def refuses(key: str, rest: str = "") -> Any:
    """That a UserError of one line names the file and the key."""
    return pytest.raises(UserError, match=rf"params.yaml: {re.escape(key)}[^\n]*{rest}[^\n]*\Z")


def test_the_file_of_the_project_loads():
    params = load_params(REPOSITORY / "params.yaml")
    assert params.model_dump(mode="json", include={"dataset", "seeds"}) == {k: CONTENT[k] for k in ("dataset", "seeds")}
    assert set(params.models) == set(CONTENT["models"])


def test_the_selected_row_has_a_recipe():
    params = load_params(REPOSITORY / "params.yaml")
    row = Row(params.dataset, params.keypoints, params.frames, params.model)
    assert isinstance(recipe_for(row, params, where="params.yaml"), Recipe)


def check_changed(change: Callable[[Any], object]) -> None:
    """As `load`, without a file, which takes its time."""
    content = copy.deepcopy(CONTENT)
    change(content)
    validated(Params, content, where="params.yaml")


def test_a_missing_key_is_named():
    for keys in filter(is_required, KEYS):
        with refuses(f"{named(keys)}: expected a value, found none"):
            check_changed(lambda content, keys=keys: at(content, keys[:-1]).pop(keys[-1]))


def test_an_unknown_key_is_named():
    for keys in GROUPS:
        with refuses(f"{named((*keys, 'epocs'))}: unknown key, found value 3"):
            check_changed(setting((*keys, "epocs"), 3))


# Good for the names that a row checks, for a flag, for what may be left open, and where a row's window is checked.
ALSO_GOOD = {"dataset": "?", "keypoints": "?", "model": "?", "frames": -1, "windows_per_epoch": None}


@pytest.mark.parametrize("value", [{"a": 1}, "?", [None], None, -1, True, float("nan")], ids=repr)
def test_a_value_of_another_kind_is_named(value):
    for keys in LEAVES:
        is_flag = isinstance(at(CONTENT, keys), bool)
        if (is_flag and value is True) or (keys[-1] in ALSO_GOOD and ALSO_GOOD[keys[-1]] == value):
            check_changed(setting(keys, value))
        else:
            with refuses(named(keys), "expected .*, found "):
                check_changed(setting(keys, value))


def test_numbers_may_be_written_as_yaml_does_not_know_them(load):
    # YAML 1.1 reads 1e-3 as text.
    assert load(setting(("datasets", "mocap", "lr"), "1e-3")).datasets.mocap.lr == 1e-3


@pytest.mark.parametrize("value", [0, -0.001, float("inf"), True])
def test_a_learning_rate_must_be_a_number_over_0(value, load):
    with refuses("datasets.mocap.lr: expected ", f"found {re.escape(repr(value))}"):
        load(setting(("datasets", "mocap", "lr"), value))


@pytest.mark.parametrize("value", [2.0, "2", 2.5, True])
def test_a_count_must_be_a_whole_number_and_written_as_one(value, load):
    with refuses("datasets.mocap.epochs: expected a valid integer, found ", re.escape(repr(value))):
        load(setting(("datasets", "mocap", "epochs"), value))


def test_the_learning_rate_decays_by_a_factor_or_linearly(load):
    for good in ("linear", 0.5, 1):
        assert load(setting(("datasets", "mocap", "lr_decay"), good)).datasets.mocap.lr_decay == good
    for bad in ("cosine", 0, 1.01):
        with refuses("datasets.mocap.lr_decay"):
            load(setting(("datasets", "mocap", "lr_decay"), bad))


@pytest.mark.parametrize("seeds", [[], [-1], [0.5], 3, [0, 1, 0]])
def test_seeds_must_be_at_least_one_whole_number_and_different(seeds, load):
    with refuses("seeds"):
        load(setting(("seeds",), seeds))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lr_decay", "cosine", "a number or 'linear'"),
        ("lr_decay", 2, "a number less than or equal to 1 or 'linear'"),
        ("actions", "walking", "'all' or a list"),
        ("actions", [], "'all' or at least one entry"),
        ("folders", "cmu_mocap", "a list"),
    ],
)
def test_a_value_that_may_be_of_two_kinds_is_refused_in_plain_words(key, value, expected):
    with refuses(f"datasets.mocap.{key}: expected {expected}, found {value!r}"):
        check_changed(setting(("datasets", "mocap", key), value))


def test_parameters_cannot_be_changed():
    params = load_params(REPOSITORY / "params.yaml")
    with pytest.raises(ValidationError, match="Instance is frozen"):
        params.datasets.mocap.epochs = 3  # type: ignore[misc]


def test_hyperparameters_of_a_model_are_checked(load):
    name = next(iter(CONTENT["models"]))
    with refuses(f"models.{name}: unknown key 'layerz'"):
        load(setting(("models", name), {"layerz": 3}))
    with refuses("models: expected one of ", "found 'resnet'"):
        load(setting(("models", "resnet"), {}))


def changing(kind: str, name: str, changes: dict[str, object]) -> Callable[[Any], object]:
    return setting(("datasets", "mocap", kind), {name: changes})


@pytest.mark.parametrize(("kind", "name"), [("for_keypoints", "det"), ("for_model", next(iter(CONTENT["models"])))])
def test_what_differs_for_some_rows_is_checked_as_the_rest(kind, name, load):
    where = f"datasets.mocap.{kind}.{name}"
    with refuses(f"{where}: lr: expected ", "found 0"):
        load(changing(kind, name, {"lr": 0}))
    with refuses(f"{where}: epocs: unknown key, found value 3"):
        load(changing(kind, name, {"epocs": 3}))
    for nested in OPTIONAL:
        with refuses(f"{where}.{nested}: expected parameters of the recipe alone"):
            load(changing(kind, name, {nested: {}}))


def test_what_differs_for_an_unknown_model_is_refused(load):
    with refuses("datasets.mocap.for_model.resnet: expected a model of ", ", ".join(sorted(CONTENT["models"]))):
        load(changing("for_model", "resnet", {"lr": 0.1}))


def test_a_recipe_takes_what_differs_for_its_keypoints_and_then_for_its_model(load):
    model, other = list(CONTENT["models"])[:2]

    def change(content: Any) -> None:
        recipe = content["datasets"]["mocap"] | {"lr": 0.1, "weight_decay": 0.1, "epochs": 1}
        recipe["for_keypoints"] = {"det": {"lr": 0.2, "weight_decay": 0.2}}
        recipe["for_model"] = {model: {"lr": 0.3}}
        content["datasets"]["mocap"] = recipe

    params = load(change)

    def found(keypoints: str, name: str) -> tuple[float, float, int]:
        recipe = recipe_for(Row("mocap", keypoints, 27, name), params, where="params.yaml")
        return recipe.lr, recipe.weight_decay, recipe.epochs

    assert found("gt", other) == (0.1, 0.1, 1)
    assert found("det", other) == (0.2, 0.2, 1)
    assert found("gt", model) == (0.3, 0.1, 1)
    assert found("det", model) == (0.3, 0.2, 1)


@pytest.mark.parametrize(("keypoints", "lr_decay"), [("cpn_ft_h36m_dbb", 0.98), ("gt", 0.99)])
def test_the_recipe_of_hmsft_has_its_published_numbers(keypoints, lr_decay):
    params = load_params(REPOSITORY / "params.yaml")
    recipe = recipe_for(Row("h36m", keypoints, 81, "hmsft"), params, where="params.yaml")
    assert architecture_of("hmsft", params) == ("poseformer", {})
    assert (recipe.optimizer, recipe.lr, recipe.lr_decay, recipe.weight_decay) == ("adamw", 2e-4, lr_decay, 0.1)
    assert (recipe.batch_windows, recipe.epochs, len(params.seeds)) == (256, 30, 5)


def test_a_row_of_unknown_dataset_or_model_is_refused():
    params = load_params(REPOSITORY / "params.yaml")
    model = next(iter(CONTENT["models"]))
    datasets = ", ".join(CONTENT["datasets"])
    with pytest.raises(UserError, match=f"params.yaml: dataset: expected one of {datasets}, found 'coco'"):
        recipe_for(Row("coco", "gt", 27, model), params, where="params.yaml")
    with pytest.raises(UserError, match=r"params.yaml: model: expected one of .*, found 'resnet'"):
        recipe_for(Row("mocap", "gt", 27, "resnet"), params, where="params.yaml")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"a: [", "expected a readable YAML file, found ParserError: "),
        (b"\xff\xfe\xff", "expected a readable YAML file, found UnicodeDecodeError: "),
        (b"!!python/object/apply:os.getcwd []", "expected a readable YAML file, found ConstructorError: "),
        (b"", "content: expected a valid dictionary or instance of Params, found None"),
        (b"- 1", r"content: expected a valid dictionary or instance of Params, found \[1\]"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(content, found, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match="^" + re.escape(f"{path}: ") + found + r"[^\n]*\Z"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"params.yaml: expected a YAML file, found no such file"):
        load_params(tmp_path / "params.yaml")


def test_a_resolved_configuration_is_read_back_from_json(load, tmp_path):
    recipe = load(setting(("datasets", "mocap", "lr"), 1e-05)).datasets.mocap
    config = TrainingConfig(
        row="mocap-gt-f27-linear",
        frames=27,
        model="linear",
        model_code="0123",
        hyperparameters={},
        in_skeleton="h36m17",
        out_skeleton="h36m17",
        in_channels=2,
        rate_hz=30.0,
        focal=None,
        threads=1,
        device="cpu",
        precision="bf16",
        compile="reduce-overhead",
        micro_batches=2,
        training=Training(**{key: getattr(recipe, key) for key in Training.model_fields}),
    )
    write_json(tmp_path / "training.json", config.model_dump())
    assert validated(TrainingConfig, read_yaml(tmp_path / "training.json"), where="training.json") == config


def test_a_preset_is_an_architecture_with_other_numbers():
    params = load_params(REPOSITORY / "params.yaml")
    architecture, hyperparameters = architecture_of("rayformer_large", params)
    assert architecture == "rayformer"
    assert hyperparameters == {"width": 192, "depth": 4, "heads": 4}


def test_a_preset_of_an_unknown_architecture_is_refused(tmp_path):
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    content["models"]["mine"] = {"architecture": "rayformr"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"params\.yaml: models: expected one of linear, .*, found 'rayformr'$"):
        load_params(tmp_path / "params.yaml")


def test_what_differs_for_a_model_is_merged_into_nested_values_and_comes_after_the_keypoints(load):
    def change(content: Any) -> None:
        recipe = content["datasets"]["mocap"]
        recipe["for_keypoints"] = {"det": {"epochs": 7, "augmentation": {"people": 0.5, "speed": 0.25}}}
        recipe["for_model"] = {"rayformer": {"epochs": 9, "augmentation": {"people": 0.75}}}

    params = load(change)
    recipe = recipe_for(Row("mocap", "det", 27, "rayformer"), params, where="params.yaml")
    assert isinstance(recipe, MocapRecipe)
    assert recipe.epochs == 9
    expected = {"people": 0.75, "speed": 0.25}
    assert recipe.augmentation == params.datasets.mocap.augmentation.model_copy(update=expected)


def test_a_file_that_extends_another_says_only_what_differs(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
    (tmp_path / "group").mkdir()
    other = tmp_path / "group" / "params.yaml"
    changes = {"extends": "../params.yaml", "seeds": [7], "datasets": {"mocap": {"augmentation": {"speed": 0.5}}}}
    other.write_text(yaml.safe_dump(changes), encoding="utf-8")
    expected = load_params(tmp_path / "params.yaml").model_dump()
    expected["seeds"] = (7,)
    expected["datasets"]["mocap"]["augmentation"]["speed"] = 0.5
    assert load_params(other).model_dump() == expected


@pytest.mark.parametrize(
    ("base", "complaint"),
    [
        ("nothing.yaml", r"nothing\.yaml: expected a YAML file, found no such file"),
        (3, r"group\.yaml: extends: expected the path of another file of parameters, found 3"),
    ],
)
def test_a_file_that_extends_nothing_is_refused(base, complaint, tmp_path):
    path = tmp_path / "group.yaml"
    path.write_text(yaml.safe_dump({"extends": base}), encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        load_params(path)
