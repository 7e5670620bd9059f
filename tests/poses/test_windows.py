"""Windows are cut where they should, put back where they were, and drawn as stated."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import FrozenInstanceError, fields, replace
from typing import Literal

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from models import build
from pipeline.poses.geometry import Camera, project, screen_from_pixels
from pipeline.poses.metrics import clip_scores
from pipeline.poses.scores import score_actions
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import (
    FrameTable,
    Sampling,
    Windows,
    balancing_weights,
    epoch_windows,
    every_nth,
    frame_table,
    gather_windows,
    keep_predicted_frames,
    mirror,
    mirror_windows,
    stretch,
    tile_windows,
    window_index,
)
from pipeline.system.errors import UserError
from tests.fixtures.networks import trained_model
from tests.fixtures.walker import camera_at, walker_clip, walker_clips, walker_joints_world_m

LENGTHS = (1, 2, 8, 9, 10, 30, 1)
lengths_of_clips = st.lists(st.integers(1, 40), min_size=1, max_size=6)
CPU = torch.device("cpu")


def numbered_table(lengths: list[int] | tuple[int, ...]) -> FrameTable:
    """Frames whose keypoints and poses are their own number in the table, joint by joint."""
    last = torch.tensor(lengths).cumsum(0) - 1
    number = torch.arange(sum(lengths), dtype=torch.float32)
    return FrameTable(
        screen=number[:, None, None] + torch.rand(17, 2) / 4,
        pose_m=number[:, None, None] + torch.rand(17, 3) / 4,
        scored=torch.ones(sum(lengths), dtype=torch.bool),
        clip_first=last - torch.tensor(lengths) + 1,
        clip_last=last,
    )


class Echo(nn.Module):
    """Returns the keypoints it sees as a pose with zero depth; remembers the windows it saw."""

    def __init__(self, predicts: Literal["every_frame", "middle_frame"]) -> None:
        super().__init__()
        self.predicts = predicts
        self.seen: list[Tensor] = []

    def forward(self, screen: Float[Tensor, "B T J 2"]) -> Float[Tensor, "B T_out J 3"]:
        """All frames, or the middle one."""
        self.seen.append(screen)
        pose_m = nn.functional.pad(screen, (0, 1))
        middle = screen.shape[1] // 2
        return pose_m if self.predicts == "every_frame" else pose_m[:, middle : middle + 1]


class PlaceInWindow(nn.Module):
    """Says for every frame how far it is from the middle of its window."""

    def forward(self, screen: Float[Tensor, "B T J 2"]) -> Float[Tensor, "B T J 3"]:
        """The same number for each joint."""
        frames = screen.shape[1]
        place = torch.arange(frames, dtype=screen.dtype) - frames // 2
        return rearrange(place, "t -> 1 t 1 1").expand(*screen.shape[:3], 3)


def predicted(network: nn.Module, table: FrameTable, *, frames: int, stride: int, flip: bool = False, **options):
    return trained_model(network, frames=frames).predict(table, stride=stride, flip_averaging=flip, **options)


def cut(table: FrameTable, windows: Windows, *, frames: int, every_frame: bool = True):
    """Keypoints, poses and which poses count, mirrored where the windows are."""
    screen, pose_m, counted = gather_windows(table, windows, frames=frames)
    pose_m, counted = (keep_predicted_frames(values, every_frame=every_frame) for values in (pose_m, counted))
    return *(mirror_windows(values, windows.flipped, H36M_17) for values in (screen, pose_m)), counted


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("predicts", "frames", "stride"),
    [
        ("every_frame", 1, 1), ("every_frame", 9, 1), ("every_frame", 9, 2), ("every_frame", 9, 3),
        ("every_frame", 9, 9), ("every_frame", 27, 9), ("every_frame", 27, 27),
        ("middle_frame", 1, 1), ("middle_frame", 9, 1), ("middle_frame", 27, 1),
    ],
)  # fmt: skip
def test_windows_put_back_together_are_the_clips(predicts, frames, stride, flip):
    table = numbered_table(LENGTHS)
    poses_m = predicted(Echo(predicts), table, frames=frames, stride=stride, flip=flip, batch_windows=4)
    torch.testing.assert_close(poses_m, nn.functional.pad(table.screen, (0, 1)), rtol=0, atol=4e-6 if flip else 0)


@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of_clips, half=st.integers(0, 13), data=st.data())
def test_clips_of_any_lengths_come_back_whole_at_any_stride(lengths, half, data):
    frames = 2 * half + 1
    stride = data.draw(st.integers(1, frames))
    table = numbered_table(lengths)
    poses_m = predicted(Echo("every_frame"), table, frames=frames, stride=stride)
    assert torch.equal(poses_m[..., :2], table.screen)


@pytest.mark.parametrize(("frames", "stride"), [(9, 1), (9, 3), (27, 9), (27, 27), (9, 2)])
def test_each_frame_is_predicted_by_the_window_in_whose_middle_it_lies(frames, stride):
    lengths = (30, 1, 28, 9)
    places = predicted(PlaceInWindow(), numbered_table(lengths), frames=frames, stride=stride)[:, 0, 0]
    expected = [number % stride - stride // 2 for length in lengths for number in range(length)]
    assert places.tolist() == expected


@pytest.mark.parametrize("stride", [1, 3, 9])
def test_a_window_holds_frames_of_one_clip_alone(stride):
    lengths = (5, 1, 12)
    model = Echo("every_frame")
    predicted(model, numbered_table(lengths), frames=9, stride=stride)
    clip_of = np.repeat(np.arange(len(lengths)), lengths)
    for window in torch.cat(model.seen).floor()[:, :, 0, 0].int().tolist():
        assert len({int(clip_of[number]) for number in window}) == 1


def test_a_clip_is_predicted_the_same_alone_and_among_others():
    clips = walker_clips((13, 5, 20))
    model = Echo("every_frame")
    together = frame_table(clips, root=0, device=CPU)
    alone = frame_table(clips[1:2], root=0, device=CPU)
    model.forward = lambda screen: nn.functional.pad(screen.mean(1, keepdim=True).expand_as(screen), (0, 1))
    poses_m = predicted(model, together, frames=9, stride=3)[13:18]
    assert torch.equal(poses_m, predicted(model, alone, frames=9, stride=3))


@settings(max_examples=20, deadline=None)
@given(lengths=lengths_of_clips, half=st.integers(0, 13), stride=st.sampled_from([1, 3, 9, 27]))
def test_edges_are_replicated_as_a_loop_over_frames_would(lengths, half, stride):
    table = numbered_table(lengths)
    windows = tile_windows(table, stride=stride)
    index, own = window_index(table, windows, frames=2 * half + 1)
    for window in range(len(windows)):
        clip = int(windows.clip[window])
        first = sum(lengths[:clip])
        for place in range(2 * half + 1):
            wanted = int(windows.middle[window]) + place - half
            kept = wanted
            while kept < first:
                kept += 1
            while kept > first + lengths[clip] - 1:
                kept -= 1
            assert index[window, place] == kept
            assert own[window, place] == (wanted == kept)


def test_poses_at_repeated_ends_do_not_count():
    table = numbered_table((5, 3))
    windows = Windows(torch.tensor([0, 7]), torch.tensor([0, 1]), torch.tensor([False, False]))
    screen, pose_m, own = cut(table, windows, frames=5)
    assert own.tolist() == [[False, False, True, True, True], [True, True, True, False, False]]
    assert screen[:, :, 0, 0].int().tolist() == [[0, 0, 0, 1, 2], [5, 6, 7, 7, 7]]
    assert pose_m[:, :, 0, 0].int().tolist() == [[0, 0, 0, 1, 2], [5, 6, 7, 7, 7]]


def test_a_model_of_the_middle_frame_gets_the_middle_pose_alone():
    table = numbered_table((20,))
    windows = tile_windows(table, stride=1)
    screen, pose_m, own = cut(table, windows, frames=9, every_frame=False)
    assert screen.shape == (20, 9, 17, 2)
    assert pose_m.shape == (20, 1, 17, 3)
    assert torch.equal(pose_m[:, 0], table.pose_m)
    assert own.all()
    assert own.shape == (20, 1)


def test_mirroring_twice_is_the_identity():
    values = torch.rand(4, 9, 17, 3)
    assert torch.equal(mirror(mirror(values, H36M_17), H36M_17), values)
    assert not torch.equal(mirror(values, H36M_17), values)


def test_mirroring_negates_x_exchanges_left_and_right_and_keeps_the_confidence():
    values = torch.zeros(17, 3)
    values[H36M_17.joints.index("RWrist")] = torch.tensor([0.3, 0.1, 0.9])
    mirrored = mirror(values, H36M_17)
    torch.testing.assert_close(mirrored[H36M_17.joints.index("LWrist")], torch.tensor([-0.3, 0.1, 0.9]))
    assert not mirrored[H36M_17.joints.index("RWrist")].any()


def test_the_mirrored_screen_is_the_screen_of_the_mirrored_person():
    camera = Camera("centred", 1000, 1000, (1100.0, 1100.0), (500.0, 500.0))
    joints_m = camera_at(0.4).camera_from_world.apply(walker_joints_world_m(6))
    swapped_m = joints_m[:, list(H36M_17.mirrored)] * np.array([-1, 1, 1])
    screen, of_mirrored = (
        torch.from_numpy(screen_from_pixels(project(joints, camera), camera)) for joints in (joints_m, swapped_m)
    )
    torch.testing.assert_close(mirror(screen, H36M_17), of_mirrored, rtol=0, atol=1e-12)


def test_flipped_windows_are_mirrored_windows_and_the_others_are_plain():
    table = frame_table(walker_clips((12,)), root=0, device=CPU)
    plain = tile_windows(table, stride=3)
    flipped = Windows(plain.middle, plain.clip, torch.tensor([True, False, True, False]))
    screen, pose_m, own = cut(table, plain, frames=9)
    mixed_screen, mixed_pose_m, mixed_own = cut(table, flipped, frames=9)
    for number, mirrored in enumerate(flipped.flipped.tolist()):
        expected = [mirror(part[number], H36M_17) if mirrored else part[number] for part in (screen, pose_m)]
        assert torch.equal(mixed_screen[number], expected[0])
        assert torch.equal(mixed_pose_m[number], expected[1])
    assert torch.equal(own, mixed_own)


class OneSided(nn.Module):
    """Adds 1 to the x of every joint: a prejudice that flip averaging must cancel."""

    def forward(self, screen: Float[Tensor, "B T J 2"]) -> Float[Tensor, "B T J 3"]:
        """The keypoints, shifted."""
        return nn.functional.pad(screen, (0, 1)) + torch.tensor([1.0, 0.0, 0.0])


def test_flip_averaging_cancels_a_prejudice_for_one_side():
    table = frame_table(walker_clips((12, 5)), root=0, device=CPU)
    expected = nn.functional.pad(table.screen, (0, 1))
    shifted_m = predicted(OneSided(), table, frames=9, stride=3, flip=False)
    torch.testing.assert_close(shifted_m, expected + torch.tensor([1.0, 0, 0]), rtol=0, atol=1e-6)
    averaged_m = predicted(OneSided(), table, frames=9, stride=3, flip=True)
    torch.testing.assert_close(averaged_m, expected, rtol=0, atol=1e-6)


def test_the_model_is_put_into_evaluation_mode_and_no_gradient_is_kept():
    model = nn.Sequential(Echo("every_frame"), nn.Linear(3, 3)).train()
    poses_m = predicted(model, numbered_table((5,)), frames=3, stride=1)
    assert not model.training
    assert not poses_m.requires_grad


@pytest.mark.parametrize("stride", [1, 2, 3, 9])
def test_predictions_of_wanted_frames_do_not_depend_on_which_are_wanted(stride):
    table = frame_table(walker_clips((40, 13, 1)), root=0, device=CPU)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(2), nn.Conv1d(9, 9, 1), nn.Linear(34, 51), nn.Unflatten(2, (17, 3)))
    everything_m = predicted(model, table, frames=9, stride=stride)
    for wanted in (every_nth(table, 7), torch.arange(54) == 20, torch.zeros(54, dtype=torch.bool)):
        poses_m = predicted(model, table, frames=9, stride=stride, wanted=wanted)
        torch.testing.assert_close(poses_m[wanted], everything_m[wanted], rtol=0, atol=1e-6)
        covered = poses_m.flatten(1).any(1)
        assert covered.sum() <= stride * wanted.sum()


@pytest.mark.parametrize("flip", [False, True])
def test_features_of_a_frame_are_computed_once_and_shared_by_its_windows(flip, monkeypatch):
    monkeypatch.setattr("pipeline.poses.predict.CPU_CHUNK_FRAMES", 40)  # 54 windows of 9 frames, four at a time
    table = frame_table(walker_clips((40, 13, 1)), root=0, device=CPU)
    torch.manual_seed(0)
    model = build("poseformer", frames=9, in_joints=17, out_joints=17, in_channels=2, embed_dim_ratio=4, heads=2)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    seen: list[int] = []
    model.spatial_features = lambda screen: seen.append(len(screen)) or type(model).spatial_features(model, screen)
    poses_m = predicted(model, table, frames=9, stride=1, flip=flip)
    assert seen == [54] * (1 + flip)
    index, _ = window_index(table, tile_windows(table, stride=1), frames=9)
    with torch.no_grad():
        expected_m = model(table.screen[index])
        if flip:
            expected_m = (expected_m + mirror(model(mirror(table.screen[index], H36M_17)), H36M_17)) / 2
    torch.testing.assert_close(poses_m, expected_m[:, 0], rtol=0, atol=1e-5)
    assert poses_m.std() > 0.01


@pytest.mark.parametrize("batch_windows", [1, 7, 512])
def test_predictions_do_not_depend_on_the_size_of_the_batches(batch_windows):
    table = numbered_table(LENGTHS)
    poses_m = predicted(Echo("every_frame"), table, frames=9, stride=3, batch_windows=batch_windows)
    assert torch.equal(poses_m[..., :2], table.screen)


@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of_clips, half=st.integers(0, 6), seed=st.integers(0, 99), flips=st.booleans())
def test_an_epoch_of_tiles_predicts_each_frame_once_and_with_flips_once_in_each_mirror(lengths, half, seed, flips):
    table = numbered_table(lengths)
    windows = epoch_of(table, frames=2 * half + 1, every_frame=True, flips=flips, seed=seed)
    seen = frames_that_count(table, windows, frames=2 * half + 1)
    mirrors = (False, True) if flips else (False,)
    assert seen == Counter({(frame, mirrored): 1 for frame in range(len(table)) for mirrored in mirrors})


@pytest.mark.parametrize("flips", [False, True])
def test_an_epoch_of_a_middle_frame_model_has_a_window_around_each_frame(flips):
    table = numbered_table(LENGTHS)
    windows = epoch_of(table, frames=9, every_frame=False, flips=flips)
    middles = sorted(zip(windows.middle.tolist(), windows.flipped.tolist(), strict=True))
    assert middles == [(frame, mirrored) for frame in range(len(table)) for mirrored in ((False, True)[: 1 + flips])]


def epoch_of(table: FrameTable, *, frames: int, seed: int = 0, **options) -> Windows:
    every_frame = options.pop("every_frame", True)
    sampling = Sampling(**{"flips": False, "clip_weights": None, "at_most": None} | options)
    generator = torch.Generator().manual_seed(seed)
    return epoch_windows(table, sampling, frames=frames, every_frame=every_frame, generator=generator)


def frames_that_count(table: FrameTable, windows: Windows, *, frames: int) -> Counter[tuple[int, bool]]:
    """How often each frame is to be predicted, plain and mirrored."""
    index, own = window_index(table, windows, frames=frames)
    mirrored = windows.flipped[:, None].expand_as(index)
    return Counter(zip(index[own].tolist(), mirrored[own].tolist(), strict=True))


def listed(windows: Windows) -> list[tuple[int, int, bool]]:
    return list(zip(windows.middle.tolist(), windows.clip.tolist(), windows.flipped.tolist(), strict=True))


@pytest.mark.parametrize("balanced", [False, True])
def test_the_order_of_an_epoch_depends_on_the_generator_alone(balanced):
    table = numbered_table(LENGTHS)
    weights = torch.linspace(1, 2, len(LENGTHS), dtype=torch.float64) if balanced else None
    first = listed(epoch_of(table, frames=5, flips=True, clip_weights=weights, seed=3))
    torch.manual_seed(99)
    torch.rand(5)
    assert listed(epoch_of(table, frames=5, flips=True, clip_weights=weights, seed=3)) == first
    assert listed(epoch_of(table, frames=5, flips=True, clip_weights=weights, seed=4)) != first


def test_the_tiles_of_an_epoch_begin_at_any_place():
    table = numbered_table((100,))
    phases = {min(epoch_of(table, frames=9, seed=seed).middle.tolist()) for seed in range(200)}
    assert phases == set(range(-4, 5))


def test_an_epoch_is_in_random_order():
    assert epoch_of(numbered_table((100,)), frames=1).middle.tolist() != list(range(100))


@pytest.mark.parametrize(("at_most", "in_order", "drawn"), [(10, 10, 10), (30, 24, 30), (None, 24, 24)])
def test_an_epoch_has_at_most_the_wanted_number_of_windows_or_just_as_many_drawn_ones(at_most, in_order, drawn):
    table = numbered_table((12,))
    for weights, expected in ((None, in_order), (torch.ones(1, dtype=torch.float64), drawn)):
        windows = epoch_of(table, frames=9, every_frame=False, flips=True, at_most=at_most, clip_weights=weights)
        assert len(windows) == expected


@pytest.mark.parametrize(("balance", "rare"), [(1.0, 0.5), (0.5, 1 / (1 + 9**0.5)), (0.0, 0.1)])
def test_actions_are_drawn_in_proportion_to_their_frames_to_the_power_of_one_minus_balance(balance, rare):
    clips = [walker_clip(90 * 5, take="a", action="common"), walker_clip(90 * 4, take="b", action="common")]
    clips.append(walker_clip(90, take="c", action="rare"))
    table = frame_table(clips, root=0, device=CPU)
    weights = balancing_weights([clip.action for clip in clips], list(map(len, clips)), balance)
    drawn = torch.cat(
        [epoch_of(table, frames=9, every_frame=False, clip_weights=weights, seed=seed).clip for seed in range(20)]
    )
    assert (drawn == 2).float().mean().item() == pytest.approx(rare, abs=0.015)  # four standard errors at 18000 draws


def test_weights_are_a_power_of_the_frames_of_the_action_over_all_its_clips():
    clips = walker_clips((4, 9, 12))  # walking: 16 frames, running: 9
    weights = balancing_weights([clip.action for clip in clips], list(map(len, clips)), 0.5)
    assert weights is not None
    assert weights.tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 4])
    assert balancing_weights([clip.action for clip in clips], list(map(len, clips)), 0.0) is None


def test_a_recording_without_an_action_is_not_left_without_a_weight():
    with pytest.raises(ValueError, match="longer"):
        balancing_weights(["walking"], [4, 9], 0.5)


def test_the_table_holds_normalised_keypoints_and_poses_relative_to_the_root():
    clips = walker_clips((4, 7))
    table = frame_table(clips, root=3, device=CPU)
    assert len(table) == 11
    assert table.clip_first.tolist() == [0, 4]
    assert table.clip_last.tolist() == [3, 10]
    for clip, first in zip(clips, (0, 4), strict=True):
        own = slice(first, first + len(clip))
        screen = clip.pixels / 500 - np.array([1, 0.9], dtype=np.float32)
        np.testing.assert_allclose(table.screen[own].numpy(), screen, rtol=0, atol=1e-6)
        relative_m = clip.joints_camera_m - clip.joints_camera_m[:, 3:4]
        np.testing.assert_array_equal(table.pose_m[own].numpy(), relative_m)
    assert not table.pose_m[:, 3].any()


def test_the_confidence_is_the_third_channel():
    clips = walker_clips((4, 7), with_confidence=True)
    table = frame_table(clips, root=0, device=CPU)
    assert table.screen.shape == (11, 17, 3)
    assert clips[1].confidence is not None
    np.testing.assert_array_equal(table.screen[4:, :, 2].numpy(), clips[1].confidence)


def test_every_nth_frame_is_counted_from_the_start_of_each_clip():
    marked: Bool[Tensor, " N"] = every_nth(numbered_table((5, 1, 4)), 3)
    assert marked.int().tolist() == [1, 0, 0, 1, 0, 1, 1, 0, 0, 1]
    assert every_nth(numbered_table((5, 1)), 1).all()


@settings(max_examples=50, deadline=None)
@given(frames=st.integers(1, 10_000), fraction=st.floats(0.001, 1))
def test_a_stretch_is_the_wanted_part_of_the_clip(frames, fraction):
    first, end = stretch(frames, fraction)
    assert 0 <= first < end <= frames
    assert end - first == max(1, round(frames * fraction))


@pytest.mark.parametrize("frames", [1, 7, 100, 2478, 10**11])
def test_a_stretch_begins_where_the_hash_of_the_length_says(frames):
    number = sum(byte << (8 * place) for place, byte in enumerate(hashlib.sha256(str(frames).encode()).digest()[:4]))
    kept = max(1, round(frames / 10))
    first, _ = stretch(frames, 0.1)
    assert first == number * (frames - kept + 1) // (2**32 - 1)


def test_a_stretch_ends_with_the_clip_where_the_hash_is_the_largest_number_there_is():
    frames = 3_610_672_442  # the first whose hash begins with 32 ones
    assert hashlib.sha256(str(frames).encode()).hexdigest().startswith("ffffffff")
    assert stretch(frames, 0.25) == (frames - round(frames / 4), frames)


def test_the_stretch_of_all_frames_is_the_clip():
    assert [stretch(frames, 1.0) for frames in range(1, 50)] == [(0, frames) for frames in range(1, 50)]


@settings(max_examples=25, deadline=None)
@given(lengths=lengths_of_clips, step=st.integers(1, 4), fraction=st.sampled_from([0.1, 0.5, 1.0]), data=st.data())
def test_frames_to_score_are_those_that_a_loop_over_each_clips_scored_frames_picks(lengths, step, fraction, data):
    scored = data.draw(st.lists(st.booleans(), min_size=sum(lengths), max_size=sum(lengths)))
    for first in np.cumsum([0, *lengths[:-1]]):
        scored[first] = True  # a clip has a frame to score
    table = replace(numbered_table(lengths), scored=torch.tensor(scored))
    expected, first = [], 0
    for length in lengths:
        own = [frame for frame in range(first, first + length) if scored[frame]]
        begin, end = stretch(len(own), fraction) if fraction < 1 else (0, len(own))
        expected += own[begin:end:step]
        first += length
    assert torch.nonzero(every_nth(table, step, fraction=fraction))[:, 0].tolist() == expected


def test_clips_are_scored_over_their_own_wanted_frames():
    clips = walker_clips((6, 1, 9))
    table = frame_table(clips, root=0, device=CPU)
    poses_m = table.pose_m + torch.randn(table.pose_m.shape, generator=torch.Generator().manual_seed(0)) / 50
    wanted = every_nth(table, 2)
    scores = score_actions(clips, poses_m, table, wanted)
    for number, (first, last) in enumerate([(0, 6), (6, 7), (7, 16)]):
        own = slice(first, last, 2)
        assert scores[number][:2] == (clips[number], clips[number].action)
        assert scores[number][2] == clip_scores(poses_m[own].numpy(), table.pose_m[own].numpy())


def test_a_clip_that_cannot_be_scored_is_named():
    clips = walker_clips((6, 4))
    table = frame_table(clips, root=0, device=CPU)
    poses_m = table.pose_m.clone()
    poses_m[8, 3] = torch.nan
    with pytest.raises(UserError, match=r"^clip walk_1/at_2\.5/0: frame 2: the prediction is not finite"):
        score_actions(clips, poses_m, table, torch.ones(10, dtype=torch.bool))


def test_windows_and_how_they_are_sampled_stay_as_they_were_made():
    sampling = Sampling(flips=False, clip_weights=None, at_most=None)
    for value in (tile_windows(numbered_table((9,)), stride=3), sampling):
        for field in fields(value):
            with pytest.raises(FrozenInstanceError):
                setattr(value, field.name, getattr(value, field.name))


def test_windows_are_chosen_by_slice_and_by_index():
    windows = tile_windows(numbered_table((9,)), stride=3)
    order: Int[Tensor, " V"] = torch.tensor([2, 0])
    assert listed(windows[1:]) == listed(windows)[1:]
    assert listed(windows[order]) == [listed(windows)[2], listed(windows)[0]]
