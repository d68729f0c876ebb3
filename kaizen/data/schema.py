"""What a shard holds: its columns, its metadata, and the hash of its content.

One row is one image; no column holds nulls:

    image     binary   pixels, or the original file's bytes: see encoding
    encoding  string   "raw": uint8 [height, width, channels], row-major; "file": a file that Pillow
        reads
    height    int32    of the decoded image, in pixels
    width     int32
    channels  int8     1 greyscale, 3 RGB
    label     int32    position of the class in the dataset's list of classes; -1: the label is
        absent
    index     int64    position among the images of its class (and domain) in the dataset's part
    path      string   the file, relative to the dataset's folder

The file's metadata holds kaizen.schema_version, .dataset, .part (train, test, replay), .task,
.classes (JSON: label and name, in the task's order), .rows, and .content_sha256: a hash over all
columns in row order that depends neither on compression nor on row groups.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kaizen.files import canonical_json

SCHEMA_VERSION = "2"
# The label of an image whose class is not known, or withheld.
UNLABELLED = -1
COLUMNS = {
    "image": pa.binary(),
    "encoding": pa.string(),
    "height": pa.int32(),
    "width": pa.int32(),
    "channels": pa.int8(),
    "label": pa.int32(),
    "index": pa.int64(),
    "path": pa.string(),
}
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in COLUMNS.items()])


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One row of a shard; fields as in the schema."""

    image: bytes
    encoding: str
    height: int
    width: int
    channels: int
    label: int
    index: int
    path: str


class ContentHash:
    """SHA-256 over the rows' logical content, fed in pieces of any size."""

    def __init__(self) -> None:
        """Start with no rows."""
        self.rows = 0
        # Strings have two streams, lengths and bytes, so that pieces can be cut anywhere.
        self._digests = {name: (hashlib.sha256(), hashlib.sha256()) for name in COLUMNS}

    def update(self, table: pa.Table) -> None:
        """Add the rows of a table of `SCHEMA`."""
        self.rows += table.num_rows
        for name, (values, lengths) in self._digests.items():
            for chunk in table.column(name).chunks:
                if pa.types.is_integer(chunk.type):
                    array = chunk.to_numpy(zero_copy_only=False)
                    values.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
                else:
                    offsets, data = binary_buffers(chunk)
                    lengths.update(np.diff(offsets).astype("<i8").tobytes())
                    values.update(data)

    def hexdigest(self) -> str:
        """The hash of the rows so far."""
        parts = [
            [name, values.hexdigest(), lengths.hexdigest()]
            for name, (values, lengths) in self._digests.items()
        ]
        return hashlib.sha256(
            canonical_json([SCHEMA_VERSION, self.rows, parts]).encode()
        ).hexdigest()


def binary_buffers(chunk: pa.Array) -> tuple[np.ndarray, memoryview]:
    """The offsets int64 [N + 1] of a binary or string array, from 0, and all its bytes, without
    copying them.
    """
    _, offset_buffer, data_buffer = chunk.buffers()
    if len(chunk) == 0 or data_buffer is None:
        return np.zeros(len(chunk) + 1, dtype=np.int64), memoryview(b"")
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[
        chunk.offset : chunk.offset + len(chunk) + 1
    ]
    data = memoryview(data_buffer).cast("B")[int(offsets[0]) : int(offsets[-1])]
    return offsets.astype(np.int64) - int(offsets[0]), data
