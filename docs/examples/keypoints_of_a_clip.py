"""Write the detected keypoints of a prepared clip as a file that `poselift lift` takes.

python docs/examples/keypoints_of_a_clip.py data/prepared/cmu-det-f27-rayformer/test TAKE/CAMERA soccer.npz
"""

import sys
from pathlib import Path

import numpy as np

from pipeline.poses.clips import read_split

split, name, out = sys.argv[1:]
clip = next(clip for clip in read_split(Path(split)) if clip.name.startswith(name))
np.savez_compressed(
    out,
    pixels=clip.pixels[None],
    confidence=clip.confidence[None],
    layout="h36m17",
    rate_hz=30.0,
    image_size=(clip.camera.width_px, clip.camera.height_px),
)
