"""Writes lifted people as binary glTF: for each a skeleton, its animation, and simple limbs that move with it.

Y up, metres, seconds, as glTF 2.0 wants them. Source: Khronos Group, glTF 2.0 specification.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from pipeline.lift.outputs.rig import Rig, build_rig, fit_rotations, turn_y_up
from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.poses.frames import split_runs
from pipeline.system.errors import UserError
from pipeline.system.files import new_file
from pipeline.visualization.palette import Colours, body_colours, linear_rgb, side_of

FLAT_SIDES, END_RINGS = 10, 4  # around a limb, and rings of points in each of its rounded ends
FLOAT, BYTE, INDEX = 5126, 5121, 5125  # component types of the specification
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963


def write_glb(path: Path, lifted: Lifted) -> None:
    """Writes all people into one file, at the recording's times; who is not there in a frame has size zero then.

    Raises UserError if nobody was lifted in any frame.
    """
    people = [person for person in lifted.people if np.isfinite(lifted.joints_world_m(person)).all((1, 2)).any()]
    if not people:
        raise UserError(f"{path}: expected a person who was lifted in some frame, found none")
    document = _Document(lifted)
    for number, person in enumerate(people):
        _add_person(document, lifted, person, body_colours(number, people=len(people)))
    with new_file(path) as partial:
        partial.write_bytes(document.glb())


class _Document:
    """A file that is being built: its JSON and its binary part."""

    def __init__(self, lifted: Lifted) -> None:
        self.binary = bytearray()
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "Poselift"},
            "scene": 0,
            "scenes": [{"name": lifted.source, "nodes": []}],
            "extras": {"units": "metres, Y up", "rate_hz": lifted.rate_hz, "assumed": list(lifted.assumed)},
        }

    def add(self, kind: str, value: dict[str, object]) -> int:
        """Appends to one of the document's lists and returns the place."""
        values = self.json.setdefault(kind, [])
        values.append(value)
        return len(values) - 1

    def array(self, values: np.ndarray, kind: str, *, target: int | None = None, bounds: bool = False) -> int:
        """Appends an array, (count,) or (count, components), as an accessor of type `kind`, and returns its place."""
        component = {"f": FLOAT, "u": INDEX if values.dtype.itemsize == 4 else BYTE}[values.dtype.kind]
        view: dict[str, object] = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": values.nbytes}
        self.binary += values.tobytes()
        self.binary += bytes(-len(self.binary) % 4)
        accessor = {
            "bufferView": self.add("bufferViews", view if target is None else view | {"target": target}),
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            accessor |= {"min": np.atleast_1d(values.min(0)).tolist(), "max": np.atleast_1d(values.max(0)).tolist()}
        return self.add("accessors", accessor)

    def glb(self) -> bytes:
        """Returns the content of the whole file."""
        self.json["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.json, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(self.binary), b"BIN\0") + bytes(self.binary)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _add_person(document: _Document, lifted: Lifted, person: LiftedPerson, colours: Colours) -> None:
    joints_m = turn_y_up(lifted.joints_world_m(person))
    whole = np.isfinite(joints_m).all((1, 2))
    rig = build_rig(joints_m[whole], lifted.out_skeleton)
    top = _add_nodes(document, rig, person.person)
    first = top + 1
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(rig.names), 1, 1))
    inverse_bind[:, 3, :3] = -rig.rest_m  # column by column, as the format wants it
    skin = {
        "joints": list(range(first, first + len(rig.names))),
        "skeleton": top,
        "inverseBindMatrices": document.array(rearrange(inverse_bind, "n c r -> n (c r)"), "MAT4"),
    }
    mesh = _add_mesh(document, rig, person.person, colours)
    body = {"name": f"{person.person} body", "mesh": mesh, "skin": document.add("skins", skin)}
    document.json["scenes"][0]["nodes"] += [top, document.add("nodes", body)]
    frames = person.first_frame + np.flatnonzero(whole)
    _add_animation(document, lifted, rig, joints_m[whole], frames, top=top)


def _add_nodes(document: _Document, rig: Rig, name: str) -> int:
    """Adds a node for the person, and behind it, in their order, those of the rig; returns its place."""
    top = document.add("nodes", {"name": name})
    for node, joint in enumerate(rig.names):
        children = {"children": [top + 1 + child for child in rig.children(node)]} if rig.children(node) else {}
        document.add("nodes", {"name": joint, "translation": rig.offsets_m[node].tolist(), **children})
    document.json["nodes"][top]["children"] = [top + 1]
    return top


