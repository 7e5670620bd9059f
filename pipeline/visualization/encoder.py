"""Encodes pictures as a film, MP4 or GIF: at the right rate, of the right length, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

from imageio_ffmpeg import count_frames_and_secs, write_frames

from pipeline.system.errors import UserError
from pipeline.system.files import new_file

FASTEST_GIF_HZ = 50  # the fastest that browsers play a GIF; faster films are thinned out to it
X264 = ("-threads", "1", "-preset", "veryfast", "-crf", "20")  # half of medium's time, for files as large
LENGTH_TOLERANCE_S = 0.1  # a GIF holds its frames for whole hundredths of a second


def encode_film(
    path: Path, pictures: Iterable[memoryview], *, size_px: tuple[int, int], rate_hz: float, frames: int
) -> None:
    """Writes so many pictures, RGBA of width and height `size_px`, as .mp4 (H.264) or as .gif of half the size.

    Raises UserError if the suffix is another one or the encoder fails; then there is no file.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise UserError(f"{path}: expected a film's name to end in .mp4 or .gif, found '{path.suffix}'")
    rate = Fraction(rate_hz).limit_denominator(1001)  # 30000/1001 is the rate of NTSC
    how: dict[str, object]
    if path.suffix == ".mp4":
        how = {"codec": "libx264", "output_params": [*X264, "-movflags", "+faststart"]}
    else:
        thinned = f"fps={FASTEST_GIF_HZ}," if rate > FASTEST_GIF_HZ else ""
        colours = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none"
        filters = f"{thinned}scale={size_px[0] // 2}:-1:flags=area,{colours}"
        how = {"codec": "gif", "pix_fmt_out": "pal8", "output_params": ["-vf", filters]}
    # The writer itself would round the rate to 0.01 Hz, choose a quality, and let the encoder talk to the terminal.
    how |= {"pix_fmt_in": "rgba", "input_params": ["-r", str(rate)], "quality": None, "ffmpeg_log_level": "quiet"}
    with new_file(path) as partial:
        try:
            with closing(write_frames(partial, size_px, **how)) as encoder:
                encoder.send(None)  # starts it
                for picture in pictures:
                    encoder.send(picture)
            _, seconds = count_frames_and_secs(str(partial))
        except (OSError, RuntimeError) as error:  # the encoder has ended early, or left nothing that can be read
            raise UserError(f"{path}: expected the film to be encoded, found: {str(error).splitlines()[0]}") from error
        expected_s = frames / rate_hz
        if abs(seconds - expected_s) > LENGTH_TOLERANCE_S:  # a full disk, for example
            raise UserError(f"{path}: expected a film of {expected_s:.2f} s, the encoder wrote {seconds:.2f} s")
