"""Writing, reading and checking shards (Parquet files, see `kaizen.data.schema`). Written whole or
not at all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from kaizen.data.schema import COLUMNS, SCHEMA, SCHEMA_VERSION, ContentHash, ShardRow
from kaizen.errors import KaizenError
from kaizen.files import atomic_path

# Pixels of CIFAR-10 shrink by 2 % at level 1 and by at most 4 % at any other, which costs up to
# seven times the time.
ZSTD_LEVEL = 1
# `iter_blocks` yields about so many bytes at a time, but so many rows at least; and reads so many
# bytes at a time. With 4 MB Arrow kept 30 MB more.
_BLOCK, _BLOCK_ROWS, _BUFFER = 1_000_000, 64, 1 << 16
_FIX = "delete it and run again: it is made again"


@dataclass(frozen=True)
class ShardInfo:
    """What a shard's footer says."""

    path: Path
    dataset: str
    part: str
    task: int
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    rows: int
    content_sha256: str
    row_groups: tuple[int, ...]


class ShardWriter:
    """Writes a shard row by row; use as a context manager. Nothing appears at ``path`` unless all
    went well.

    A row group is closed once its images reach ``row_group_mb`` MB (10^6 bytes). After the block
    ``rows`` and ``content_sha256`` say what was written. Raises KaizenError where the file cannot
    be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        dataset: str,
        part: str,
        task: int,
        classes: Sequence[int],
        class_names: Sequence[str],
        compression: Literal["none", "zstd"] = "zstd",
        row_group_mb: float = 16.0,
    ) -> None:
        """Describe the shard; the file is opened when the block is entered."""
        self.path = path
        self.rows = 0
        self.content_sha256 = ""
        self._metadata = {
            "kaizen.schema_version": SCHEMA_VERSION,
            "kaizen.dataset": dataset,
            "kaizen.part": part,
            "kaizen.task": str(task),
            "kaizen.classes": json.dumps(
                [
                    {"label": label, "name": name}
                    for label, name in zip(classes, class_names, strict=True)
                ]
            ),
        }
        self._compression = compression
        self._group_bytes = int(row_group_mb * 1e6)
        self._pending: list[ShardRow] = []
        self._pending_bytes = 0
        self._hash = ContentHash()
        self._lifetime = self._open()

    def __enter__(self) -> ShardWriter:
        """Open a temporary file next to the shard's place."""
        return self._lifetime.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish and rename the file into place, or remove it if the block failed."""
        self._lifetime.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _open(self) -> Iterator[ShardWriter]:
        level = ZSTD_LEVEL if self._compression == "zstd" else None
        with (
            atomic_path(self.path) as temporary,
            pq.ParquetWriter(
                temporary,
                SCHEMA.with_metadata(self._metadata),
                compression=self._compression,
                compression_level=level,
                use_dictionary=["encoding", "height", "width", "channels", "label"],
                write_statistics=["label", "index"],
                write_page_checksum=True,
            ) as self._writer,
        ):
            yield self
            self._flush()
            self.rows, self.content_sha256 = self._hash.rows, self._hash.hexdigest()
            found = {"kaizen.rows": str(self.rows), "kaizen.content_sha256": self.content_sha256}
            self._writer.add_key_value_metadata(found)

    def write(self, row: ShardRow) -> None:
        """Append one row."""
        self._pending.append(row)
        self._pending_bytes += len(row.image)
        if self._pending_bytes >= self._group_bytes:
            self._flush()

    def write_table(self, table: pa.Table) -> None:
        """Append the rows of a table of `SCHEMA`."""
        for batch in table.to_batches():
            columns = [batch.column(name).to_pylist() for name in COLUMNS]
            for values in zip(*columns, strict=True):
                self.write(ShardRow(*values))

    def _flush(self) -> None:
        if self._pending:
            arrays = [
                pa.array([getattr(row, name) for row in self._pending], kind)
                for name, kind in COLUMNS.items()
            ]
            table = pa.Table.from_arrays(arrays, schema=SCHEMA)
            self._hash.update(table)
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._pending, self._pending_bytes = [], 0


@contextlib.contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn every way in which reading a shard fails into a KaizenError that names it and the
    fix.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise KaizenError(f"{path} does not exist; run again: it is made again") from error
    except PermissionError as error:
        raise KaizenError(
            f"{path} cannot be read ({error.strerror}); make it readable for you"
        ) from error
    except MemoryError:  # Arrow's is an ArrowException too, and says nothing about the file
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        if (
            "worker thread" in reason
        ):  # Arrow could not start one: the machine lacks memory, the shard nothing
            raise MemoryError(reason) from error
        raise KaizenError(f"{path} is not a readable shard ({reason}); {_FIX}") from error


def shard_info(path: Path) -> ShardInfo:
    """Read a shard's footer. Raises KaizenError where the file is absent, damaged or no Kaizen
    shard.
    """
    with _open(path) as file:
        return _info(path, file)


def verify_shard(path: Path) -> ShardInfo:
    """Read all of a shard and compare its content with the hash in its footer; raises KaizenError
    on any fault.
    """
    info = shard_info(path)
    digest = ContentHash()
    for table in iter_row_groups(path):
        digest.update(table)
    if digest.hexdigest() != info.content_sha256 or digest.rows != info.rows:
        raise KaizenError(
            f"{path} does not hold what its footer says (content hash differs); {_FIX}"
        )
    return info


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read some columns of all rows."""
    with _open(path) as file:
        return file.read(columns=list(columns))


