"""Arranges what SLEAP's files hold as people: dense arrays of its analysis files, and the tables of its projects.

Source: sleap-io's documentation of both formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.lift.formats.arrays import split_frames
from pipeline.lift.people import Detection, Detections
from pipeline.lift.reading.entries import Json, describe, get_field, get_list, read_whole
from pipeline.lift.reading.frame_numbers import choose_video
from pipeline.system.errors import UserError

USER = 0  # the instance_type of a label
FIRST_FROM_CENTRES = 1.1  # format_id since which a pixel's centre is at whole numbers; before it was at halves
COLUMNS = {
    "frames": ("video", "frame_idx", "instance_id_start", "instance_id_end"),
    "instances": (
        "instance_id", "instance_type", "skeleton", "track", "from_predicted", "point_id_start", "point_id_end",
    ),
    "points": ("x", "y", "visible"),
    "pred_points": ("x", "y", "visible", "score"),
}  # fmt: skip
Table = dict[str, np.ndarray]  # columns of equal lengths by name
Content = dict[str, Any]  # what a file holds, by name: arrays, tables, texts and numbers


def arrange_analysis(content: Content, path: Path) -> Detections:
    """Arranges `tracks` (people, frames, joints, 2), `node_names` and, if any, `point_scores` and `track_names`.

    Raises UserError if their shapes do not match.
    """
    tracks, joints = content["tracks"], tuple(content["node_names"])
    scores = content.get("point_scores", np.ones(tracks.shape[:3]))
    if tracks.shape[3] != 2 or scores.shape != tracks.shape[:3] or len(joints) != tracks.shape[2]:
        expected = "tracks (people, frames, joints, 2), and point_scores and node_names to match"
        raise UserError(f"{path}: expected {expected}, found {tracks.shape}, {scores.shape} and {len(joints)} names")
    scores = np.where(np.isnan(scores), 1, scores)  # of what a user placed
    people = np.concatenate([tracks, np.where(np.isfinite(tracks).all(-1), scores, 0)[..., None]], axis=3)
    names = content.get("track_names", [])
    frames = split_frames(list(people), names if len(set(names)) == len(people) else ())
    return Detections(None, frames, joints=joints)


def arrange_project(content: Content, path: Path, video: str | None) -> Detections:
    """Arranges the `tables` of a project and its JSON: `metadata` with its skeletons, `videos_json`, `tracks_json`.

    A label goes before the prediction that it corrects. Raises UserError if the project has several videos and `video`
    chooses none, people of several skeletons, or tables that do not fit each other.
    """
    tables = content["tables"]
    instances, rows = tables["instances"], tables["frames"]
    for table, columns in COLUMNS.items():
        for column in columns:
            get_field(tables[table], column, where=f"{path}: {table}")
    videos = [_parse(text, f"{path}: videos_json") for text in content["videos_json"]]
    ids = _number_videos(videos, rows["video"].tolist(), path)
    titles = _name_videos(videos)
    if not len(rows["video"]):
        return Detections(None, {})
    used = [place for place, number in enumerate(ids) if number in set(rows["video"].tolist())]
    chosen = choose_video([titles[place] for place in used], where=f"{path}: videos_json", video=video)
    place = next(place for place in used if titles[place] == chosen)
    joints = _name_joints(_parse(content["metadata"], f"{path}: metadata"), instances["skeleton"].tolist(), path)
    people = _name_people([_parse(text, f"{path}: tracks_json") for text in content["tracks_json"]], path)
    frames: dict[int, list[Detection]] = {}
    for row in np.flatnonzero(rows["video"] == ids[place]):
        first, last = int(rows["instance_id_start"][row]), int(rows["instance_id_end"][row])
        number = int(rows["frame_idx"][row])
        kept = _keep_labels({name: column[first:last] for name, column in instances.items()})
        frames.setdefault(number, []).extend(
            _read_instance(content, first + instance, people, f"{path}: frame {number}") for instance in kept
        )
    about = videos[place].get("backend") or {}
    shape, rate = about.get("shape"), about.get("fps")
    is_known = isinstance(shape, list) and len(shape) == 4 and all(isinstance(side, int) and side > 0 for side in shape)
    size_px = (shape[2], shape[1]) if isinstance(shape, list) and is_known else None
    rate_hz = float(rate) if isinstance(rate, (int, float)) and 0 < rate < np.inf else None
    return Detections(None, frames, size_px, rate_hz, joints=joints)


def _parse(text: str, where: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: expected whole JSON, found {describe(text)}") from error


def _number_videos(videos: Sequence[Json], used: Sequence[int], path: Path) -> list[int]:
    """Returns the number that frames have for each video: its place, or that of its pictures within the file."""
    for video in videos:
        get_field(video, "filename", "backend", where=f"{path}: videos_json")
    if all(number < len(videos) for number in used):
        return list(range(len(videos)))
    inside = [re.match(r"video([0-9]+)/", str((video.get("backend") or {}).get("dataset"))) for video in videos]
    return [int(match[1]) if match else place for place, match in enumerate(inside)]


def _name_videos(videos: Sequence[Json]) -> list[str]:
    """Returns the names of the videos' files, with their folders if names come twice."""
    sources = [video.get("source_video") or video for video in videos]
    paths = [str(source.get("filename") or (source.get("backend") or {}).get("filename")) for source in sources]
    names = [re.split(r"[\\/]", path)[-1] for path in paths]
    return [name if names.count(name) == 1 else path for name, path in zip(names, paths, strict=True)]