def _add_animation(
    document: _Document,
    lifted: Lifted,
    rig: Rig,
    joints_m: Float[np.ndarray, "F J 3"],
    frames: Int[np.ndarray, " F"],
    *,
    top: int,
) -> None:
    """Moves the rig below node `top` through the `frames` of the recording; in others the person has size zero."""
    channels: list[dict[str, object]] = []
    samplers: list[dict[str, object]] = []

    def move(node: int, path: str, time: int, values: np.ndarray, kind: str) -> None:
        output = document.array(values.astype("<f4"), kind)
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
        interpolation = "STEP" if path == "scale" else "LINEAR"
        samplers.append({"input": time, "output": output, "interpolation": interpolation})

    def add_times(numbers: Int[np.ndarray, " F"]) -> int:
        return document.array((numbers / lifted.rate_hz).astype("<f4"), "SCALAR", bounds=True)

    time = add_times(frames)
    move(top + 1, "translation", time, joints_m[:, lifted.out_skeleton.root], "VEC3")
    rotations = fit_rotations(joints_m, rig)
    for node, aim in enumerate(rig.aims):
        if aim >= 0:
            move(top + 1 + node, "rotation", time, rotations[:, node], "VEC4")
    present = np.isin(np.arange(lifted.frames), frames)
    present = np.append(present, present[-1])
    if not present.all():
        keys = np.array([run.start for run in split_runs(present)])
        move(top, "scale", add_times(keys), np.tile(present[keys][:, None], 3), "VEC3")
    name = document.json["nodes"][top]["name"]
    document.add("animations", {"name": name, "channels": channels, "samplers": samplers})


def _add_mesh(document: _Document, rig: Rig, name: str, colours: Colours) -> int:
    """Adds a rounded limb for every bone, moved by the node that aims along it, in a primitive for each side."""
    primitives = []
    for place, (side, colour) in enumerate(colours._asdict().items()):
        nodes = [
            node
            for node, aim in enumerate(rig.aims)
            if aim >= 0 and side_of(rig.skeleton, aim) == place and np.linalg.norm(_bone(rig, node)[1]) > 1e-6
        ]
        if nodes:
            pbr = {"baseColorFactor": [*linear_rgb(colour), 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6}
            limbs = _add_limbs(document, rig, nodes)
            material = document.add("materials", {"name": f"{name} {side}", "pbrMetallicRoughness": pbr})
            primitives.append(limbs | {"material": material})
    return document.add("meshes", {"name": name, "primitives": primitives})


def _add_limbs(document: _Document, rig: Rig, nodes: Sequence[int]) -> dict[str, object]:
    """Adds the limbs that move with these nodes and returns what a primitive says of them."""
    points, normals = zip(*(_limb(rig, node) for node in nodes), strict=True)
    count = len(points[0])
    triangles = np.concatenate([_triangles() + count * place for place in range(len(nodes))]).astype("<u4")
    joints = np.zeros((count * len(nodes), 4), dtype="<u1")
    joints[:, 0] = np.repeat(nodes, count)
    weights = np.tile(np.array([1, 0, 0, 0], dtype="<f4"), (len(joints), 1))
    attributes = {
        "POSITION": document.array(np.concatenate(points).astype("<f4"), "VEC3", target=ARRAY_BUFFER, bounds=True),
        "NORMAL": document.array(np.concatenate(normals).astype("<f4"), "VEC3", target=ARRAY_BUFFER),
        "JOINTS_0": document.array(joints, "VEC4", target=ARRAY_BUFFER),
        "WEIGHTS_0": document.array(weights, "VEC4", target=ARRAY_BUFFER),
    }
    indices = document.array(rearrange(triangles, "t c -> (t c)"), "SCALAR", target=ELEMENT_BUFFER)
    return {"attributes": attributes, "indices": indices}


def _bone(rig: Rig, node: int) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], int]:
    """Returns where the bone at rest begins that a node aims along, where it goes, and the node at its end."""
    end = rig.end_of(node)
    return rig.rest_m[node], rig.offsets_m[end], end


def _limb(rig: Rig, node: int) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3"]]:
    """Returns points and normals of a rod with rounded ends around a bone, thicker for the head and the trunk."""
    start_m, along_m, end_node = _bone(rig, node)
    name, is_tip = rig.names[end_node], not rig.children(end_node)
    length_m = float(np.linalg.norm(along_m))
    forward = along_m / length_m
    across = np.cross(forward, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    radius_m = 0.085 if is_tip and "Head" in name else 0.022 if name.endswith(("Hand", "Foot")) else 0.033
    slope = np.concatenate([np.linspace(-np.pi / 2, 0, END_RINGS), np.linspace(0, np.pi / 2, END_RINGS)])
    end = np.repeat([0.0, 1.0], END_RINGS)
    around = np.linspace(0, 2 * np.pi, FLAT_SIDES, endpoint=False)
    outward = np.outer(np.cos(around), across) + np.outer(np.sin(around), np.cross(forward, across))
    normals = np.cos(slope)[:, None, None] * outward + np.sin(slope)[:, None, None] * forward
    points_m = start_m + (end * length_m)[:, None, None] * forward + radius_m * normals
    return rearrange(points_m, "ring side c -> (ring side) c"), rearrange(normals, "ring side c -> (ring side) c")


def _triangles() -> Int[np.ndarray, "T 3"]:
    """Returns the triangles of a limb, two for each square between two rings, counterclockwise from outside."""
    ring, side = np.meshgrid(np.arange(2 * END_RINGS - 1), np.arange(FLAT_SIDES), indexing="ij")
    here, beside = ring * FLAT_SIDES + side, ring * FLAT_SIDES + (side + 1) % FLAT_SIDES
    above, above_beside = here + FLAT_SIDES, beside + FLAT_SIDES
    corners = np.stack([np.stack([here, beside, above_beside], -1), np.stack([here, above_beside, above], -1)])
    return rearrange(corners, "half ring side c -> (half ring side) c")
