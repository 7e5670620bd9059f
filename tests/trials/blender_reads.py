"""Run by a Python that has bpy: opens a BVH and a GLB file in Blender, says where bones are, and draws a picture.

`python tests/trials/blender_reads.py FOLDER`, where lift/ in FOLDER has people.glb and one .bvh. Writes into FOLDER
blender.json, for each file the heads of its bones over the frames in Blender's world (Z up, metres) and the scene's
rate, and pictures, blender_0.png and so on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bpy
from mathutils import Vector

RATE_HZ = 30  # of the scene that the GLB file is opened in: glTF has times, and Blender keeps its frames


def open_bvh(path: Path) -> None:
    """Opens the file as its importer does by default, but for the scene's rate, which is taken from the file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_anim.bvh(filepath=str(path), update_scene_fps=True)


def open_glb(path: Path) -> None:
    """Opens the file as its importer does by default."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = RATE_HZ
    bpy.ops.import_scene.gltf(filepath=str(path))


def read_bones(first_frame: int) -> dict[str, object]:
    """Returns the heads of the only armature's bones by name, frame by frame to the end of its motion."""
    (armature,) = (thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    last_frame = round(armature.animation_data.action.frame_range[1])
    heads: dict[str, list[list[float]]] = {bone.name: [] for bone in armature.pose.bones}
    for frame in range(first_frame, last_frame + 1):
        bpy.context.scene.frame_set(frame)
        for bone in armature.pose.bones:
            heads[bone.name].append(list(armature.matrix_world @ bone.head))
    render = bpy.context.scene.render
    return {"rate_hz": render.fps / render.fps_base, "heads_m": heads}


def draw(path: Path, frames: list[int]) -> None:
    """Draws the scene's people at these frames side by side, as numbered pictures beside `path`."""
    scene = bpy.context.scene
    (armature,) = (thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 8, "CPU"
    scene.render.resolution_x, scene.render.resolution_y = 360, 480
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 4, (0.6, 0.3, 0.4)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    bpy.ops.mesh.primitive_plane_add(size=40)
    for thing in (sun, camera):
        scene.collection.objects.link(thing)
    scene.camera, scene.world = camera, bpy.data.worlds.new("world")
    scene.world.color = (0.4, 0.45, 0.5)
    for number, frame in enumerate(frames):
        scene.frame_set(frame)
        hips = armature.matrix_world @ armature.pose.bones["Hips"].head
        camera.location = hips + Vector((1.2, -3.6, 0.5))
        camera.rotation_euler = (hips - camera.location).to_track_quat("-Z", "Y").to_euler()
        scene.render.filepath = str(path.with_stem(f"{path.stem}_{number}"))
        bpy.ops.render.render(write_still=True)


def main(folder: Path) -> None:
    """Opens both files of the folder and writes what Blender makes of them."""
    (bvh,) = folder.glob("lift/*.bvh")
    open_bvh(bvh)
    found = {"bvh": read_bones(1)}
    open_glb(folder / "lift" / "people.glb")
    found["glb"] = read_bones(0)
    (folder / "blender.json").write_text(json.dumps(found), encoding="utf-8")
    draw(folder / "blender.png", [0, 40, 80, 120])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
