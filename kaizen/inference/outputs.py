"""The file that a command writes: in parts while it runs, so that an interrupted command goes on
where it was, and whole at its end.

Each part is a Parquet file that is written atomically, in a hidden folder beside the output. What
it is a part of stands in that folder too: with another model, other images or options the parts are
of no use and are removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from kaizen.errors import KaizenError
from kaizen.files import (
    atomic_path,
    canonical_json,
    explain_write_errors,
    printable,
    read_json,
    write_json,
)
from kaizen.inference.run import Row, Work

SUFFIXES = (".csv", ".parquet", ".jsonl")
_ABOUT = "about.json"
# What the folder of the parts holds: these, and their unfinished writes (`atomic_path`).
_NAME = r"(about\.json|part-\d{6,}\.parquet)"
_OURS = re.compile(rf"{_NAME}|\.{_NAME}\..+\.tmp")


# The columns from which `Seen` counts.
_COUNTED = ("file", "true_class", "error", "class_1")


def schema(work: Work, feature_dim: int) -> pa.Schema:
    """The columns of the output: the image's file, its true class and why it could not be read
    (null where there is none), and class_1, probability_1, … or features.
    """
    fields = [("file", pa.string()), ("true_class", pa.string()), ("error", pa.string())]
    if work.what == "embed":
        return pa.schema([*fields, ("features", pa.list_(pa.float32(), feature_dim))])
    for place in range(1, work.top + 1):
        fields += [(f"class_{place}", pa.string()), (f"probability_{place}", pa.float32())]
    return pa.schema(fields)


def check_output(path: Path) -> None:
    """Raise KaizenError where no output can be written to ``path``: another suffix, or what is
    there already.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise KaizenError(
            f"--out: {path} ends in {path.suffix or 'nothing'}; name a file that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    if path.exists() or path.is_symlink():
        raise KaizenError(f"--out: {path} exists; remove it, or name another file")
    if not path.absolute().parent.is_dir():
        raise KaizenError(f"--out: {path.parent} is not a folder; make it, or name another")


class Output:
    """An output in the making. ``parts`` is the number of those that are there.

    ``about`` says what it is of: model, images, options. Parts that were made of another are
    removed when it is opened; ``started_again`` tells.
    """

    def __init__(self, path: Path, schema: pa.Schema, about: Mapping[str, Any]) -> None:
        """Find the parts of an earlier attempt; raises KaizenError where they cannot be used or
        removed.
        """
        self.path, self.schema = path, schema
        self.folder = path.with_name(f".{path.name}.parts")
        self.started_again = False
        about = {name: about[name] for name in sorted(about)}
        self._refuse_others()
        if self.folder.exists() and self._about() != json.loads(canonical_json(about)):
            self.started_again = True
            self._remove()
        if not self.folder.exists():
            write_json(self.folder / _ABOUT, about)
        self.parts = 0
        while self._part(self.parts).is_file():
            self.parts += 1

    def write(self, rows: Sequence[Row]) -> None:
        """Add a part."""
        table = pa.Table.from_pylist(list(rows), self.schema)
        with atomic_path(self._part(self.parts)) as temporary:
            pq.write_table(table, temporary)
        self.parts += 1

    def read(self) -> Iterator[pa.Table]:
        """The parts, one at a time; raises KaizenError where one is damaged."""
        for number in range(self.parts):
            path = self._part(number)
            try:
                table = pq.read_table(path)
                if not table.schema.equals(self.schema):
                    raise ValueError("other columns")
            except (pa.ArrowException, OSError, ValueError) as error:
                raise KaizenError(
                    f"{path} is damaged ({' '.join(str(error).split())[:200]}); remove "
                    f"{self.folder} and run the same command again"
                ) from error
            yield table

    def seen(self) -> Iterator[list[Row]]:
        """The rows of the parts, with the columns that are counted."""
        for table in self.read():
            names = [name for name in _COUNTED if name in table.column_names]
            yield table.select(names).to_pylist()

    def finish(self) -> None:
        """Put the parts together to the output, and remove them."""
        kind = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}[self.path.suffix.lower()]
        with atomic_path(self.path) as temporary:
            kind(temporary, self.schema, self.read())
        self._remove()

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _refuse_others(self) -> None:
        """Raise KaizenError where something else is in the place of the parts, whose folder is
        removed in the end.
        """
        if not os.path.lexists(self.folder):
            return
        with explain_write_errors(self.folder):
            is_folder = self.folder.is_dir() and not self.folder.is_symlink()
            names = sorted(os.listdir(self.folder)) if is_folder else []
        others = [name for name in names if not _OURS.fullmatch(name)]
        if others or not is_folder:
            what = "is no folder"
            if others:
                what = f"holds {printable(others[0])}, which this command did not write"
            raise KaizenError(
                f"--out: {self.folder} {what}, and the parts of {self.path.name} are to lie "
                "there; move it away, or name another file"
            )

    def _about(self) -> Any:
        with contextlib.suppress(KaizenError):
            return read_json(self.folder / _ABOUT)
        return None

    def _remove(self) -> None:
        with explain_write_errors(self.folder):
            shutil.rmtree(self.folder)


def _parquet(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _csv(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    with pyarrow.csv.CSVWriter(path, _flat(schema.empty_table()).schema) as writer:
        for table in tables:
            writer.write_table(_flat(table))


def _jsonl(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    floats = {field.name for field in schema if pa.types.is_floating(field.type)}
    with open(path, "w", encoding="utf-8") as file:
        for table in tables:
            for row in table.to_pylist():
                for name, value in row.items():
                    if isinstance(value, list):
                        row[name] = [_short(number) for number in value]
                    elif name in floats and value is not None:
                        row[name] = _short(value)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _short(number: float) -> float:
    """A number with the digits that a float32 needs, and no more."""
    return float(f"{number:.9g}")


def _flat(table: pa.Table) -> pa.Table:
    """A column of lists as one column a place, as CSV has no lists."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if not pa.types.is_fixed_size_list(column.type):
            columns[name] = column
            continue
        for place in range(column.type.list_size):
            parts = [pa.array([], column.type.value_type)]
            parts += [pyarrow.compute.list_element(chunk, place) for chunk in column.chunks]
            columns[f"{name}_{place}"] = pa.chunked_array(parts)
    return pa.table(columns)
