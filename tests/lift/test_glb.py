"""GLB: valid by the Khronos validator, and its animation, played by hand, puts the joints where they were lifted."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.lift.outputs.glb import write_glb
from pipeline.lift.outputs.rig import name_bone
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError
from tests.fixtures.lifted_walker import lifted_person, lifted_walkers
from tests.fixtures.walker import RATE_HZ

VALIDATOR = Path(__file__).parents[2] / ".work" / "node_modules" / "gltf-validator"
VALIDATE = """
const report = require(process.argv[1]).validateBytes(new Uint8Array(require("fs").readFileSync(process.argv[2])));
report.then((found) => console.log(JSON.stringify(found.issues)));
"""
TYPES = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
COMPONENTS = {5121: "u1", 5125: "<u4", 5126: "<f4"}


def read_glb(path):
    """Returns the JSON of a file, and a function that returns an accessor's numbers."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON"
    document = json.loads(content[20 : 20 + size])
    assert struct.unpack_from("<I4s", content, 20 + size) == (document["buffers"][0]["byteLength"], b"BIN\0")
    binary = content[28 + size :]

    def numbers(place):
        accessor = document["accessors"][place]
        view = document["bufferViews"][accessor["bufferView"]]
        part = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        return np.frombuffer(part, COMPONENTS[accessor["componentType"]]).reshape(-1, TYPES[accessor["type"]])

    return document, numbers


def play(path, *, frame, animation=0):
    """Returns 4 x 4 matrices of all nodes in the world, by number, at a frame that has keys."""
    document, numbers = read_glb(path)
    nodes = document["nodes"]
    moved = [dict(node) for node in nodes]
    for channel in document["animations"][animation]["channels"]:
        sampler = document["animations"][animation]["samplers"][channel["sampler"]]
        times = numbers(sampler["input"])[:, 0]
        place = np.searchsorted(times, frame / RATE_HZ + 1e-4, side="right") - 1
        moved[channel["target"]["node"]][channel["target"]["path"]] = numbers(sampler["output"])[place]
    worlds = {}

    def place_node(index, above):
        node = moved[index]
        local = np.eye(4)
        local[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix() * node.get(
            "scale", [1, 1, 1]
        )
        local[:3, 3] = node.get("translation", [0, 0, 0])
        worlds[index] = above @ local
        for child in node.get("children", []):
            place_node(child, worlds[index])

    for index in document["scenes"][0]["nodes"]:
        place_node(index, np.eye(4))
    return document, numbers, worlds


def find_skin(path, *, frame):
    """Returns points of the first person's body in the world, and the material of each."""
    document, numbers, worlds = play(path, frame=frame)
    skin = document["skins"][0]
    inverse_bind = numbers(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([worlds[joint] for joint in skin["joints"]]) @ inverse_bind
    points, materials = [], []
    for primitive in document["meshes"][0]["primitives"]:
        at_rest = numbers(primitive["attributes"]["POSITION"])
        moves = matrices[numbers(primitive["attributes"]["JOINTS_0"])[:, 0]]
        points.append(np.einsum("vrc,vc->vr", moves, np.c_[at_rest, np.ones(len(at_rest))])[:, :3])
        materials += [document["materials"][primitive["material"]]["name"]] * len(at_rest)
    return np.concatenate(points), np.array(materials)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Two walkers; the second comes late, is lost for a while, and leaves early."""
    late = lifted_person(20, name="person 2", first_frame=10, start=3.0)
    joints_m = late.joints_camera_m.copy()
    joints_m[5:8] = np.nan
    lifted = lifted_walkers(lifted_person(40), replace(late, joints_camera_m=joints_m), frames=40)
    path = tmp_path_factory.mktemp("glb") / "walk.glb"
    write_glb(path, lifted)
    return lifted, path


def test_the_validator_of_the_format_finds_no_fault(walk):
    if shutil.which("node") is None or not VALIDATOR.is_dir():
        pytest.skip("expected node and the npm package gltf-validator, found none: .ci/run installs it")
    call = ["node", "-e", VALIDATE, str(VALIDATOR), str(walk[1])]
    issues = json.loads(subprocess.run(call, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert issues["messages"] == []


@pytest.mark.parametrize("frame", [0, 7, 39])
def test_joints_are_where_they_were_lifted(walk, frame):
    lifted, path = walk
    document, _, worlds = play(path, frame=frame)
    places = {document["nodes"][index]["name"]: world[:3, 3] for index, world in sorted(worlds.items(), reverse=True)}
    expected_m = lifted.joints_world_m(lifted.people[0])[frame][:, [0, 2, 1]] * [1, 1, -1]
    for joint in range(17):
        np.testing.assert_allclose(places[name_bone(H36M_17, joint)], expected_m[joint], atol=1e-4)


def test_the_body_moves_with_the_joints_and_its_left_is_left(walk):
    lifted, path = walk
    points_m, materials = find_skin(path, frame=12)
    joints_m = lifted.joints_world_m(lifted.people[0])[12][:, [0, 2, 1]] * [1, 1, -1]
    away_m = np.linalg.norm(points_m[:, None] - joints_m, axis=-1)
    assert (away_m.min(0) < 0.1).all()  # a limb ends at every joint
    assert points_m[:, 1].min() > -0.05
    assert points_m[:, 1].max() == pytest.approx(joints_m[:, 1].max(), abs=0.1)
    for side, joints in (("left", H36M_17.left), ("right", H36M_17.right)):
        nearest = away_m[materials == f"person 1 {side}"].argmin(1)
        assert set(joints) <= set(nearest) <= {0, 8, *joints}  # pelvis and thorax, where limbs of both sides begin


def test_limbs_are_closed_and_seen_from_outside(walk):
    document, numbers = read_glb(walk[1])
    for primitive in document["meshes"][0]["primitives"]:
        corners = numbers(primitive["attributes"]["POSITION"])[numbers(primitive["indices"])[:, 0].reshape(-1, 3)]
        normals = numbers(primitive["attributes"]["NORMAL"])[numbers(primitive["indices"])[:, 0].reshape(-1, 3)]
        faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert ((faces * normals.sum(1)).sum(1) > -1e-9).all()


@pytest.mark.parametrize(
    ("frame", "size"), [(0, 0), (9, 0), (10, 1), (14, 1), (15, 0), (17, 0), (18, 1), (29, 1), (30, 0)]
)
def test_who_is_not_there_has_size_zero(walk, frame, size):
    document, _, worlds = play(walk[1], frame=frame, animation=1)
    (node,) = [index for index, content in enumerate(document["nodes"]) if content["name"] == "person 2"]
    assert np.linalg.norm(worlds[node][:3, :3], axis=0) == pytest.approx([size] * 3)


def test_what_was_assumed_is_written_into_the_file(walk):
    document, _ = read_glb(walk[1])
    extras = {"units": "metres, Y up", "rate_hz": RATE_HZ, "assumed": ["a lens of 50 degrees"]}
    assert document["extras"] == extras


def test_a_recording_without_anybody_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.glb: expected a person who was lifted in some frame, found none"):
        write_glb(tmp_path / "a.glb", lifted_walkers(frames=3))
    assert list(tmp_path.iterdir()) == []
