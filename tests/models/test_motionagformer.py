"""MotionAGFormer computes what the authors' code does, from the same weights, at the size that is stated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import build
from models.motionagformer import NEIGHBOURS_OF_17, GraphConvolution, MotionAGFormer, link_similar
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.motionagformer_file import RELEASED, wave_motionagformer, wave_screen, wave_target

# Of the authors' code at commit 4756fd1, run in float64: the sums of the output and of its absolute values, and the
# first and the last joint.
PARITY = {
    "tiny": (5, -144.25806139, 198.71173263, (-0.04138090, -0.49683402, -0.49852559),
             (-0.74662248, -0.26946555, -0.86566187)),
    "XS": (9, 177.63454414, 364.53159380, (-0.15941565, 0.46064821, 0.49351934), (-0.38254491, 0.64835097, 0.53757969)),
    "S": (9, -161.21084996, 238.89604627, (-0.20869237, -0.66845208, -0.08547301),
          (-0.15726087, -0.65799423, -0.16753090)),
    "B": (9, -377.42888853, 639.24093805, (-1.01715514, -0.37940849, -0.11620823),
          (-1.25037238, -0.00162942, 0.01536373)),
    "L": (9, -104.29835437, 244.35571439, (0.33139629, 0.17328347, -0.00965863),
          (0.23463046, -0.44609045, -0.17776823)),
}  # fmt: skip


@pytest.mark.parametrize("size", PARITY)
def test_it_computes_what_the_authors_code_does(size):
    frames, total, absolute, first, last = PARITY[size]
    with torch.no_grad():
        pose = wave_motionagformer(size, frames=frames)(wave_screen(batch=2, frames=frames))
    assert pose.sum().item() == pytest.approx(total, abs=1e-5)
    assert pose.abs().sum().item() == pytest.approx(absolute, abs=1e-5)
    assert pose[0, 0, 0].tolist() == pytest.approx(first, abs=1e-7)
    assert pose[1, -1, -1].tolist() == pytest.approx(last, abs=1e-7)


def test_it_computes_what_the_authors_code_does_on_as_many_frames_as_were_released():
    with torch.no_grad():
        pose = wave_motionagformer("XS", frames=27)(wave_screen(batch=1, frames=27))
    assert pose.sum().item() == pytest.approx(267.91059463, abs=1e-5)
    assert pose.abs().sum().item() == pytest.approx(552.29854216, abs=1e-5)


@pytest.mark.parametrize(
    ("size", "frames", "training", "loss", "gradient"),
    [
        ("tiny", 5, False, 15.90516037, 158.84531326),
        ("tiny", 5, True, 17.61025836, 169.23588769),
        ("XS", 9, False, 11.57078072, 164.92542976),
        ("XS", 9, True, 10.18091815, 148.40252734),
    ],
)
def test_its_gradient_is_that_of_the_authors_code(size, frames, training, loss, gradient):
    model, target = wave_motionagformer(size, frames=frames).train(training), wave_target(batch=2, frames=frames)
    pose = model(wave_screen(batch=2, frames=frames))
    scale = (pose * target).sum((-1, -2), keepdim=True) / (pose * pose).sum((-1, -2), keepdim=True)
    parts = ((1.0, pose - target), (0.5, scale * pose - target), (20.0, pose.diff(dim=1) - target.diff(dim=1)))
    total = torch.stack([weight * off.norm(dim=-1).mean() for weight, off in parts]).sum()
    total.backward()
    squares = [weight.grad.square().sum() for weight in model.parameters() if weight.grad is not None]
    assert total.item() == pytest.approx(loss, abs=1e-5)
    assert torch.stack(squares).sum().sqrt().item() == pytest.approx(gradient, abs=1e-4)


def test_its_running_statistics_move_as_those_of_the_authors_code():
    model = wave_motionagformer("tiny", frames=5).train()
    model(wave_screen(batch=2, frames=5))
    statistics = model.state_dict()
    variance = statistics["blocks.0.graph_spatial.mixer.batch_norm.running_var"]
    mean = statistics["blocks.1.graph_temporal.mixer.batch_norm.running_mean"]
    assert variance.sum().item() == pytest.approx(22.24442916, abs=1e-5)
    assert mean.sum().item() == pytest.approx(0.22984424, abs=1e-5)


@pytest.mark.parametrize(
    ("size", "frames", "parameters"),
    [("XS", 27, 2_241_531), ("S", 81, 4_817_119), ("B", 243, 11_723_811), ("B", 81, 11_718_627),
     ("L", 243, 19_007_111), ("L", 81, 18_998_687)],
)  # fmt: skip
def test_the_released_sizes_have_as_many_parameters_as_published(size, frames, parameters):
    width, depth = RELEASED[size]["width"], RELEASED[size]["depth"]
    with torch.device("meta"):
        model = MotionAGFormer(frames=frames, in_joints=17, out_joints=17, in_channels=3, **RELEASED[size])
    formula = depth * (44 * width**2 + 54 * width + 2 + 2 * 17 + 2 * frames) + (17 + 6 + 512) * width + 2051
    assert sum(weight.numel() for weight in model.parameters()) == formula == parameters


def count_multiplications(*, width: int, depth: int, frames: int) -> int:
    of_block = 44 * width**2 + 4 * width + 3 * 17 * width + 4 * frames * width
    return frames * 17 * (depth * of_block + 515 * width + 1536)


@pytest.mark.parametrize(("width", "depth", "frames"), [(64, 1, 27), (128, 2, 243)])
def test_its_cost_is_the_stated_sum_of_linear_maps_attention_and_convolutions(width, depth, frames):
    with torch.device("meta"):
        model = MotionAGFormer(frames=frames, in_joints=17, out_joints=17, in_channels=3, width=width, depth=depth)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            model.eval()(torch.rand(1, frames, 17, 3))
    assert counter.get_total_flops() == 2 * count_multiplications(width=width, depth=depth, frames=frames)


def test_the_stated_cost_is_that_of_the_released_size():
    assert count_multiplications(width=64, depth=12, frames=27) == pytest.approx(1.07e9, rel=5e-3)


def test_the_links_are_the_bones_in_both_directions_but_for_the_three_that_the_authors_forgot():
    linked = {(joint, other) for joint, row in enumerate(NEIGHBOURS_OF_17) for other in row}
    bones = {pair for bone in H36M_17.bones for pair in (bone, bone[::-1])}
    assert bones - linked == {(0, 4), (8, 11), (8, 14)}
    assert linked < bones


def test_a_convolution_divides_by_the_roots_of_both_nodes_numbers_of_links():
    layer = GraphConvolution(1, nodes=3, links=((1, 2), (0,), (0, 1, 2))).double().eval()
    for linear, weight in ((layer.V, 1.0), (layer.U, 0.0)):
        torch.nn.init.constant_(linear.weight, weight)
        torch.nn.init.zeros_(linear.bias)
    tokens = torch.tensor([[[1.0], [10.0], [100.0]]], dtype=torch.float64)
    gathered = (layer(tokens) - tokens) * (1 + layer.batch_norm.eps) ** 0.5
    expected = [10 / 2**0.5 + 100 / 6**0.5, 1 / 2**0.5, 1 / 6**0.5 + 10 / 3**0.5 + 100 / 3]
    assert gathered.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_a_frame_is_linked_to_those_of_the_two_largest_products_and_ties_add_links():
    tokens = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]])
    assert link_similar(tokens)[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert link_similar(torch.ones(1, 3, 2)).tolist() == [[[1.0] * 3] * 3]
    assert link_similar(torch.ones(1, 1, 2)).tolist() == [[[1.0]]]


def test_lower_precision_of_the_rest_changes_no_link():
    tokens = torch.nn.functional.layer_norm(torch.rand(8, 27, 16, generator=torch.Generator().manual_seed(0)), (16,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(link_similar(tokens), link_similar(tokens.double()).float())


def test_nothing_but_the_batch_norm_of_each_frame_tells_frames_apart():
    model, screen = wave_motionagformer("tiny", frames=5), wave_screen(batch=2, frames=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert not torch.allclose(model(screen[:, order]), model(screen)[:, order], atol=1e-4)
    for block in model.blocks:
        norm = block.graph_temporal.mixer.batch_norm
        for name in ("weight", "bias", "running_mean", "running_var"):
            torch.nn.init.constant_(getattr(norm, name), 0.7)
    torch.testing.assert_close(model(screen[:, order]), model(screen)[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_windows_of_another_length_are_refused(training):
    model = build("motionagformer", frames=9, in_joints=17, out_joints=17, in_channels=3, width=8, depth=1)
    with pytest.raises(ValueError, match=r"^motionagformer: screen: expected 9 frames, found 8$"):
        model.train(training)(torch.rand(2, 8, 17, 3))


def test_joints_of_another_layout_are_linked_to_all():
    sizes: dict[str, Any] = {"frames": 9, "in_joints": 5, "out_joints": 4, "in_channels": 3}
    model = build("motionagformer", **sizes, width=8, depth=1)
    assert model.blocks[0].graph_spatial.mixer.rows == [[1.0] * 5] * 5  # type: ignore[index]
    pose_m = model.eval()(torch.rand(2, 9, 5, 3))
    torch.testing.assert_close(pose_m[:, :, 1:], pose_m[:, :, :-1])  # at first each is the mean of all


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match=r"^models\.motionagformer: expected a number of heads that divides the width"):
        build("motionagformer", frames=9, in_joints=17, out_joints=17, in_channels=3, width=16, heads=3)
