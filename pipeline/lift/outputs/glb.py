"""Lifted people as binary glTF: for each a skeleton, its animation, and a body of simple limbs skinned to it.

Y up, metres, seconds, as glTF 2.0 wants them. Source: Khronos Group, glTF 2.0 specification.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from pipeline.lift.outputs.rig import Rig, build_rig, rig_rotations, whole_frames, y_up
from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError
from pipeline.system.files import new_file
from pipeline.visualization.palette import body_colours, linear_rgb

SIDES = ("left", "right", "middle")
SIDES_OF_BONE, ROUNDINGS = 10, 4  # of a limb: flat sides around it, rings of each rounded end
FLOAT, BYTE, INDEX = 5126, 5121, 5125  # component types of the specification
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963


def write_glb(path: Path, lifted: Lifted) -> None:
    """Write all people into one file, at the time of the recording. Who is not there in a frame has size zero then.

    Raises UserError if nobody was lifted in any frame.
    """
    people = [person for person in lifted.people if whole_frames(lifted.joints_world_m(person)).any()]
    if not people:
        raise UserError(f"{path}: expected a person who was lifted in some frame, found none")
    document = _Document(lifted)
    for number, person in enumerate(people):
        colours = body_colours(number, people=len(people))
        _add_person(document, lifted, person, tuple(map(linear_rgb, colours)))
    with new_file(path) as partial:
        partial.write_bytes(document.glb())


class _Document:
    """The JSON of a file and its binary part, in the making."""

    def __init__(self, lifted: Lifted) -> None:
        self.binary = bytearray()
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "Poselift"},
            "scene": 0,
            "scenes": [{"name": lifted.source, "nodes": []}],
            "extras": {"units": "metres, Y up", "rate_hz": lifted.rate_hz, "assumed": list(lifted.assumed)},
        }

    def add(self, kind: str, value: dict[str, Any]) -> int:
        """Append to one of the document's lists; returns the place."""
        values = self.json.setdefault(kind, [])
        values.append(value)
        return len(values) - 1

    def array(self, values: np.ndarray, kind: str, *, target: int | None = None, bounds: str = "") -> int:
        """Append an array, (count,) or (count, components), as an accessor of type `kind`; returns its place."""
        component = {"f": FLOAT, "u": INDEX if values.dtype.itemsize == 4 else BYTE}[values.dtype.kind]
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": values.nbytes}
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
        """The whole file."""
        self.json["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(self.json, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(self.binary), b"BIN\0") + bytes(self.binary)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _add_person(
    document: _Document, lifted: Lifted, person: LiftedPerson, colours: tuple[tuple[float, ...], ...]
) -> None:
    skeleton = lifted.out_skeleton
    joints_m = y_up(lifted.joints_world_m(person))
    whole = whole_frames(joints_m)
    rig = build_rig(joints_m[whole], skeleton)
    top = document.add("nodes", {"name": person.person})
    first = len(document.json["nodes"])
    for node, name in enumerate(rig.names):
        children = {"children": [first + child for child in rig.children(node)]} if rig.children(node) else {}
        document.add("nodes", {"name": name, "translation": rig.offsets_m[node].tolist(), **children})
    document.json["nodes"][top]["children"] = [first]
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(rig.names), 1, 1))
    inverse_bind[:, 3, :3] = -rig.rest_m  # column by column, as the format wants it
    skin = {
        "joints": list(range(first, first + len(rig.names))),
        "skeleton": top,
        "inverseBindMatrices": document.array(rearrange(inverse_bind, "n c r -> n (c r)"), "MAT4"),
    }
    mesh = _add_mesh(document, rig, skeleton, person.person, colours)
    body = {"name": f"{person.person} body", "mesh": mesh, "skin": document.add("skins", skin)}
    document.json["scenes"][0]["nodes"] += [top, document.add("nodes", body)]

    frames = person.first_frame + np.flatnonzero(whole)
    time = document.array((frames / lifted.rate_hz).astype("<f4"), "SCALAR", bounds="min and max")
    moves = _Animation(document, person.person)
    moves.add(first, "translation", time, joints_m[whole][:, skeleton.root], "VEC3")
    rotations = rig_rotations(joints_m[whole], rig, skeleton)
    for node, aim in enumerate(rig.aims):
        if aim >= 0:
            moves.add(first + node, "rotation", time, rotations[:, node], "VEC4")
    there = np.zeros(lifted.frames + 1)
    there[frames] = 1
    there[-1] = there[-2]
    if not there.all():
        keys = np.concatenate([[0], np.flatnonzero(np.diff(there)) + 1])
        key_time = document.array((keys / lifted.rate_hz).astype("<f4"), "SCALAR", bounds="min and max")
        moves.add(top, "scale", key_time, np.tile(there[keys][:, None], 3), "VEC3", interpolation="STEP")


