"""Every reader of files that come from elsewhere: how it is called on given bytes, and good files to start from."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch
import yaml
from cdflib import cdfwrite
from safetensors.torch import save as save_safetensors

from pipeline.checkpoints.import_checkpoint import Description, import_checkpoint
from pipeline.checkpoints.list import checkpoint_entries
from pipeline.config.params import load_params
from pipeline.config.rows import listed_rows
from pipeline.lift.formats import FORMATS, arrays, read_recording
from pipeline.lift.outputs import check_outputs
from pipeline.lift.people import InputOptions
from pipeline.poses.checkpoint import CARD, WEIGHTS, load_checkpoint, read_card
from pipeline.poses.clips import read_split, write_split
from pipeline.poses.skeleton import COCO_17
from pipeline.prepare_data import licensed
from pipeline.prepare_data.licensed import human36m_files, humaneva_files, mpi_inf_3dhp_files
from pipeline.prepare_data.motion_capture import read_takes
from pipeline.report import training_runs
from pipeline.report.stage import read_record
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from pipeline.system.resume import load_state
from tests.fixtures import human36m, keypoint_files, mpi_inf_3dhp, poseformer_bin
from tests.fixtures.tiny_archive import write_tiny_archive
from tests.fixtures.walker import walker_clips

REPOSITORY = Path(__file__).parents[2]
SIZE = (640, 480)


@dataclass(frozen=True)
class Reader:
    """`read` puts bytes into a file in a folder and reads it; `seeds` are the bytes of good files.

    `prepare` is called once for the folder, with what else has to be there.
    """

    read: Callable[[Path, bytes], object]
    seeds: Callable[[Path], Iterator[bytes]]
    prepare: Callable[[Path], object] = lambda folder: None


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _npz(**arrays: Any) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _read_npz(folder: Path, content: bytes) -> None:
    read_object_npz(_write(folder / "a.npz", content))


def _npz_seeds(folder: Path) -> Iterator[bytes]:
    yield _npz(a=np.arange(3.0), b=np.array({"a": [np.ones(2), "text", 1, None]}))
    yield _npz(a=np.asfortranarray(np.ones((2, 3), np.float32)), b=np.array(["x", "yy"]))


def npz_of_pickle(payload: bytes) -> bytes:
    """Returns an archive with an object array "all" whose pickle is `payload`."""
    header, file = BytesIO(), BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("all.npy", header.getvalue() + payload)
    return file.getvalue()


def _read_archives(folder: Path, payload: bytes) -> None:
    """Gives every reader of archives a pickle of what the archives of all datasets hold."""
    content = read_object_npz(_write(folder / "a.npz", npz_of_pickle(payload)))["all"]
    values = content if isinstance(content, dict) else {"data": content}
    modules: Any = (human36m_files, humaneva_files, mpi_inf_3dhp_files, arrays)
    path, refusals = folder / "a.npz", []
    for module in modules:
        module.read_object_npz = lambda path: values
    try:
        for read in ARCHIVE_READERS:
            try:
                read(path, folder)
            except UserError as error:
                refusals.append(error)
    finally:
        for module in modules:
            module.read_object_npz = read_object_npz
    if refusals:
        raise refusals[-1]


ARCHIVE_READERS: tuple[Callable[[Path, Path], object], ...] = (
    lambda path, folder: human36m_files._read_pose_archive(path),
    lambda path, folder: [
        keypoints.pop(subject, take)
        for keypoints in [human36m_files._read_keypoint_archive(path)]
        for subject in list(keypoints.takes)
        for take in list(keypoints.takes[subject])
    ],
    lambda path, folder: humaneva_files._read_poses(path),
    lambda path, folder: humaneva_files._read_keypoints(path),
    lambda path, folder: [
        list(mpi_inf_3dhp_files._read_archived_train(content, "S1 Seq1", where=str(name)[:9]))
        for name, content in arrays.read_object_npz(path).items()
    ],
    lambda path, folder: [
        mpi_inf_3dhp_files._read_archived_test(content, "TS1", where=str(name)[:9])
        for name, content in arrays.read_object_npz(path).items()
    ],
    lambda path, folder: read_recording(path, InputOptions(format="npz")),
)


def _archive_seeds(folder: Path) -> Iterator[bytes]:
    pose, pixels = np.ones((2, 32, 3), np.float32), [np.full((2, 17, 2), 50, np.float32)] * 4
    values: list[dict[str, Any]] = [
        {"positions_3d": {"S1": {"Walking 1": pose}}},
        {"positions_2d": {"S1": {"Walking 1": pixels}}, "metadata": human36m.COCO_METADATA},
        {"positions_3d": {name: {"Box 1 chunk0": np.ones((1, 15, 3))} for name in humaneva_files.RECORDINGS}},
        {"positions_2d": {"Train/S1": {"Box 1 chunk0": [p[:, :15] for p in pixels[:3]]},
                          "Unlabeled/S4": {"Box": [None]}},
         "metadata": licensed.metadata_of(humaneva_files.HUMANEVA_15, humaneva_files.LAYOUTS)},
        {"S1 Seq1": [{str(c): {"data_2d": pixels[0], "data_3d": np.ones((2, 17, 3))}
                      for c in mpi_inf_3dhp_files.CAMERAS}, 25]},
        {"TS1": {"data_2d": pixels[0], "data_3d": np.ones((2, 17, 3)), "valid": np.ones(2)}},
        {"pixels": np.ones((1, 2, 17, 2)), "layout": "coco17", "rate_hz": 30.0, "image_size": [640, 480]},
        {"keypoints": np.ones((2, 17, 3)), "layout": "coco17", "image_size": [640, 480], "focal_px": [500.0, 500.0],
         "centre_px": [320.0, 240.0]},
        {"positions_2d": {"a.mp4": {"custom": [np.ones((2, 17, 2))]}},
         "metadata": {"layout_name": "coco", "video_metadata": {"a.mp4": {"w": 640, "h": 480}}}},
        {"boxes": [], "keypoints": [[[], np.ones((1, 4, 17))]], "metadata": {"w": 640, "h": 480}},
    ]  # fmt: skip
    for value in values:
        for protocol in (2, 4):
            yield pickle.dumps(np.array(value), protocol=protocol)


def _read_bin(folder: Path, content: bytes) -> None:
    if (folder / "out").exists():
        for file in (folder / "out").iterdir():
            file.unlink()
        (folder / "out").rmdir()
    path = _write(folder / "a.bin", content)
    import_checkpoint(path, folder / "out", Description("h36m", "gt", heads=1))  # of width 1


def _read_bin_pickle(folder: Path, payload: bytes) -> None:
    members = {"a/data.pkl": payload, "a/byteorder": b"little", "a/version": b"3\n"}
    members |= {f"a/data/{key}": bytes(length) for key, length in BIN_STORAGES.items()}
    poseformer_bin.write_zip(folder / "b.bin", members)
    _read_bin(folder, (folder / "b.bin").read_bytes())


BIN_STORAGES: dict[str, int] = {}


def _small_bin(folder: Path, *, old: bool) -> bytes:
    sizes = {"embed_dim_ratio": 1, "depth": 1, "heads": 1, "frames": 1}
    content = poseformer_bin.upstream_content(poseformer_bin.random_poseformer(**sizes), steps=0)
    return poseformer_bin.save(content, folder / "seed.bin", old=old).read_bytes()


def _bin_seeds(folder: Path) -> Iterator[bytes]:
    yield _small_bin(folder, old=True)
    yield _small_bin(folder, old=False)


def _bin_pickle_seeds(folder: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(BytesIO(_small_bin(folder, old=False))) as archive:
        names = {name.split("/", 1)[1]: name for name in archive.namelist()}
        BIN_STORAGES.update(
            {key[5:]: archive.getinfo(name).file_size for key, name in names.items() if key[:5] == "data/"}
        )
        yield archive.read(names["data.pkl"])


def _read_state(folder: Path, content: bytes) -> None:
    _write(folder / "state.pt", content)
    load_state(folder)


def _read_state_pickle(folder: Path, payload: bytes) -> None:
    members = {"a/data.pkl": payload, "a/byteorder": b"little", "a/version": b"3\n"}
    members |= {f"a/data/{key}": bytes(64) for key in range(8)}
    poseformer_bin.write_zip(folder / "state.pt", members)
    load_state(folder)


def _state_seed() -> bytes:
    state = {
        "step": 3,
        "weights": {"a": torch.ones(2, 2)},
        "numbers": torch.zeros(5, dtype=torch.uint8),
        "rng": [1, "x"],
    }
    file = BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _state_pickle_seeds(folder: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(BytesIO(_state_seed())) as archive:
        yield archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


CARD_CONTENT: dict[str, Any] = {
    "row": "walker-gt-f1-rayformer", "seed": 0, "model": "rayformer",
    "hyperparameters": {"width": 4, "depth": 1, "heads": 1},
    "frames": 1, "in_skeleton": "h36m17", "out_skeleton": "h36m17", "in_channels": 2, "epoch": 1,
    "validation_mpjpe_mm": 1.5, "rate_hz": 30.0, "focal": 2.29, "run_key": "a", "torch": "2",
}  # fmt: skip


def _read_card(folder: Path, content: bytes) -> None:
    _write(folder / CARD, content)
    read_card(folder)


def _read_weights(folder: Path, content: bytes) -> None:
    _write(folder / WEIGHTS, content)
    load_checkpoint(folder, device=torch.device("cpu"))


def _card_seeds(folder: Path) -> Iterator[bytes]:
    yield json.dumps(CARD_CONTENT).encode()
    yield json.dumps(CARD_CONTENT | {"imported_from": {"file": "a", "sha256": "b"}}).encode()


def _weights_seeds(folder: Path) -> Iterator[bytes]:
    from pipeline.poses.checkpoint import Card, build_model

    yield save_safetensors(dict(build_model(Card.model_validate(CARD_CONTENT)).state_dict()))
    yield save_safetensors({"a": torch.ones(2)})


def _write_card(folder: Path) -> None:
    (folder / CARD).write_text(json.dumps(CARD_CONTENT))


def _read_params(folder: Path, content: bytes) -> None:
    load_params(_write(folder / "params.yaml", content))


def _params_seeds(folder: Path) -> Iterator[bytes]:
    whole = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    yield yaml.safe_dump(whole).encode()
    yield b"extends: base.yaml\nframes: 81\ndatasets: {mocap: {lr: 0.001, for_model: {mixste: {epochs: 3}}}}\n"
    yield b"extends: base.yaml\nseeds: &a [1, 2]\nframes: *a\n"


def _write_params(folder: Path) -> None:
    shutil.copy(REPOSITORY / "params.yaml", folder / "base.yaml")


def _read_rows(folder: Path, content: bytes) -> None:
    selection = {"dataset": "mocap", "keypoints": "gt", "frames": 9, "model": "linear"}
    listed_rows(_write(folder / "dvc.yaml", content), selection)


def _read_lock(folder: Path, content: bytes) -> None:
    _write(folder / "dvc.lock", content)
    checkpoint_entries(folder)


def _lock_seeds(folder: Path) -> Iterator[bytes]:
    out = {"path": "data/checkpoints/mocap-gt-f9-linear/run0", "hash": "md5", "md5": "0f.dir", "size": 5, "nfiles": 2}
    dep = {"path": "data/checkpoints/mocap-gt-f9-linear", "md5": "0e.dir", "size": 5}
    metrics = {"path": "reports/metrics/mocap-gt-f9-linear.json", "md5": "ab"}
    stages = {"train@mocap": {"outs": [out]}, "evaluate@mocap": {"deps": [dep], "outs": [metrics]}}
    yield yaml.safe_dump({"schema": "2.0", "stages": stages}).encode()


def _read_cdf_mat(folder: Path, content: bytes) -> None:
    human36m_files._read_cdf_mat(_write(folder / "a.cdf.mat", content))


def _read_annot_mat(folder: Path, content: bytes) -> None:
    list(mpi_inf_3dhp_files._read_train_mat(_write(folder / "annot.mat", content), "S1 Seq1", "annot3"))


def _mat(content: dict[str, Any], *, compressed: bool) -> bytes:
    file = BytesIO()
    scipy.io.savemat(file, content, do_compression=compressed)
    return file.getvalue()


def _mat_seeds(folder: Path) -> Iterator[bytes]:
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = np.ones((2, 96), np.float32)
    for compressed in (False, True):
        yield _mat({"data": cell}, compressed=compressed)
    yield _mat({"data": np.ones((1, 96))}, compressed=False)
    yield _mat({"data": {"a": "text", "b": np.ones(3, np.int8)}}, compressed=False)


def _annot_seeds(folder: Path) -> Iterator[bytes]:
    cells: dict[str, Any] = {}
    for name, width in (("annot2", 56), ("annot3", 84)):
        cells[name] = np.empty((14, 1), dtype=object)
        for camera in range(14):
            cells[name][camera, 0] = np.ones((1, width))
    yield _mat(cells | {"cameras": np.arange(14, dtype=np.uint8)[None]}, compressed=False)


def _read_h5(folder: Path, content: bytes) -> None:
    human36m_files._read_h5(_write(folder / "a.h5", content))


def _h5_seeds(folder: Path) -> Iterator[bytes]:
    for options in ({}, {"compression": "gzip", "chunks": (96, 1)}, {"chunks": (96, 1), "shuffle": True}):
        with h5py.File(folder / "seed.h5", "w") as file:
            file.create_dataset("3D_positions", data=np.ones((96, 2), np.float32), **options)
        yield (folder / "seed.h5").read_bytes()


def _read_cdf(folder: Path, content: bytes) -> None:
    human36m_files._read_cdf(_write(folder / "a.cdf", content))


def _cdf_seeds(folder: Path) -> Iterator[bytes]:
    for compress in (0, 6):
        path = folder / f"seed{compress}.cdf"
        path.unlink(missing_ok=True)
        cdf = cdfwrite.CDF(str(path), cdf_spec={"Compressed": 0})
        about = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [2, 96]}
        cdf.write_var(about | {"Compress": compress}, var_data=np.ones((1, 2, 96), np.float32))
        cdf.close()
        yield path.read_bytes()


def _read_keypoint_json(folder: Path, content: bytes) -> None:
    path = _write(folder / "a.json", content)
    refusals = []
    others = ("video", "npz", "hdf5", "csv", "ultralytics-labels")
    for format in (None, *(name for name in FORMATS if name not in others)):
        try:
            read_recording(path, InputOptions(format=format, image_size_px=SIZE))
        except UserError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _keypoint_seeds(folder: Path) -> Iterator[bytes]:
    keypoint_files.FRAMES, keypoint_files.EMPTY, keypoint_files.LOST = 2, 1, 9  # type: ignore[misc]
    for name, layout, write, _ in keypoint_files.CASES:
        if name in ("npz", "csv", "ultralytics-labels"):
            continue
        with suppress(FileExistsError):
            path = write(folder, layout)
            first = sorted(path.iterdir())[0] if path.is_dir() else path
            yield first.read_bytes()


def _read_csv(folder: Path, content: bytes) -> None:
    read_recording(_write(folder / "a.csv", content), InputOptions(format="csv"))


def _csv_seeds(folder: Path) -> Iterator[bytes]:
    keypoint_files.FRAMES, keypoint_files.EMPTY, keypoint_files.LOST = 2, 1, 9  # type: ignore[misc]
    yield keypoint_files.csv_per_joint(folder, "humaneva15").read_bytes()
    yield keypoint_files.csv_per_frame(folder, "h36m17").read_bytes()


def _keypoint_h5_seeds(folder: Path) -> Iterator[bytes]:
    path = folder / "seed.h5"
    with h5py.File(path, "w") as file:
        file["tracks"], file["point_scores"] = np.ones((1, 2, 17, 2)), np.ones((1, 17, 2))
        file["node_names"] = [name.encode() for name in COCO_17.joints]
    yield path.read_bytes()
    for name in ("walk.slp", "table.h5", "fixed.h5"):
        yield (REPOSITORY / "tests" / "lift" / "files" / name).read_bytes()


def _read_labels(folder: Path, content: bytes) -> None:
    (folder / "labels").mkdir(exist_ok=True)
    _write(folder / "labels" / "walk_1.txt", content)
    read_recording(folder / "labels", InputOptions(image_size_px=SIZE))


def _label_seeds(folder: Path) -> Iterator[bytes]:
    yield " ".join(["0", *["0.5"] * 55]).encode()
    yield " ".join(["0", *["0.25"] * 55, "0.9", "3"]).encode()


def _mocap_reader(name: str) -> Reader:
    def prepare(folder: Path) -> None:
        write_tiny_archive(REPOSITORY / "data" / "raw", folder)

    def read(folder: Path, content: bytes) -> None:
        file = name or "daz_martial.npz"
        _write(folder / "cmu_mocap" / file, content)
        list(read_takes(folder / "cmu_mocap"))

    def seeds(folder: Path) -> Iterator[bytes]:
        file = name or "daz_martial.npz"
        yield (folder / "cmu_mocap" / file).read_bytes()

    return Reader(read, seeds, prepare)


def _split_reader(name: str) -> Reader:
    def read(folder: Path, content: bytes) -> None:
        _write(folder / "split" / name, content)
        read_split(folder / "split")

    def seeds(folder: Path) -> Iterator[bytes]:
        yield (folder / "split" / name).read_bytes()

    return Reader(read, seeds, lambda folder: write_split(folder / "split", walker_clips([3, 2])))


ROW = "mocap-gt-f27-rayformer"
RECORDS = {
    "metrics": f"reports/metrics/{ROW}.json",
    "distributions": f"reports/distributions/{ROW}.json",
    "curves": f"reports/learning_curves/{ROW}.csv",
}


def _record_reader(kind: str) -> Reader:
    def prepare(folder: Path) -> None:
        for part in ("metrics", "distributions", "scenes"):
            (folder / "reports" / part).mkdir(parents=True)
            shutil.copy(REPOSITORY / "reports" / part / f"{ROW}.json", folder / "reports" / part)
        (folder / "reports" / "learning_curves").mkdir()
        shutil.copy(REPOSITORY / RECORDS["curves"], folder / RECORDS["curves"])
        (folder / "prepared" / ROW).mkdir(parents=True)
        manifest = {"splits": {}, "dropped_frames": {"total": 0}, "sha256": {}}
        (folder / "prepared" / ROW / "manifest.json").write_text(json.dumps(manifest))

    def read(folder: Path, content: bytes) -> None:
        _write(folder / RECORDS[kind], content)
        read_record(ROW, reports=folder / "reports", prepared=folder / "prepared")

    def seeds(folder: Path) -> Iterator[bytes]:
        yield (folder / RECORDS[kind]).read_bytes()[:20000]

    return Reader(read, seeds, prepare)


def _read_lenses(folder: Path, content: bytes) -> None:
    mpi_inf_3dhp_files._read_lenses(_write(folder / "camera.calibration", content))


def _read_tracked(folder: Path, content: bytes) -> None:
    """Reads a run for the page of runs, which leaves out what it cannot read, so that nothing is raised."""
    path = folder / "wandb" / "offline-run-1-x" / "run-x.wandb"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, content)
    training_runs.find_training_runs(folder, {})


def _tracked_seeds(folder: Path) -> Iterator[bytes]:
    yield b":W&B\x1d\xbe\x00" + bytes(20)
    from wandb.proto import wandb_internal_pb2 as records

    record: Any = records.Record()  # type: ignore[attr-defined]
    record.run.run_id, record.run.job_type = "a-0", "train"
    for key, value in {"row": "a-b-f1-c", "seed": 0, "training": {"epochs": 2}}.items():
        item = record.run.config.update.add()
        item.key, item.value_json = key, json.dumps(value)
    history: Any = records.Record()  # type: ignore[attr-defined]
    for key, value in {"epoch": 1, "train/mpjpe_mm": 2.5, "_timestamp": 1.0}.items():
        item = history.history.item.add()
        item.key, item.value_json = key, json.dumps(value)
    content = b":W&B\x1d\xbe\x00"
    for one in (record, history):
        chunk = one.SerializeToString()
        content += bytes(4) + len(chunk).to_bytes(2, "little") + b"\x01" + chunk
    yield content


def _read_about(folder: Path, content: bytes) -> None:
    (folder / "lifted").mkdir(exist_ok=True)
    _write(folder / "lifted" / "about.json", content)
    check_outputs(folder / "lifted", [])


READERS: dict[str, Reader] = {
    "npz": Reader(_read_npz, _npz_seeds),
    "pickle in npz": Reader(_read_archives, _archive_seeds),
    "keypoint h5": Reader(lambda f, c: read_recording(_write(f / "k.h5", c), InputOptions()), _keypoint_h5_seeds),
    "keypoint npz": Reader(lambda f, c: read_recording(_write(f / "k.npz", c), InputOptions()), _npz_seeds),
    "bin": Reader(_read_bin, _bin_seeds),
    "pickle in bin": Reader(_read_bin_pickle, _bin_pickle_seeds),
    "state": Reader(_read_state, lambda folder: iter([_state_seed()])),
    "pickle in state": Reader(_read_state_pickle, _state_pickle_seeds),
    "safetensors": Reader(_read_weights, _weights_seeds, _write_card),
    "card": Reader(_read_card, _card_seeds),
    "params.yaml": Reader(_read_params, _params_seeds, _write_params),
    "dvc.yaml": Reader(_read_rows, lambda f: iter([(REPOSITORY / "dvc.yaml").read_bytes()])),
    "dvc.lock": Reader(_read_lock, _lock_seeds),
    "mat": Reader(_read_cdf_mat, _mat_seeds),
    "mat of cells": Reader(_read_annot_mat, _annot_seeds),
    "hdf5": Reader(_read_h5, _h5_seeds),
    "cdf": Reader(_read_cdf, _cdf_seeds),
    "keypoint json": Reader(_read_keypoint_json, _keypoint_seeds),
    "keypoint csv": Reader(_read_csv, _csv_seeds),
    "labels": Reader(_read_labels, _label_seeds),
    "takes.csv": _mocap_reader("takes.csv"),
    "skeleton.json": _mocap_reader("skeleton.json"),
    "motion npz": _mocap_reader(""),
    "clips.json": _split_reader("clips.json"),
    "clips npy": _split_reader("pixels.npy"),
    "metrics json": _record_reader("metrics"),
    "distributions json": _record_reader("distributions"),
    "learning curves": _record_reader("curves"),
    "camera.calibration": Reader(_read_lenses, lambda f: iter([mpi_inf_3dhp.calibration().encode()])),
    "wandb": Reader(_read_tracked, _tracked_seeds),
    "about.json": Reader(_read_about, lambda f: iter([b'{"files": ["poses.npz"]}'])),
}  # fmt: skip
