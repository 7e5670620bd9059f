"""Lifts somebody's 2D keypoints with a trained model: recordings to people in 3D, whole or frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from pipeline.config.rows import SHIPPED, refuse_missing_checkpoint
from pipeline.lift.body.bones import hold_bones
from pipeline.lift.body.feet import lock_feet
from pipeline.lift.body.height import match_heights, scale_people
from pipeline.lift.body.smoothing import FILTERS, smooth_motion
from pipeline.lift.image_poses import ADULT_BONES_M, metres_from_image
from pipeline.lift.input import (
    InputSettings,
    build_camera,
    encode_keypoints,
    find_camera,
    find_usable_frames,
    make_track,
    see_person,
    select_tracks,
)
from pipeline.lift.people import Lifted, LiftedPerson, LiftOptions, Recording, Track
from pipeline.lift.plausibility import check_plausible, describe_lying, explain_nobody
from pipeline.lift.scene.root_path import fit_root_path, smooth_depth
from pipeline.lift.scene.upright import LEVEL_CAMERA, fit_upright
from pipeline.lift.scene.view import aim_view, turn_pixels
from pipeline.lift.stream import Stream
from pipeline.poses.checkpoint import Card
from pipeline.poses.frames import find_runs, interpolate
from pipeline.poses.geometry import Camera, RigidTransform, rays_from_pixels
from pipeline.poses.predict import TrainedModel, load_trained_model
from pipeline.poses.windows import FrameTable, spans_of_lengths
from pipeline.system.errors import UserError

STRIDE = 9  # frames kept from the middle of each window: a third of the shipped model's
MAX_GAP_S = 0.25
MIN_CONFIDENCE = 0.3
DEPTH_SIGMA_S = 0.2  # of the Gaussian over time that filters a person's distance
WINDOWS_PER_BATCH = 64
PASSES = 2  # a third changes errors by less than 0.1 mm
BODY_SIZE = {  # of people whose height is not stated, by the unit of the model's poses
    "m": "as the model predicts it, which scales the distance too",
    "half_image_widths": f"an adult's, bones of {ADULT_BONES_M:g} m in all, as the model predicts none",
}


@dataclass(frozen=True)
class Lifter:
    """A trained model ready for other people's keypoints.

    `stride` is how many frames in the middle of each window of `card.frames` are kept: 1 is the most exact and slowest.
    People are lifted `passes` times, each in a view turned upright by what the pass before told; 0 lifts them once, in
    the camera's own view.
    """

    model: TrainedModel
    settings: InputSettings
    stride: int
    passes: int = PASSES

    @classmethod
    def load(
        cls,
        path: Path | str = SHIPPED,
        *,
        rate_hz: float | None = None,
        stride: int | None = None,
        max_gap_s: float = MAX_GAP_S,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> Lifter:
        """Loads the checkpoint in the folder `path`, on the CPU.

        `rate_hz` is the rate of the data it was trained on, where its card does not say it. Raises UserError if there
        is no checkpoint, it is damaged, its rate is not known, or an option is out of range.
        """
        if not 0 <= max_gap_s < np.inf:
            raise UserError(f"longest gap: expected seconds from 0, found {max_gap_s:g}")
        if not 0 <= min_confidence <= 1:
            raise UserError(f"least confidence: expected a number from 0 to 1, found {min_confidence:g}")
        folder = Path(path)
        refuse_missing_checkpoint(folder)
        model = load_trained_model(folder, device=torch.device("cpu"))
        card = model.card
        rate_hz = card.rate_hz if rate_hz is None else rate_hz
        if rate_hz is None or not 0 < rate_hz < np.inf:
            found = "none known" if rate_hz is None else f"{rate_hz:g}"
            raise UserError(f"{folder}: expected the rate of its training data in Hz over 0, found {found}")
        most = card.frames if model.predicts_every_frame else 1
        if stride is not None and not 1 <= stride <= most:
            raise UserError(f"stride: expected 1 to {most} frames, found {stride}")
        settings = InputSettings(card.skeletons[0], card.in_channels, rate_hz, card.focal, max_gap_s, min_confidence)
        passes = PASSES if card.output_unit == "m" else 0  # poses in the image are those of the camera's own view
        return cls(model, settings, min(STRIDE, most) if stride is None else stride, passes)

    @property
    def card(self) -> Card:
        """The card of the model's checkpoint."""
        return self.model.card

    @property
    def rate_hz(self) -> float:
        """The rate at which the model was trained and sees every recording."""
        return self.settings.rate_hz

    def __call__(
        self,
        keypoints: Float[np.ndarray, "F J C"],
        *,
        layout: str,
        image_size: tuple[int, int],
        rate_hz: float | None = None,
        camera: Camera | None = None,
        options: LiftOptions = LiftOptions(),
    ) -> Float[np.ndarray, "F J_out 3"]:
        """Returns a person's joints in the camera frame (x right, y down, z forward), in metres, relative to the root.

        `keypoints` are pixels x and y, and the confidence from 0 to 1 as third channel where there is one; NaN is not
        seen. `image_size` is width and height in pixels. `rate_hz` is the model's unless given. With `camera` its lens
        is used, else one is assumed. Frames that cannot be lifted are NaN. Raises UserError if the array does not fit
        the layout, no frame can be lifted, an option is wrong or, unless `options.force`, it does not look like a
        person in the image.
        """
        track = make_track(keypoints, layout=layout)
        rate_hz = self.rate_hz if rate_hz is None else rate_hz
        recording = Recording("keypoints", len(track), (track,), rate_hz, image_size, camera)
        return self.lift(recording, options).people[0].joints_camera_m

    def stream(
        self,
        *,
        layout: str,
        image_size: tuple[int, int],
        rate_hz: float | None = None,
        camera: Camera | None = None,
        latency: int = 0,
    ) -> Stream:
        """Returns a stream of one person: push(frame) returns the pose `latency` frames before the newest. See Stream.

        Options are as in a call. Raises UserError if the rate or the latency cannot be.
        """
        rate_hz = self.rate_hz if rate_hz is None else rate_hz
        camera = camera or build_camera(image_size)[0]
        return Stream(self.model, self.settings, layout=layout, camera=camera, rate_hz=rate_hz, latency=latency)

    def lift(self, recording: Recording, options: LiftOptions = LiftOptions()) -> Lifted:
        """Lifts the recording's people, or those that `options` names.

        Raises UserError if there is nobody to lift, the size of the image is not known, an option is wrong or, unless
        `options.force`, the keypoints do not look like people in the image.
        """
        if options.smooth is not None and options.smooth not in FILTERS:
            raise UserError(f"smooth: expected one of {', '.join(FILTERS)}, found '{options.smooth}'")
        tracks = select_tracks(recording, options.persons)
        heights_m = match_heights(options.body_height_m, [track.person for track in tracks], recording.source)
        camera, assumed = find_camera(recording, options)
        rate_hz = self.rate_hz if recording.rate_hz is None else recording.rate_hz
        if recording.rate_hz is None:
            assumed.append(f"rate: {rate_hz:g} Hz, the model's")
        if not 0 < rate_hz < np.inf:
            raise UserError(f"{recording.source}: expected a rate in Hz over 0, found {rate_hz:g}")
        if not options.force:
            check_plausible(recording.source, tracks, (camera.width_px, camera.height_px), rate_hz=rate_hz)
        if lying := describe_lying(tracks):
            assumed.append(lying)
        people = self._lift_people(tracks, camera, rate_hz=rate_hz)
        if options.smooth is not None:
            people = tuple(_smooth_person(person, method=options.smooth, rate_hz=rate_hz) for person in people)
        if not any(np.isfinite(person.joints_camera_m).any() for person in people):
            raise UserError(f"{recording.source}: {explain_nobody(tracks, self.settings.min_confidence)}")
        in_skeleton, out_skeleton = self.card.skeletons
        people, body_sizes = scale_people(people, heights_m, out_skeleton, unstated=BODY_SIZE[self.card.output_unit])
        world_from_camera, evidence = self._fit_upright(people, rate_hz=rate_hz)
        assumed += [*body_sizes, f"upright: {evidence}"]
        assumed += [
            f"sides: arms or legs exchanged back in {person.swapped} of {len(person)} frames of person {person.person}"
            for person in people
            if person.swapped
        ]
        if options.lock_feet:
            people, moved = lock_feet(people, out_skeleton, world_from_camera, rate_hz=rate_hz)
            assumed.append(moved)
        return Lifted(
            source=recording.source,
            frames=recording.frames,
            rate_hz=rate_hz,
            image_size_px=(camera.width_px, camera.height_px),
            in_skeleton=in_skeleton,
            out_skeleton=out_skeleton,
            camera=camera,
            world_from_camera=world_from_camera,
            people=people,
            assumed=tuple(assumed),
            card=self.card.model_dump() | {"rate_hz": self.rate_hz},
        )

    def _lift_people(self, tracks: Sequence[Track], camera: Camera, *, rate_hz: float) -> tuple[LiftedPerson, ...]:
        """Returns the people in the camera frame, seen in the last pass upright as the pass before it told."""
        joints_out = len(self.card.skeletons[1].joints)
        people = tuple(see_person(track, self.settings, joints_out=joints_out, rate_hz=rate_hz) for track in tracks)
        if not self.passes:
            return tuple(self._lift_person(person, camera, None, rate_hz=rate_hz) for person in people)
        up = LEVEL_CAMERA
        for last in range(self.passes):
            people = tuple(self._lift_person(person, camera, up, rate_hz=rate_hz) for person in people)
            if last < self.passes - 1:
                up = self._fit_upright(people, rate_hz=rate_hz)[0].rotation[2]
        return hold_bones(people, self.card.skeletons[1])

    def _fit_upright(self, people: Sequence[LiftedPerson], *, rate_hz: float) -> tuple[RigidTransform, str]:
        placed_m = [person.placed_camera_m for person in people]
        return fit_upright(placed_m, self.card.skeletons[1], rate_hz=rate_hz)

    def _lift_person(
        self, person: LiftedPerson, camera: Camera, up_camera: Float[np.ndarray, "3"] | None, *, rate_hz: float
    ) -> LiftedPerson:
        """Returns a person in the camera frame, lifted in the view that has him in the middle and `up_camera` upright.

        Without `up_camera` in the camera's own view.
        """
        in_skeleton, out_skeleton = self.card.skeletons
        pixels, view, view_from_camera = person.pixels, camera, np.eye(3)
        if up_camera is not None:
            view_from_camera = aim_view(pixels, camera, up_camera)
            pixels, view = turn_pixels(pixels, camera, view_from_camera)
        joints_m = self._predict(pixels, person.confidence, view, rate_hz=rate_hz)
        names = [name for name in in_skeleton.joints if name in out_skeleton.joints]
        ins, outs = ([skeleton.joints.index(name) for name in names] for skeleton in (in_skeleton, out_skeleton))
        rays = rays_from_pixels(pixels[:, ins], view)
        root_m = fit_root_path(joints_m[:, outs], rays, person.confidence[:, ins])
        root_m = smooth_depth(root_m, sigma_frames=DEPTH_SIGMA_S * rate_hz)
        return replace(person, joints_camera_m=joints_m @ view_from_camera, root_camera_m=root_m @ view_from_camera)

    def _predict(
        self,
        pixels: Float[np.ndarray, "F J 2"],
        confidence: Float[np.ndarray, "F J"],
        camera: Camera,
        *,
        rate_hz: float,
    ) -> Float[np.ndarray, "F J_out 3"]:
        """Returns poses relative to the root, in metres, NaN in frames with too few joints.

        Each run of frames with enough joints is brought to the model's rate, predicted window by window, and brought
        back; windows do not reach from one run into another.
        """
        in_skeleton, out_skeleton = self.card.skeletons
        joints_m = np.full((len(pixels), len(out_skeleton.joints), 3), np.nan)
        runs = find_runs(find_usable_frames(pixels))
        if not runs:
            return joints_m
        step = rate_hz / self.rate_hz  # frames of the recording per frame of the model
        screens = []
        for run in runs:
            screen = encode_keypoints(pixels[run], confidence[run], camera, self.settings)
            times = np.arange(int(np.ceil((len(screen) - 1) / step - 1e-9)) + 1) * step
            screens.append(interpolate(screen, times))
        table = build_frame_table(screens, out_joints=len(out_skeleton.joints))
        poses = self.model.predict(table, flip_averaging=True, stride=self.stride, batch_windows=WINDOWS_PER_BATCH)
        poses_m = poses.numpy().astype(float)
        if self.card.output_unit == "half_image_widths":
            root_screen = np.concatenate(screens)[:, in_skeleton.root, :2]
            poses_m = metres_from_image(poses_m, root_screen, camera, out_skeleton)
        parts = np.split(poses_m, np.cumsum([len(screen) for screen in screens])[:-1])
        for run, part_m in zip(runs, parts, strict=True):
            joints_m[run] = interpolate(part_m, np.arange(run.stop - run.start) / step)
        return joints_m


def _smooth_person(person: LiftedPerson, *, method: str, rate_hz: float) -> LiftedPerson:
    joints_m, root_m = (
        smooth_motion(values, method=method, rate_hz=rate_hz)
        for values in (person.joints_camera_m, person.root_camera_m)
    )
    return replace(person, joints_camera_m=joints_m, root_camera_m=root_m)


def build_frame_table(screens: Sequence[Float[np.ndarray, "_F J C"]], *, out_joints: int) -> FrameTable:
    """Returns runs of frames without known poses, end to end, as pipeline.poses.windows wants them."""
    first, last = spans_of_lengths([len(screen) for screen in screens])
    screen = torch.from_numpy(np.concatenate(screens)).float()
    return FrameTable(
        screen=screen,
        pose_m=torch.zeros(len(screen), out_joints, 3),
        scored=torch.ones(len(screen), dtype=torch.bool),
        clip_first=first,
        clip_last=last,
    )
