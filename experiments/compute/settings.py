"""curves.yaml -> the networks and budgets of the curves, and the parameters of a run that uses a budget up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from pipeline.config.params import load_params, merged, recipe_for
from pipeline.config.rows import parse_row
from pipeline.config.values import Values, validated
from pipeline.system.errors import UserError
from pipeline.system.files import read_json, read_yaml, write_json

COSTLIEST_KEYPOINTS = "det"  # the simulated detector's take longer to draw than exact ones


class ChooseRate(Values):
    """How a row's rate is chosen: the budget and the seed, and the factors of the recipe's rates that are tried."""

    minutes: PositiveInt
    seed: int
    factors: tuple[PositiveFloat, ...]


class Network(Values):
    """A network in words, and its changes to the recipe and to the model's hyperparameters."""

    words: str
    recipe: dict[str, object]
    model: dict[str, object]


class Curves(Values):
    """The whole of curves.yaml. `common` are changes to params.yaml that hold for all networks.

    `budgets` has the seeds that are trained, by keypoints and by minutes.
    """

    budgets: dict[str, dict[PositiveInt, tuple[int, ...]]]
    choose_rate: ChooseRate
    epoch_windows: PositiveInt
    common: dict[str, object]
    networks: dict[str, Network]


class ChosenRate(Values):
    """The best factor of a row's rates, and the validation error that each of them led to."""

    factor: PositiveFloat
    validation_mpjpe_mm: dict[str, float]


class StepCost(Values):
    """What a network costs: its parameters, the multiplications of a window, CPU seconds and windows of a step."""

    parameters: int
    multiplications_per_window: int
    cpu_s_per_step: PositiveFloat
    windows_per_step: PositiveInt

    def steps(self, minutes: int) -> int:
        """Returns how many steps fit into a budget, at least one."""
        return max(1, round(60 * minutes / self.cpu_s_per_step))


def name_row(keypoints: str, network: str) -> str:
    """Returns the name of the row in which a network is trained on such keypoints."""
    return f"mocap-{keypoints}-f27-{network}"


def read_curves(path: Path) -> Curves:
    """Returns the content of curves.yaml. Raises UserError that names the first wrong key."""
    return validated(Curves, read_yaml(path), where=str(path))


def write_row_params(
    row: str, curves: Curves, path: Path, *, extends: Path, recipe: Mapping[str, object] | None = None
) -> None:
    """Writes the parameters of a row to `path`: those of `extends`, what differs for the row, and `recipe`."""
    model = parse_row(row).model
    network = curves.networks[model]
    changes = {"datasets": {"mocap": {"for_model": {model: network.recipe}}}, "models": {model: network.model}}
    content = merged(
        merged(curves.common, changes), {"datasets": {"mocap": {"for_model": {model: dict(recipe or {})}}}}
    )
    write_json(path, {"extends": str(extends.resolve()), **content})


def recipe_for_budget(
    row: str, curves: Curves, cost: StepCost, *, minutes: int, factor: float, params_path: Path
) -> dict[str, object]:
    """Returns the changes to a row's recipe (of `params_path`) that use up a budget with rates times `factor`.

    The steps are cut into epochs of equal length, about `epoch_windows` each; the schedule ends with them.
    """
    training = recipe_for(parse_row(row), load_params(params_path), where=str(params_path))
    steps = cost.steps(minutes)
    epochs = max(1, round(steps * cost.windows_per_step / curves.epoch_windows))
    return {
        "epochs": epochs,
        "windows_per_epoch": max(1, round(steps / epochs)) * cost.windows_per_step,
        "lr": factor * training.lr,
        "muon_lr": factor * training.muon_lr,
    }


def read_step_costs(path: Path, networks: Iterable[str]) -> dict[str, StepCost]:
    """Returns what each of the networks costs. Raises UserError if the file or a network is missing."""
    costs = read_json(path, "what a step of each network costs")
    if missing := [network for network in networks if network not in costs]:
        raise UserError(f"{path}: expected the cost of {missing[0]}, found none; run step_cost")
    return {network: validated(StepCost, costs[network], where=f"{path}: {network}") for network in networks}


def read_rate(path: Path) -> ChosenRate:
    """Returns what choose_rate found for a row. Raises UserError if it is missing or damaged."""
    return validated(ChosenRate, read_json(path, "the rate of a row"), where=str(path))