def _name_people(tracks: Sequence[Json], path: Path) -> list[str]:
    """Returns the names of tracks, with their numbers if names come twice."""
    if any(not isinstance(track, list) or len(track) != 2 for track in tracks):
        raise UserError(f"{path}: tracks_json: expected lists of a number and a name, found others")
    names = [str(track[1]) for track in tracks]
    return [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names)]


def _name_joints(about: object, used: Sequence[int], path: Path) -> tuple[str, ...]:
    where = f"{path}: metadata"
    skeletons = get_list(get_field(about, "skeletons", where=where), where=where, of="skeletons")
    nodes = get_list(get_field(about, "nodes", where=where), where=where, of="nodes")
    wanted = set(used) or {0}
    if len(wanted) > 1 or not max(wanted) < len(skeletons):
        raise UserError(f"{where}: expected people of one skeleton of the file, found {len(wanted)}")
    listed = get_list(get_field(skeletons[wanted.pop()], "nodes", where=where), where=where, of="nodes")
    places = [read_whole(get_field(node, "id", where=where), where=where) for node in listed]
    if any(not 0 <= place < len(nodes) for place in places):
        raise UserError(f"{where}: expected the numbers of {len(nodes)} nodes, found others")
    return tuple(str(get_field(nodes[place], "name", where=where)) for place in places)


def _keep_labels(instances: Table) -> list[int]:
    """Returns which instances of a frame count: of a prediction and the label that corrects it the label."""
    is_label = instances["instance_type"] == USER
    corrected = set(instances["from_predicted"][is_label].tolist())
    tracks = set(instances["track"][is_label].tolist()) - {-1}
    return [
        place
        for place, (own, track) in enumerate(zip(instances["instance_id"], instances["track"], strict=True))
        if is_label[place] or (int(own) not in corrected and int(track) not in tracks)
    ]


def _read_instance(content: Content, row: int, people: Sequence[str], where: str) -> Detection:
    """Returns a person; a joint that is marked as not visible is not seen."""
    tables = content["tables"]
    kind, track, first, last = (
        int(tables["instances"][name][row]) for name in ("instance_type", "track", "point_id_start", "point_id_end")
    )
    points = {name: column[first:last] for name, column in tables["points" if kind == USER else "pred_points"].items()}
    scores = points.get("score", np.ones(len(points["x"])))
    keypoints = np.stack([points["x"], points["y"], scores], axis=1).astype(float)
    keypoints[:, :2] -= 0.5 if content["format_id"] < FIRST_FROM_CENTRES else 0
    keypoints[~points["visible"].astype(bool)] = np.nan
    if track >= len(people):
        raise UserError(f"{where}: expected a track of the {len(people)} in tracks_json, found number {track}")
    return Detection(keypoints, people[track] if track >= 0 else None)
