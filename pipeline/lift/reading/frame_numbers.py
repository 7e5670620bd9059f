"""Finds the frame numbers in the names of files and images, and the videos that the names tell apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.system.errors import UserError

FRAME_KEYS = ("frame", "frame_id", "frame_index", "frame_idx", "frame_number", "frameIndex", "frame_num")
ENDING = re.compile(r"\.[A-Za-z]\w*$")
# What tools put behind the name of an image: OpenPose "_keypoints", Roboflow "_jpg.rf." and a hash.
BEHIND = re.compile(r"(_keypoints|[_.](jpe?g|png|bmp|webp)\.rf\.\w+)$", re.IGNORECASE)
SEPARATORS = " _-./\\"
LONGEST_DIGITS = 18  # of a number of 64 bits


def number_names(names: Sequence[str], *, where: str, video: str | None) -> dict[str, int]:
    """Returns the frame number in each of the different names of one video, by name.

    Names of one video differ in one number alone, wherever it stands: in walk_0001_cam2.jpg the first. Where several
    numbers differ, the one with most values is the frame's, and the rest of the name tells the videos apart; `video`
    chooses one of them. Raises UserError, naming `where` they stand, if a name has no number, two have the same, or the
    names are of several videos and none is chosen.
    """
    parts = {name: _split_name(name) for name in names}
    if len(names) == 1 and len(parts[names[0]]) == 1:  # one picture needs no number
        choose_video(names, where=where, video=video)
        return {names[0]: 0}
    for name, pieces in parts.items():
        if len(pieces) == 1:
            raise UserError(f"{where}: expected a frame number in the name, found none in '{name}'")
    alike: dict[tuple[str, ...], list[str]] = {}  # names that differ in numbers alone
    for name, pieces in parts.items():
        alike.setdefault(tuple(pieces[::2]), []).append(name)
    videos: dict[str, list[tuple[str, int]]] = {}
    for members in alike.values():
        columns = list(zip(*(parts[name][1::2] for name in members), strict=True))
        place, same = _find_frame_column(columns)
        for name in members:
            kept = [piece for at, piece in enumerate(parts[name]) if at % 2 == 0 or at // 2 not in same]
            label = "".join(kept[: 2 * place + 1]).rstrip(SEPARATORS) + "".join(kept[2 * place + 1 :])
            videos.setdefault(label, []).append((name, int(parts[name][2 * place + 1])))
    chosen = videos[choose_video(list(videos), where=where, video=video)]
    by_number: dict[int, str] = {}
    for name, number in chosen:
        if number in by_number:
            raise UserError(f"{where}: expected each frame once, found '{by_number[number]}' and '{name}'")
        by_number[number] = name
    return dict(chosen)


def choose_video(videos: Sequence[str], *, where: str, video: str | None) -> str:
    """Returns the one video there is, or `video`. Raises UserError if there are several, or none of that name."""
    named = [name or "(a number alone)" for name in videos]
    if video is None and len(videos) == 1:
        return videos[0]
    if video in named:
        return videos[named.index(video)]
    found = f"{len(named)}: {', '.join(sorted(named)[:12])}{' ...' if len(named) > 12 else ''}"
    if video is None:
        raise UserError(f"{where}: expected one video, found {found}; choose one with --video NAME")
    raise UserError(f"{where}: --video: expected one of {found}, found '{video}'")


def refuse_video(video: str | None, *, where: str) -> None:
    """Raises UserError if a video is named for an input that names none."""
    if video is not None:
        raise UserError(f"{where}: --video: expected none for a file that does not tell videos apart, found '{video}'")


def _find_frame_column(columns: Sequence[tuple[str, ...]]) -> tuple[int, set[int]]:
    """Returns which number of names that differ in numbers alone is the frame's, and which go up together with it."""
    values = [len(set(column)) for column in columns]
    most = [place for place, count in enumerate(values) if count == max(values)]
    together = {place for place in most if len(set(zip(columns[place], columns[most[0]], strict=True))) == max(values)}
    if len(columns[0]) == 1 or len(together) == 1:
        return most[-1], {most[-1]}
    spans = {place: int(max(columns[place], key=int)) - int(min(columns[place], key=int)) for place in together}
    return min(together, key=lambda place: spans[place]), together


def _split_name(name: str) -> list[str]:
    """Returns text, digits, text, ... of a name without its ending and what tools put behind it."""
    bare = BEHIND.sub("", ENDING.sub("", BEHIND.sub("", name)))
    pieces = re.split(r"([0-9]+)", bare)
    if any(len(digits) > LONGEST_DIGITS for digits in pieces[1::2]):  # a hash, not numbers
        pieces = re.split(rf"((?<![0-9])[0-9]{{1,{LONGEST_DIGITS}}}(?![0-9]))", bare)
    return pieces
