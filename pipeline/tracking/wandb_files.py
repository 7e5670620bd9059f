"""Reads what wandb writes to `run-<id>.wandb`, while a run goes on or after it: LevelDB's log format, W&B's header."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

FILE_HEADER_BYTES = 7
CHUNK_HEADER = struct.Struct("<IHB")  # checksum, length, kind
BLOCK_BYTES = 32768
WHOLE, FIRST, MIDDLE = 1, 2, 3  # a record larger than what its block has left is cut into chunks


def read_records(path: Path) -> Iterator[Any]:
    """The records in the order written; a torn last one, as a crash or a run that goes on leaves it, ends the reading.

    Raises ValueError if the file does not begin as wandb's do, and ImportError where wandb is not installed.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    record_type: Any = wandb_internal_pb2.__dict__["Record"]  # protobuf makes its classes at import
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


def records_by_kind(path: Path) -> dict[str, list[Any]]:
    """All records by kind: "history", "run", "metric", "summary", "artifact", "exit" and others."""
    found: dict[str, list[Any]] = {}
    for record in read_records(path):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def of_kind(path: Path, kind: str) -> list[Any]:
    """All records of one kind."""
    return records_by_kind(path).get(kind, [])


def read_items(items: Iterable[Any]) -> dict[str, Any]:
    """The values of the items of a history row, a config or a summary."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows logged, without the keys that wandb adds (they begin with an underscore)."""
    rows = (read_items(history.item) for history in of_kind(path, "history"))
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


def read_config(path: Path) -> dict[str, Any]:
    """The config as the run started with it."""
    return read_items(of_kind(path, "run")[0].config.update)


def read_summary(path: Path) -> dict[str, Any]:
    """The summary after the last change."""
    return {key: value for summary in of_kind(path, "summary") for key, value in read_items(summary.update).items()}
