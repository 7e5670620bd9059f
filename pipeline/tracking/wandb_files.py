"""Reads `run-<id>.wandb`, which wandb writes while a run goes on: LevelDB's log format after a header of W&B's."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

FILE_HEADER_BYTES = 7
CHUNK_HEADER = struct.Struct("<IHB")  # checksum, length, kind
BLOCK_BYTES = 32768
Record: TypeAlias = Any  # of protobuf, which makes its classes at import
WHOLE, FIRST, MIDDLE = 1, 2, 3  # a record larger than what its block has left is cut into chunks


def wandb_root(root: Path) -> Path:
    """Returns the folder in which wandb makes its folder `wandb`: $WANDB_DIR, from `root` if relative; else `root`."""
    return root / os.environ.get("WANDB_DIR", "")


def read_records(path: Path) -> Iterator[Record]:
    """Yields the records in the order written, up to a torn one, as a crash or a running run may leave it.

    Raises ValueError if the file does not begin as wandb's do, and ImportError where wandb is not installed.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    record_type = wandb_internal_pb2.__dict__["Record"]
    content = path.read_bytes()
    if content[:4] != b":W&B":
        raise ValueError(f"{path}: expected a W&B file, found it to begin with {content[:4]!r}")
    position, record_bytes = FILE_HEADER_BYTES, b""
    while position + CHUNK_HEADER.size <= len(content):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < CHUNK_HEADER.size:
            position += left_in_block
            continue
        _, length, kind = CHUNK_HEADER.unpack_from(content, position)
        if kind == 0 and length == 0:
            position += left_in_block
            continue
        chunk = content[position + CHUNK_HEADER.size :][:length]
        if len(chunk) < length:
            return
        position += CHUNK_HEADER.size + length
        record_bytes = chunk if kind in (WHOLE, FIRST) else record_bytes + chunk
        if kind not in (FIRST, MIDDLE):
            try:
                yield record_type.FromString(record_bytes)
            except DecodeError as error:
                raise ValueError(f"{path}: expected a record of W&B, found {error}") from error


def records_by_kind(path: Path) -> dict[str, list[Record]]:
    """Returns all records by kind: "history", "run", "metric", "summary", "artifact", "exit" and others."""
    found: dict[str, list[Record]] = {}
    for record in read_records(path):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def read_items(items: Iterable[Record]) -> dict[str, Any]:
    """Returns the values of the items of a history row, a config or a summary."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
