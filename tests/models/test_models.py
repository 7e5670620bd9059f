"""The contract that every model keeps, the checks of its hyperparameters, and the shared layers."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from models import DECIDED_BY_DATA, MODELS, build, check_hyperparameters, layers

# Sizes that keep these tests fast; a model that is not here is tested with its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "poseformer": {"embed_dim_ratio": 8, "depth": 2, "heads": 2},
    "mixste": {"width": 16, "depth": 2, "heads": 2},
    "stcformer": {"width": 16, "depth": 2, "heads": 2},
    "motionagformer": {"width": 16, "depth": 2, "heads": 2},
    "rayformer": {"width": 16, "depth": 2, "heads": 2},
}
SIZES: dict[str, int] = {"frames": 9, "in_joints": 5, "out_joints": 4, "in_channels": 3}

each_model = pytest.mark.parametrize("name", MODELS)


def small(name: str, **sizes: int) -> nn.Module:
    """A small model with weights of seed 0."""
    torch.manual_seed(0)
    return build(name, **{**SIZES, **sizes}, **SMALL.get(name, {}))


def shaken(name: str) -> nn.Module:
    """A small model in evaluation mode with no weight left at zero, as after some training."""
    model = small(name).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model


def random_screen(*shape: int) -> Float[Tensor, "B T J C"]:
    """Keypoints uniform over -1..1."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@each_model
@pytest.mark.parametrize("frames", [1, 9, 27])
@pytest.mark.parametrize("in_channels", [2, 3])
def test_a_window_becomes_every_frame_or_the_middle_frame(name: str, frames: int, in_channels: int) -> None:
    model = small(name, frames=frames, in_channels=in_channels)
    lifted = model(random_screen(2, frames, 5, in_channels))
    assert lifted.shape == (2, {"every_frame": frames, "middle_frame": 1}[str(model.predicts)], 4, 3)
    assert lifted.isfinite().all()


@each_model
def test_the_constructor_takes_keywords_and_gives_every_hyperparameter_a_default(name: str) -> None:
    parameters = inspect.signature(MODELS[name]).parameters
    assert tuple(parameters)[:4] == DECIDED_BY_DATA
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    assert all(parameters[key].default is not inspect.Parameter.empty for key in set(parameters) - set(DECIDED_BY_DATA))


@each_model
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    first, second = small(name).state_dict(), small(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(1)
    other = build(name, **SIZES, **SMALL.get(name, {})).state_dict()
    assert not all(torch.equal(first[key], other[key]) for key in first)


@each_model
def test_evaluation_is_deterministic(name: str) -> None:
    model, screen = small(name).eval(), random_screen(2, 9, 5, 3)
    assert torch.equal(model(screen), model(screen))


@each_model
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    model = shaken(name)
    model(random_screen(2, 9, 5, 3)).square().sum().backward()
    without = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@each_model
def test_items_of_a_batch_do_not_influence_each_other(name: str) -> None:
    model, screen = shaken(name), random_screen(3, 9, 5, 3)
    torch.testing.assert_close(model(screen)[1:2], model(screen[1:2]), rtol=0, atol=1e-6)
    assert not torch.allclose(model(screen)[0], model(screen)[1], atol=1e-4)


@each_model
def test_a_screen_with_other_joints_or_channels_is_refused(name: str) -> None:
    model = small(name)
    with pytest.raises(ValueError, match=r"screen: expected shape \(\.\.\., 5, 3\), found \(.*6, 3\)"):
        model(random_screen(2, 9, 6, 3))
    with pytest.raises(ValueError, match=r"screen: expected shape \(\.\.\., 5, 3\), found \(.*5, 2\)"):
        model(random_screen(2, 9, 5, 2))


@each_model
def test_the_defaults_pass_their_own_check(name: str) -> None:
    complete = check_hyperparameters(name, {})
    defaults = {key: value.default for key, value in inspect.signature(MODELS[name]).parameters.items()}
    assert complete == {key: value for key, value in defaults.items() if key not in DECIDED_BY_DATA}
    assert check_hyperparameters(name, complete) == complete


def test_given_hyperparameters_replace_defaults_and_reach_the_model() -> None:
    complete = check_hyperparameters("poseformer", {"depth": 3, "drop_path": "1e-3", "mlp_ratio": 1})
    expected = {"embed_dim_ratio": 32, "depth": 3, "heads": 8, "mlp_ratio": 1.0, "drop_path": 0.001}
    assert complete == expected
    assert isinstance(complete["mlp_ratio"], float)
    assert len(build("poseformer", **SIZES, depth=3, drop_path="1e-3").blocks) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"dept": 4}, r"poseformer: unknown key 'dept', expected one of embed_dim_ratio, depth, heads, mlp_ratio, "),
        ({"frames": 9}, r"poseformer: unknown key 'frames', expected one of embed_dim_ratio"),
        ({"depth": -1}, r"poseformer\.depth: expected a number greater than 0, found -1$"),
        ({"depth": "2"}, r"poseformer\.depth: expected a valid integer, found '2'$"),
        ({"depth": 2.0}, r"poseformer\.depth: expected a valid integer, found 2\.0$"),
        ({"depth": True}, r"poseformer\.depth: expected a valid integer, found True$"),
        ({"drop_path": True}, r"poseformer\.drop_path: expected a valid number, found True$"),
        ({"drop_path": "low"}, r"poseformer\.drop_path: expected a valid number, found 'low'$"),
        ({"drop_path": "nan"}, r"poseformer\.drop_path: expected a finite number, found nan$"),
        ({"drop_path": 1.0}, r"poseformer\.drop_path: expected a number less than 1, found 1\.0$"),
        ({"heads": 5}, r"poseformer: expected a number of heads that divides the width 32, found 5$"),
    ],
)
def test_a_bad_hyperparameter_is_refused_by_name(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^models\." + complaint):
        check_hyperparameters("poseformer", given)


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"^models: expected one of linear, poseformer.*, found 'posformer'$"):
        build("posformer", **SIZES)


