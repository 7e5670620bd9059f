"""Lift keypoints with onnxruntime and numpy alone.

    python docs/examples/lift_with_onnxruntime.py model.onnx keypoints.npy 1920x1080 poses.npy

keypoints.npy holds (frames, keypoints, 3): x and y in pixels and the confidence, all joints seen, at the model's rate
and in its layout, which are in the model's metadata. poses.npy gets (frames, joints, 3), metres relative to the root.
"""

import json
import sys

import numpy as np
import onnxruntime

model_file, keypoints_file, size, poses_file = sys.argv[1:]
model = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
about = {key: json.loads(value) for key, value in model.get_modelmeta().custom_metadata_map.items()}
frames = about["frames"]
keypoints = np.load(keypoints_file)[..., : about["card"]["in_channels"]].astype(np.float32)
width, height = (int(side) for side in size.split("x"))

screen = keypoints.copy()  # x from -1 to 1, as long as the lens is like that of the training data
screen[..., :2] = keypoints[..., :2] / width * 2 - [1, height / width]
padded = np.concatenate([screen[:1].repeat(frames // 2, 0), screen, screen[-1:].repeat(frames // 2, 0)])
windows = np.stack([padded[first : first + frames] for first in range(len(screen))])  # one around each frame
poses_m = np.concatenate(
    [model.run(["pose_m"], {"screen": windows[at : at + 64]})[0] for at in range(0, len(windows), 64)]
)
np.save(poses_file, poses_m[:, poses_m.shape[1] // 2])  # the window's middle frame
