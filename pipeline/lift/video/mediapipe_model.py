"""Assembles MediaPipe's pose landmarker `full` from the wheel of an older release, for the release that detects.

MediaPipe's wheels no longer hold their networks. Release 0.10.21 holds both that the landmarker is made of, under the
Apache License 2.0; the landmark network lacks only the metadata that says how pictures are normalised.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pipeline.system.errors import UserError
from pipeline.system.files import new_file, sha256_of

DETECTOR_MODEL = Path("data/detectors/pose_landmarker_full.task")  # where `make video` writes it
WHEEL = "mediapipe==0.10.21"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
WHEEL_OPTIONS = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
DETECTOR = "mediapipe/modules/pose_detection/pose_detection.tflite"
LANDMARKS = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"


def make_detector_model(path: Path) -> None:
    """Writes the landmarker, 9.4 MB, to `path`. It has the same bytes wherever it is made.

    Raises UserError if the package mediapipe is missing, pip cannot download the wheel, or it is not the one expected.
    """
    if find_spec("mediapipe") is None:
        raise UserError(
            f"{path}: expected the package mediapipe to write it with, found none; get both with: make video"
        )
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(WHEEL, Path(folder), sha256=WHEEL_SHA256, options=WHEEL_OPTIONS)
        with zipfile.ZipFile(wheel) as archive:
            detector, landmarks = archive.read(DETECTOR), archive.read(LANDMARKS)
    with new_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("pose_detector.tflite"), detector)
        named = zipfile.ZipInfo("pose_landmarks_detector.tflite")
        archive.writestr(named, add_normalisation(landmarks, mean=0.0, std=255.0))


def download(requirement: str, folder: Path, *, sha256: str, options: Sequence[str] = ()) -> Path:
    """Downloads a pinned package with pip into the empty `folder` and returns its file.

    Raises UserError if pip cannot, or the file is another one.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    if subprocess.run([*command, *options, requirement], check=False).returncode:
        raise UserError(f"{requirement}: expected pip to download it, which it did not: its message is above")
    (file,) = folder.iterdir()
    found = sha256_of(file)
    if found != sha256:
        raise UserError(f"{requirement}: expected a file with SHA-256 {sha256}, found {file.name} with {found}")
    return file


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