@each_model
@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"frames": 8}, "expected an odd positive number of frames, found 8"),
        ({"frames": 0}, "expected an odd positive number of frames, found 0"),
        ({"frames": -3}, "expected an odd positive number of frames, found -3"),
        ({"in_joints": 0}, "expected at least one joint in and out, found 0 and 4"),
        ({"out_joints": 0}, "expected at least one joint in and out, found 5 and 0"),
        ({"in_channels": 4}, "expected 2 or 3 channels, found 4"),
    ],
)
def test_a_bad_size_is_refused(name: str, sizes: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"^models\.{name}: {complaint}$"):
        build(name, **{**SIZES, **sizes})


def test_drop_path_keeps_the_expectation_and_drops_whole_items() -> None:
    torch.manual_seed(0)
    dropped = layers.DropPath(0.3)(torch.zeros(20000, 2, 3), torch.ones_like)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)  # six standard errors
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 1 / 0.7]))
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))


def test_drop_path_adds_the_whole_branch_in_evaluation_and_at_rate_zero() -> None:
    tokens = torch.rand(64, 2, 3)
    assert torch.equal(layers.DropPath(0.9).eval()(tokens, torch.sin), tokens + tokens.sin())
    assert torch.equal(layers.DropPath(0.0)(tokens, torch.sin), tokens + tokens.sin())


def test_a_branch_that_is_kept_for_no_item_has_a_gradient_of_zero() -> None:
    block = layers.Block(12, heads=3, mlp_ratio=2.0, drop_path=1 - 1e-9)
    tokens = torch.rand(2, 5, 12)
    assert torch.equal(block(tokens), tokens)
    block(tokens).sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in block.parameters())


@pytest.mark.parametrize("heads", [3, 1])
def test_items_without_their_branch_keep_what_came_in_and_the_others_are_those_of_a_batch_of_them(heads: int) -> None:
    torch.manual_seed(0)
    block = layers.Block(12, heads=heads, mlp_ratio=2.0, drop_path=0.5).double()
    tokens = torch.rand(16, 5, 12, dtype=torch.float64)
    with_drops = block.drop_path(tokens, block.attn)
    kept = (with_drops != tokens).any((1, 2))
    assert 0 < kept.sum() < 16
    torch.testing.assert_close(with_drops[kept], tokens[kept] + 2 * block.attn(tokens[kept]), rtol=0, atol=1e-12)


def test_drop_rates_grow_evenly_from_zero() -> None:
    assert layers.growing_rates(0.1, 4) == pytest.approx([0, 1 / 30, 2 / 30, 0.1])
    assert layers.growing_rates(0.1, 1) == [0]


def attention_by_hand(attention: layers.Attention, tokens: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Softmax attention of one batch item written out, head by head."""
    queries, keys, values = attention.qkv(tokens).chunk(3, dim=-1)
    size = tokens.shape[-1] // attention.heads
    heads = []
    for start in range(0, tokens.shape[-1], size):
        head = slice(start, start + size)
        scores = queries[:, head] @ keys[:, head].T / size**0.5
        heads.append(scores.softmax(-1) @ values[:, head])
    return attention.proj(torch.cat(heads, -1))


@pytest.mark.parametrize("heads", [6, 1])  # heads narrow enough for two products, and not
def test_attention_is_softmax_attention_head_by_head(heads: int) -> None:
    torch.manual_seed(0)
    attention, tokens = layers.Attention(12, heads=heads).double(), torch.rand(2, 5, 12, dtype=torch.float64)
    expected = torch.stack([attention_by_hand(attention, item) for item in tokens])
    torch.testing.assert_close(attention(tokens), expected, rtol=0, atol=1e-12)


def test_attention_over_more_items_than_one_kernel_takes_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention, tokens = layers.Attention(32, heads=2), torch.rand(7, 5, 32)
    expected = attention(tokens)
    monkeypatch.setattr(layers, "LARGEST_ATTENTION_BATCH", 3)
    torch.testing.assert_close(attention(tokens), expected, rtol=0, atol=1e-6)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a number of heads that divides the width 12, found 5"):
        layers.Attention(12, heads=5)


def test_values_without_a_leading_axis_are_refused() -> None:
    layers.check_last_axes("screen", torch.zeros(1, 5, 3), (5, 3))
    with pytest.raises(ValueError, match=r"^screen: expected shape \(\.\.\., 5, 3\), found \(5, 3\)$"):
        layers.check_last_axes("screen", torch.zeros(5, 3), (5, 3))
