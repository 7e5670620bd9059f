"""Poselift: 2D human keypoints over time -> 3D joints, as a reproducible experiment.

One clip's walk. `prepare_data` reads raw files: video becomes clips with `pixels (F J_in 2)` and `joints_camera_m (F
J_out 3)`, motion capture becomes takes with `joints_world_m (F 17 3)`, which `mocap` films wherever it is needed.
`poses.windows` puts all clips of a split into flat tensors, `screen` and `pose_m`, and cuts windows of T frames from
them: `(B T J_in C)` and `(B T J_out 3)`. `models.build(...)` lifts, `train` fits it and writes a checkpoint.
`evaluate_5runs` predicts every frame of every test clip once and scores in mm. `report` makes the table.

Axes, always in this order: B or W windows, T frames of a window, F frames of a clip, N frames of all clips, J joints, D
features, C channels; the last is 2 or 3 coordinates. Units: metres, pixels, seconds; millimetres in metrics and reports
alone. Frames: world Z up; camera x right, y down, z forward. Poses are relative to the root, which is the first output
joint.
"""

from pipeline.system.device import limit_instructions

limit_instructions()  # before numpy and torch are loaded
