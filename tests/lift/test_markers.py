"""TRC and C3D: read back by others' libraries, the markers are the joints, and what was not seen is not there."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from pipeline.lift.body.height import scale_people
from pipeline.lift.outputs import OUTPUTS
from pipeline.lift.outputs.markers import write_c3d
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from tests.fixtures.lifted_walker import lifted_person, lifted_walkers
from tests.fixtures.walker import RATE_HZ

c3d = pytest.importorskip("c3d", reason="expected c3d, found none: make setup installs it")
trc = pytest.importorskip("trc", reason="expected trc-data-reader, found none: make setup installs it")
OPENSIM = {"RFoot": "RAnkle", "LFoot": "LAnkle", "Thorax": "Neck", "Neck/Nose": "Neck_Nose"}


def write(output, folder, lifted):
    file, write_files = OUTPUTS[output]
    write_files(folder / file, lifted)


def read(path):
    """Returns the header and the positions (F 3) of each marker, by trc-data-reader."""
    content = trc.TRCData()
    content.load(str(path))
    return content, {name: np.array(content[name], dtype=float) for name in content["Markers"]}


def test_markers_are_the_joints_in_metres_y_up_under_names_of_opensim(tmp_path):
    late = lifted_person(10, name="late/one", first_frame=25, start=2.0)
    lifted = lifted_walkers(lifted_person(40), late, frames=40)
    write("trc", tmp_path, lifted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["person0_person_1.trc", "person1_late_one.trc"]
    content, markers_m = read(tmp_path / "person1_late_one.trc")
    assert (content["Units"], float(content["DataRate"]), int(content["NumFrames"])) == ("m", RATE_HZ, 10)
    np.testing.assert_array_equal(content["Frame#"], np.arange(26, 36))
    np.testing.assert_allclose(content["Time"], np.arange(25, 35) / RATE_HZ, atol=1e-6)
    joints_m = lifted.joints_world_m(late)
    for joint, name in enumerate(H36M_17.joints):
        expected_m = joints_m[:, joint][:, [0, 2, 1]] * [1, 1, -1]
        np.testing.assert_allclose(markers_m[OPENSIM.get(name, name)], expected_m, atol=1e-6)
    assert (markers_m["Head"][:, 1] > markers_m["RAnkle"][:, 1] + 1).all()


def test_a_joint_that_was_not_seen_is_nan_in_a_row_of_all_columns(tmp_path):
    person = lifted_person(6)
    pixels = person.pixels.copy()
    pixels[2:4, H36M_17.joints.index("RWrist")] = np.nan
    write("trc", tmp_path, lifted_walkers(replace(person, pixels=pixels), frames=6))
    (path,) = tmp_path.iterdir()
    _, markers_m = read(path)
    assert np.isnan(markers_m["RWrist"]).all(1).tolist() == [False, False, True, True, False, False]
    assert np.isfinite(markers_m["LWrist"]).all()
    rows = path.read_text(encoding="utf-8").splitlines()[6:]
    assert {len(row.split("\t")) for row in rows} == {2 + 3 * 17}  # OpenSim refuses rows that are shorter


@pytest.mark.parametrize(
    ("heights_m", "said"),
    [({}, "body height 1.80 m, as the model predicts it"), ({"person 1": 1.62}, "body height 1.62 m, as stated")],
)
def test_the_first_line_says_how_tall_the_person_is(tmp_path, heights_m, said):
    people, _ = scale_people([lifted_person(5)], heights_m, H36M_17, unstated="")
    write("trc", tmp_path, lifted_walkers(*people, frames=5))
    content, _ = read(tmp_path / "person0_person_1.trc")
    assert content["FileName"] == f"person0_person_1.trc, {said}"


def test_somebody_who_was_never_lifted_has_no_file(tmp_path):
    person = replace(lifted_person(4), root_camera_m=np.full((4, 3), np.nan))
    write("trc", tmp_path, lifted_walkers(person, frames=4))
    assert list(tmp_path.iterdir()) == []


def read_c3d(path):
    """Returns names, rate, first frame, and x, y, z, residual and count of cameras of each point (F J 5)."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="missing parameter ANALOG")  # of which a lift has none
        reader = c3d.Reader(file)
        frames = list(reader.read_frames())
        names = [name.strip() for name in reader.point_labels]
        return names, reader.point_rate, frames[0][0], np.stack([points for _, points, _ in frames])


def test_points_of_c3d_are_the_joints_in_millimetres(tmp_path):
    late = lifted_person(10, name="late", first_frame=25, start=2.0)
    pixels = late.pixels.copy()
    pixels[4, H36M_17.joints.index("RWrist")] = np.nan
    lifted = lifted_walkers(replace(late, pixels=pixels), frames=40)
    write("c3d", tmp_path, lifted)
    names, rate_hz, first, points = read_c3d(tmp_path / "person0_late.c3d")
    assert names == [OPENSIM.get(name, name) for name in H36M_17.joints]
    assert (rate_hz, first, len(points)) == (RATE_HZ, 26, 10)
    seen = points[..., 3] >= 0
    assert np.argwhere(~seen).tolist() == [[4, H36M_17.joints.index("RWrist")]]
    expected_mm = 1000 * lifted.joints_world_m(late)[..., [0, 2, 1]] * [1, 1, -1]
    np.testing.assert_allclose(points[seen][:, :3], expected_mm[seen], atol=0.01)


def test_a_recording_that_c3d_cannot_count_is_refused(tmp_path):
    person = lifted_person(3, first_frame=65534)
    with pytest.raises(UserError, match=r"p\.c3d: expected at most 65535 frames, which C3D can count, found 65537"):
        write_c3d(tmp_path / "p.c3d", lifted_walkers(person, frames=65537), person)
    assert list(tmp_path.iterdir()) == []
