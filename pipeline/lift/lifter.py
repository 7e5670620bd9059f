"""A trained model on somebody's own 2D keypoints: recordings to people in 3D, whole or frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from pipeline.config.rows import parse_row
from pipeline.lift.lift_input import (
    check_inside,
    chosen_tracks,
    in_model_layout,
    shared_joints,
    track_from_array,
    without_weak,
)
from pipeline.lift.model_input import (
    TRAINED_ON,
    TrainedOn,
    camera_with_lens,
    place_unseen,
    screen_as_trained,
)
from pipeline.lift.people import Lifted, LiftedPerson, Recording, Track
from pipeline.lift.root_path import fit_root_path, smooth_depth
from pipeline.lift.smoothing import FILTERS, smoothed
from pipeline.lift.stream import Stream
from pipeline.lift.tracks import fill_gaps
from pipeline.lift.upright import fit_upright
from pipeline.poses.checkpoint import CARD, Card, load_checkpoint
from pipeline.poses.frames import find_runs, interpolate
from pipeline.poses.geometry import Camera, rays_from_pixels
from pipeline.poses.windows import FrameTable, predict_frames
from pipeline.system.errors import UserError

SHIPPED = Path("data/checkpoints/cmu-det-f27-rayformer/run0")
STRIDE = 9
MAX_GAP_S = 0.25
MIN_CONFIDENCE = 0.3
DEPTH_SIGMA_S = 0.2
LEAST_SHARE_SEEN = 0.5  # of the joints, for a frame to be lifted
BODY_SIZE = "body size: as the model predicts it, which scales the distance too"


@dataclass(frozen=True)
class Lifter:
    """A trained model ready for other people's keypoints.

    `trained` says what its training data had in common. `stride` is how many frames in the middle of each window of
    `card.frames` are kept: 1 is the most exact and slowest. Joints of confidence below `min_confidence` count as not
    seen; those not seen for at most `max_gap_s` seconds are filled in.
    """

    model: nn.Module
    card: Card
    trained: TrainedOn
    stride: int
    max_gap_s: float
    min_confidence: float

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
        """The checkpoint in the folder `path`, on the CPU.

        `rate_hz` is the rate of the data it was trained on, where that is another than pipeline.lift.model_input knows.
        Raises UserError if there is no checkpoint, it is damaged, its rate is not known, or an option is out of range.
        """
        if not 0 <= max_gap_s < np.inf:
            raise UserError(f"longest gap: expected seconds from 0, found {max_gap_s:g}")
        if not 0 <= min_confidence <= 1:
            raise UserError(f"least confidence: expected a number from 0 to 1, found {min_confidence:g}")
        folder = Path(path)
        if not (folder / CARD).is_file():
            fetch = f"; fetch it with: dvc pull {folder.parent}" if folder == SHIPPED else ""
            raise UserError(f"{folder}: expected a checkpoint, found none{fetch}")
        model, card = load_checkpoint(folder, device=torch.device("cpu"))
        dataset = parse_row(card.row).dataset
        trained = TRAINED_ON.get(dataset, TrainedOn(None, None))
        if rate_hz is not None:
            trained = replace(trained, rate_hz=rate_hz)
        if trained.rate_hz is None or not 0 < trained.rate_hz < np.inf:
            found = "none known" if trained.rate_hz is None else f"{trained.rate_hz:g}"
            raise UserError(f"{folder}: expected the rate of its training data in Hz over 0, found {found}")
        most = card.frames if model.predicts == "every_frame" else 1
        if stride is not None and not 1 <= stride <= most:
            raise UserError(f"stride: expected 1 to {most} frames, found {stride}")
        return cls(model, card, trained, min(STRIDE, most) if stride is None else stride, max_gap_s, min_confidence)

    @property
    def middle_only(self) -> bool:
        """Whether the model predicts the middle frame of its window alone."""
        return self.model.predicts == "middle_frame"

    @property
    def rate_hz(self) -> float:
        """The rate at which the model was trained and sees every recording."""
        assert self.trained.rate_hz is not None
        return self.trained.rate_hz

    def __call__(
        self,
        keypoints: Float[np.ndarray, "F J C"],
        *,
        layout: str,
        image_size: tuple[int, int],
        rate_hz: float | None = None,
        camera: Camera | None = None,
    ) -> Float[np.ndarray, "F J_out 3"]:
        """Joints in the camera frame (x right, y down, z forward), in metres, relative to the root, of one person.

        `keypoints` are pixels x and y, and the confidence from 0 to 1 as third channel where there is one; NaN is not
        seen. `image_size` is width and height in pixels. `rate_hz` is the model's own unless given. With `camera` its
        lens is used, else one is assumed. Frames that cannot be lifted are NaN. Raises UserError if the array does not
        fit the layout.
        """
        track = track_from_array(keypoints, layout=layout)
        recording = Recording("keypoints", len(track), (track,), rate_hz or self.rate_hz, image_size, camera)
        person = self.lift(recording).people[0]
        return person.joints_camera_m

    def stream(
        self,
        *,
        layout: str,
        image_size: tuple[int, int],
        rate_hz: float | None = None,
        camera: Camera | None = None,
        latency: int = 0,
    ) -> Stream:
        """One person frame by frame: push(frame) returns the pose `latency` frames before the newest. See Stream."""
        in_skeleton, out_skeleton = self.card.skeletons
        camera = camera or camera_with_lens(image_size)[0]

        def as_seen(keypoints: Float[np.ndarray, "J C"]) -> tuple[Float[np.ndarray, "J 2"], Float[np.ndarray, " J"]]:
            track = in_model_layout(track_from_array(keypoints[None], layout=layout), in_skeleton)
            pixels, confidence = without_weak(track.pixels, track.confidence, least=self.min_confidence)
            return pixels[0], confidence[0]

        step = (rate_hz or self.rate_hz) / self.rate_hz
        if not 0 < step < np.inf:
            raise UserError(f"rate: expected Hz over 0, found {rate_hz}")
        return Stream(
            self.model,
            in_skeleton,
            out_skeleton,
            frames=self.card.frames,
            middle_only=self.middle_only,
            step=step,
            latency=latency,
            longest_gap=int(self.max_gap_s * step * self.rate_hz + 1e-9),
            least_seen=LEAST_SHARE_SEEN * len(in_skeleton.joints),
            as_seen=as_seen,
            screen=lambda pixels, confidence: self._screen(pixels, confidence, camera),
        )

    def lift(
        self,
        recording: Recording,
        *,
        persons: Sequence[str] | None = None,
        focal_px: float | None = None,
        fov_deg: float | None = None,
        smooth: str | None = None,
    ) -> Lifted:
        """The recording's people (all of them, or those named) in 3D. `smooth` is one of smoothing.FILTERS.

        Raises UserError if there is nobody to lift, the size of the image is not known, most keypoints lie outside it,
        or an option is wrong.
        """
        if smooth is not None and smooth not in FILTERS:
            raise UserError(f"smooth: expected one of {', '.join(FILTERS)}, found '{smooth}'")
        tracks = chosen_tracks(recording, persons)
        camera, rate_hz, assumed = self._what_is_known(recording, focal_px=focal_px, fov_deg=fov_deg)
        check_inside(recording.source, tracks, (camera.width_px, camera.height_px))
        people = tuple(self._lift_track(track, camera, rate_hz=rate_hz, smooth=smooth) for track in tracks)
        if not any(np.isfinite(person.joints_camera_m).any() for person in people):
            raise UserError(f"{recording.source}: expected a person with at least half of the joints, found none")
        _, out_skeleton = self.card.skeletons
        in_camera_m = [person.joints_camera_m + person.root_camera_m[:, None] for person in people]
        world_from_camera, evidence = fit_upright(in_camera_m, out_skeleton, rate_hz=rate_hz)
        return Lifted(
            source=recording.source,
            frames=recording.frames,
            rate_hz=rate_hz,
            image_size_px=(camera.width_px, camera.height_px),
            in_skeleton=self.card.skeletons[0],
            out_skeleton=out_skeleton,
            camera=camera,
            world_from_camera=world_from_camera,
            people=people,
            assumed=(*assumed, BODY_SIZE, f"upright: {evidence}"),
            card=self.card.model_dump() | {"rate_hz": self.rate_hz},
        )

    def _what_is_known(
        self, recording: Recording, *, focal_px: float | None, fov_deg: float | None
    ) -> tuple[Camera, float, list[str]]:
        """The camera, the rate, and in words what of them is assumed."""
        camera, assumed = recording.camera, []
        if camera is None or camera.focal_px is None or focal_px is not None or fov_deg is not None:
            if recording.image_size_px is None:
                raise UserError(
                    f"{recording.source}: expected the size of the image, found none: give it as WIDTHxHEIGHT"
                )
            camera, assumption = camera_with_lens(recording.image_size_px, focal_px=focal_px, fov_deg=fov_deg)
            assumed += [assumption] if assumption else []
        rate_hz = recording.rate_hz
        if rate_hz is None:
            rate_hz = self.rate_hz
            assumed.append(f"rate: {rate_hz:g} Hz, the model's")
        if not 0 < rate_hz < np.inf:
            raise UserError(f"{recording.source}: expected a rate in Hz over 0, found {rate_hz:g}")
        return camera, rate_hz, assumed

    def _lift_track(self, track: Track, camera: Camera, *, rate_hz: float, smooth: str | None) -> LiftedPerson:
        in_skeleton, out_skeleton = self.card.skeletons
        track = in_model_layout(track, in_skeleton)
        pixels, confidence = without_weak(track.pixels, track.confidence, least=self.min_confidence)
        pixels, confidence, filled = fill_gaps(pixels, confidence, longest_frames=int(self.max_gap_s * rate_hz + 1e-9))
        usable = np.isfinite(pixels).all(-1).mean(1) >= LEAST_SHARE_SEEN
        joints_m = np.full((len(track), len(out_skeleton.joints), 3), np.nan)
        root_m = np.full((len(track), 3), np.nan)
        parts = find_runs(usable)
        if parts:
            screens = [self._screen(pixels[part], confidence[part], camera) for part in parts]
            for part, poses_m in zip(parts, self._predict(screens, rate_hz=rate_hz), strict=True):
                joints_m[part] = poses_m
            seen = shared_joints(in_skeleton, out_skeleton)
            ins, outs = (list(side) for side in zip(*seen, strict=True))
            rays = rays_from_pixels(pixels[:, ins], camera)
            root_m = fit_root_path(joints_m[:, outs], rays, confidence[:, ins])
            root_m = smooth_depth(root_m, sigma_frames=DEPTH_SIGMA_S * rate_hz)
        if smooth is not None:
            joints_m = smoothed(joints_m, method=smooth, rate_hz=rate_hz)
            root_m = smoothed(root_m, method=smooth, rate_hz=rate_hz)
        return LiftedPerson(track.person, track.first_frame, pixels, confidence, filled, joints_m, root_m)

    def _screen(
        self, pixels: Float[np.ndarray, "F J 2"], confidence: Float[np.ndarray, "F J"], camera: Camera
    ) -> Float[np.ndarray, "F J C"]:
        placed = place_unseen(pixels, self.card.skeletons[0])
        return screen_as_trained(placed, confidence, camera, self.trained, channels=self.card.in_channels)

    def _predict(
        self, screens: Sequence[Float[np.ndarray, "_F J C"]], *, rate_hz: float
    ) -> list[Float[np.ndarray, "_F J_out 3"]]:
        """Poses of each stretch of frames: brought to the model's rate, predicted by windows, and brought back."""
        in_skeleton, out_skeleton = self.card.skeletons
        step = rate_hz / self.rate_hz  # frames of the recording per frame of the model
        times = [np.arange(int(np.ceil((len(screen) - 1) / step - 1e-9)) + 1) * step for screen in screens]
        resampled = [interpolate(screen, own) for screen, own in zip(screens, times, strict=True)]
        table = frame_table_of(resampled, out_joints=len(out_skeleton.joints))
        poses_m = predict_frames(
            self.model,
            table,
            in_skeleton,
            out_skeleton,
            frames=self.card.frames,
            stride=self.stride,
            flip_averaging=True,
            batch_windows=64,
        )
        ends = np.cumsum([len(own) for own in times])[:-1]
        parts = np.split(poses_m.numpy().astype(float), ends)
        return [interpolate(part, np.arange(len(s)) / step) for part, s in zip(parts, screens, strict=True)]


def frame_table_of(screens: Sequence[Float[np.ndarray, "_F J C"]], *, out_joints: int) -> FrameTable:
    """Stretches of frames without known poses end to end, as pipeline.poses.windows wants them."""
    last = torch.tensor([len(screen) for screen in screens]).cumsum(0) - 1
    screen = torch.from_numpy(np.concatenate(screens)).float()
    lengths = torch.tensor([len(screen) for screen in screens])
    return FrameTable(
        screen=screen,
        pose_m=torch.zeros(len(screen), out_joints, 3),
        scored=torch.ones(len(screen), dtype=torch.bool),
        clip_first=last - lengths + 1,
        clip_last=last,
    )
