"""Reads the frames of a video, upright and with their time stamps, and what its file says of it, with ffmpeg."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, NamedTuple

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from jaxtyping import Float, UInt8

from pipeline.system.errors import UserError

# High dynamic range, by the name of its transfer function in ffmpeg: HLG and PQ (ITU-R BT.2100).
HDR_TRANSFERS = ("arib-std-b67", "smpte2084")
HDR_TO_SDR = (
    "setparams=color_primaries=bt2020:colorspace=bt2020nc,"  # as BT.2100 has it, for files that do not say it
    "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,"  # 203 cd/m2: white, by ITU-R BT.2408
    "tonemap=mobius:desat=0,zscale=transfer=bt709:matrix=bt709:range=tv,format=yuv420p"
)
VIDEO_ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
LATEST_MESSAGES = 5


class VideoFrame(NamedTuple):
    """One frame: when it is shown, in seconds after the first, and its RGB picture, upright and standard range."""

    time_s: float
    picture: UInt8[np.ndarray, "H W 3"]


People = list[Float[np.ndarray, "J 3"]]  # in a frame: x and y in pixels, and confidence, of each joint


@dataclass(frozen=True)
class VideoAbout:
    """What the header of a video file says, None where it does not.

    `nominal_rate_hz` is a mean that frames need not keep to. `tags` are all that the camera wrote, by name.
    """

    duration_s: float | None
    nominal_rate_hz: float | None
    is_hdr: bool
    tags: Mapping[str, str]


def describe_video(path: Path) -> VideoAbout:
    """Returns what the header of a video says. Raises UserError if the file is missing or holds no video."""
    if not path.is_file():
        raise UserError(f"{path}: expected a video, found none")
    call = [get_ffmpeg_exe(), "-hide_banner", "-nostdin", *_input(path)]
    header = subprocess.run(call, capture_output=True, check=False).stderr.decode("utf-8", "replace")
    stream = re.search(r"Stream #.*?: Video: (?!.*\(attached pic\)).*", header)
    if stream is None:
        raise UserError(f"{path}: expected a video, found: {_last_line(header)}")
    duration = re.search(r"Duration: (\d+):(\d+):([\d.]+)", header)
    rate = re.search(r"([\d.]+)(k?) fps", stream[0])
    return VideoAbout(
        None if duration is None else 3600 * int(duration[1]) + 60 * int(duration[2]) + float(duration[3]),
        None if rate is None else float(rate[1]) * (1000 if rate[2] else 1),
        any(transfer in stream[0] for transfer in HDR_TRANSFERS),
        dict(re.findall(r"^ {4,}(\S+) *: (.*\S) *$", header, flags=re.MULTILINE)),
    )


def read_frames(path: Path) -> Generator[VideoFrame, None, None]:
    """Yields every frame that the file holds, in the order of time and at most two at a time in memory.

    Pictures are turned upright as the camera noted, and high dynamic range is mapped to that of screens. Raises
    UserError if the file is missing or holds no video, it cannot be decoded to its end, or a frame has no time stamp.
    """
    filters = [HDR_TO_SDR] if describe_video(path).is_hdr else []
    call = [get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-loglevel", "level+info", "-nostats", *_input(path)]
    call += ["-map", "0:V:0", "-fps_mode", "passthrough", "-vf", ",".join([*filters, "showinfo=checksum=0"])]
    call += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert isinstance(process.stdout, BufferedReader)
        assert process.stderr is not None
        stamps: SimpleQueue[_Stamp | None] = SimpleQueue()
        messages: list[str] = []
        listener = Thread(target=_listen, args=(process.stderr, stamps, messages), daemon=True)
        listener.start()
        try:
            first: _Stamp | None = None
            while (stamp := stamps.get()) is not None:
                first = first or stamp
                if stamp.time_s is None or first.time_s is None:
                    raise UserError(f"{path}: expected a time stamp on each frame, found none on frame {stamp.number}")
                picture = bytearray(3 * first.width_px * first.height_px)
                if process.stdout.readinto(picture) < len(picture):
                    break
                shape = (first.height_px, first.width_px, 3)
                yield VideoFrame(float(stamp.time_s - first.time_s), np.frombuffer(picture, np.uint8).reshape(shape))
            if process.wait() or first is None:
                found = " ".join(messages[-LATEST_MESSAGES:]) or "no frames"
                raise UserError(f"{path}: expected a video that can be decoded, found: {found}")
        finally:
            process.kill()
            listener.join()


class _Stamp(NamedTuple):
    number: int
    time_s: Fraction | None
    width_px: int
    height_px: int


def _listen(stream: IO[bytes], stamps: SimpleQueue[_Stamp | None], messages: list[str]) -> None:
    """Sorts what ffmpeg says into the time stamps of frames, which end with None, and errors."""
    unit_s = Fraction(1)
    for line in stream:
        text = line.decode("utf-8", "replace").strip()
        if unit := re.search(r"config in time_base: (\d+)/(\d+)", text):
            unit_s = Fraction(int(unit[1]), int(unit[2]))
        elif frame := re.search(r"\] n: *(\d+) pts: *(\S+) .* s:(\d+)x(\d+) ", text):
            ticks = re.fullmatch(r"-?\d+", frame[2])
            time_s = None if ticks is None else int(frame[2]) * unit_s
            stamps.put(_Stamp(int(frame[1]), time_s, int(frame[3]), int(frame[4])))
        elif re.search(r"\[(error|fatal|panic)\]", text):
            messages.append(re.sub(r"\[.*?\] ?", "", text))
    stamps.put(None)


def _input(path: Path) -> list[str]:
    """Returns ffmpeg's options to read a file whatever its name, and nothing that the file refers to elsewhere."""
    return ["-protocol_whitelist", "file", "-i", f"file:{path}"]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "At least one output file" not in line and line.strip()]
    return lines[-1] if lines else "nothing"