def iter_row_groups(
    path: Path, groups: Iterable[int] | None = None, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield row groups one at a time: all, or those of the given numbers in the given order."""
    with _open(path) as file:
        for group in range(file.num_row_groups) if groups is None else groups:
            yield file.read_row_group(group, columns=None if columns is None else list(columns))


def iter_blocks(path: Path, groups: Iterable[int]) -> Iterator[tuple[int, int, pa.Table]]:
    """Yield the row groups of the given numbers in blocks of about 1 MB: (row group, its rows
    before the block, the block).

    A whole row group at once takes four times its size while Arrow puts it together.
    """
    with explain_read_errors(path), _open(path, buffer_size=_BUFFER, pre_buffer=False) as file:
        for group in groups:
            size, begin = file.metadata.row_group(group), 0
            rows = max(_BLOCK_ROWS, size.num_rows * _BLOCK // max(1, size.total_byte_size))
            for batch in file.iter_batches(rows, row_groups=[group], use_threads=False):
                yield group, begin, pa.Table.from_batches([batch])
                begin += batch.num_rows
                del batch
            # Arrow keeps what it has freed, more with each row group.
            pa.default_memory_pool().release_unused()


@contextlib.contextmanager
def _open(path: Path, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a Kaizen shard with page checksums on, and with pyarrow's further ``options``."""
    with (
        explain_read_errors(path),
        pq.ParquetFile(path, page_checksum_verification=True, **options) as file,
    ):
        if file.schema_arrow.remove_metadata() != SCHEMA:
            raise KaizenError(
                f"{path} is not a Kaizen shard: its columns are {file.schema_arrow.names}; {_FIX}"
            )
        yield file


def _info(path: Path, file: pq.ParquetFile) -> ShardInfo:
    footer = file.metadata
    stored: dict[bytes, bytes] = footer.metadata or {}
    values: dict[str, Any] = {
        key.decode().removeprefix("kaizen."): value.decode()
        for key, value in stored.items()
        if key.startswith(b"kaizen.")
    }
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise KaizenError(
            f"{path} is not a shard of this version (schema {version}, not {SCHEMA_VERSION}); "
            f"{_FIX}"
        )
    classes = json.loads(values["classes"])
    if int(values["rows"]) != footer.num_rows:
        raise KaizenError(
            f"{path} holds {footer.num_rows} rows, not {values['rows']} as its footer says; {_FIX}"
        )
    return ShardInfo(
        path=path,
        dataset=values["dataset"],
        part=values["part"],
        task=int(values["task"]),
        classes=tuple(int(entry["label"]) for entry in classes),
        class_names=tuple(str(entry["name"]) for entry in classes),
        rows=footer.num_rows,
        content_sha256=values["content_sha256"],
        row_groups=tuple(
            footer.row_group(group).num_rows for group in range(footer.num_row_groups)
        ),
    )