class _Animation:
    """One person's animation, in the making."""

    def __init__(self, document: _Document, name: str) -> None:
        self.document = document
        self.json: dict[str, Any] = {"name": name, "channels": [], "samplers": []}
        document.add("animations", self.json)

    def add(
        self, node: int, path: str, time: int, values: np.ndarray, kind: str, *, interpolation: str = "LINEAR"
    ) -> None:
        """Move one property of one node."""
        output = self.document.array(values.astype("<f4"), kind)
        self.json["channels"].append({"sampler": len(self.json["samplers"]), "target": {"node": node, "path": path}})
        self.json["samplers"].append({"input": time, "output": output, "interpolation": interpolation})


def _add_mesh(
    document: _Document, rig: Rig, skeleton: Skeleton, name: str, colours: tuple[tuple[float, ...], ...]
) -> int:
    """A rounded limb for every bone at rest, moved by the node that aims along it; one primitive for each side."""
    primitives = []
    for side, colour in zip(SIDES, colours, strict=True):
        limbs = [
            (*_limb(rig, node), node)
            for node, aim in enumerate(rig.aims)
            if aim >= 0 and _side(skeleton, aim) == side and np.linalg.norm(_bone(rig, node)[1]) > 1e-6
        ]
        if not limbs:
            continue
        count = len(limbs[0][0])
        points = np.concatenate([limb[0] for limb in limbs]).astype("<f4")
        normals = np.concatenate([limb[1] for limb in limbs]).astype("<f4")
        triangles = np.concatenate([_triangles() + count * place for place in range(len(limbs))]).astype("<u4")
        nodes = np.zeros((len(points), 4), dtype="<u1")
        nodes[:, 0] = np.repeat([limb[2] for limb in limbs], count)
        weights = np.tile(np.array([1, 0, 0, 0], dtype="<f4"), (len(points), 1))
        pbr = {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6}
        attributes = {
            "POSITION": document.array(points, "VEC3", target=ARRAY_BUFFER, bounds="min and max"),
            "NORMAL": document.array(normals, "VEC3", target=ARRAY_BUFFER),
            "JOINTS_0": document.array(nodes, "VEC4", target=ARRAY_BUFFER),
            "WEIGHTS_0": document.array(weights, "VEC4", target=ARRAY_BUFFER),
        }
        primitives.append(
            {
                "attributes": attributes,
                "indices": document.array(rearrange(triangles, "t c -> (t c)"), "SCALAR", target=ELEMENT_BUFFER),
                "material": document.add("materials", {"name": f"{name} {side}", "pbrMetallicRoughness": pbr}),
            }
        )
    return document.add("meshes", {"name": name, "primitives": primitives})


def _side(skeleton: Skeleton, joint: int) -> str:
    return "left" if joint in skeleton.left else "right" if joint in skeleton.right else "middle"


def _bone(rig: Rig, node: int) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], str]:
    """Of the bone that a node aims along, at rest: where it begins, where it goes, and the joint at its end."""
    end = next(child for child in rig.children(node) if rig.joints[child] == rig.aims[node])
    return rig.rest_m[node], rig.offsets_m[end], rig.names[end]


def _limb(rig: Rig, node: int) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3"]]:
    """Points and normals of a rod with rounded ends around a bone, thicker for the head and the trunk."""
    start_m, along_m, name = _bone(rig, node)
    length_m = float(np.linalg.norm(along_m))
    forward = along_m / length_m
    across = np.cross(forward, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    radius_m = 0.085 if name == "Head" else 0.022 if name[1:] in ("Wrist", "Foot") else 0.033
    slope = np.concatenate([np.linspace(-np.pi / 2, 0, ROUNDINGS), np.linspace(0, np.pi / 2, ROUNDINGS)])
    end = np.repeat([0.0, 1.0], ROUNDINGS)
    around = np.linspace(0, 2 * np.pi, SIDES_OF_BONE, endpoint=False)
    outward = np.outer(np.cos(around), across) + np.outer(np.sin(around), np.cross(forward, across))
    normals = np.cos(slope)[:, None, None] * outward + np.sin(slope)[:, None, None] * forward
    points_m = start_m + (end * length_m)[:, None, None] * forward + radius_m * normals
    return rearrange(points_m, "ring side c -> (ring side) c"), rearrange(normals, "ring side c -> (ring side) c")


def _triangles() -> Int[np.ndarray, "T 3"]:
    """Of a limb: each square between two rings as two triangles, seen from outside."""
    ring, side = np.meshgrid(np.arange(2 * ROUNDINGS - 1), np.arange(SIDES_OF_BONE), indexing="ij")
    here, beside = ring * SIDES_OF_BONE + side, ring * SIDES_OF_BONE + (side + 1) % SIDES_OF_BONE
    above, above_beside = here + SIDES_OF_BONE, beside + SIDES_OF_BONE
    corners = np.stack([np.stack([here, beside, above_beside], -1), np.stack([here, above_beside, above], -1)])
    return rearrange(corners, "half ring side c -> (half ring side) c")
