"""Shuffled batches of shards: resident in memory, or streamed by row groups where they are too
large.

A batch is a function of (seed, epoch, batch index) alone, so a step resumes in the middle of an
epoch.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from kaizen.compute.device import sent
from kaizen.compute.seeds import derive_seed
from kaizen.params import ImageParams
from kaizen.views.decode import decoded_bytes, load_rows, row_group_rows, whole_shard

Batch = tuple[Tensor, Tensor]


class Rows(Protocol):
    """The rows of one or several shards, in a new order each time they are gone through."""

    count: int

    def batches(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        """Batches ``start``, ``start`` + 1, … of the order that ``seed`` gives; the last incomplete
        one is dropped.

        Each is (images uint8 [size, C, H, W], labels int64 [size]).
        """
        ...


class ResidentRows:
    """All rows decoded once, on the compute device if they fit there."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        """Take images uint8 [N, C, H, W] and labels int64 [N] (-1: unlabelled), on one device."""
        self.images = images
        self.labels = labels
        self.count = len(labels)

    def batches(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        """See `Rows.batches`."""
        order = sent(_permutation(self.count, seed), self.labels.device)
        for position in range(start, self.count // size):
            rows = order[position * size : (position + 1) * size]
            yield self.images.index_select(0, rows), self.labels[rows]


class StreamedRows:
    """Rows read in pools of whole row groups: groups shuffled, then the rows of each pool; one pool
    read ahead.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image: ImageParams,
        fraction: float,
        pool_bytes: int,
        device: torch.device,
        *,
        labelled: bool = False,
    ) -> None:
        """Open the shards at ``paths``; two pools of ``pool_bytes`` of pixels are in memory at a
        time.
        """
        self.image, self.fraction, self.device = image, fraction, device
        self.labelled = labelled
        sizes = [row_group_rows(path, fraction, labelled=labelled) for path in paths]
        # Row groups are numbered through all shards.
        self.groups = [
            (path, number)
            for path, rows in zip(paths, sizes, strict=True)
            for number in range(len(rows))
        ]
        self.rows = [count for rows in sizes for count in rows]
        self.count = sum(self.rows)
        pixels = sum(decoded_bytes(path, image, fraction, labelled=labelled) for path in paths)
        per_row = pixels / max(1, self.count)
        self.pool_rows = max(1, int(pool_bytes / max(1.0, per_row)))

    def batches(self, size: int, seed: int, start: int) -> Iterator[Batch]:
        """See `Rows.batches`; pools that lie wholly before ``start`` are not read."""
        pools = self._pools(_permutation(len(self.rows), seed).tolist())
        skip = start * size
        while pools and self._pool_size(pools[0][1]) <= skip:
            skip -= self._pool_size(pools.pop(0)[1])
        left = max(0, self.count // size - start)
        with contextlib.closing(self._read_ahead(pools, seed)) as parts:
            for images, labels in itertools.islice(_rebatched(parts, size, skip), left):
                yield images.to(self.device), labels.to(self.device)

    def _read_ahead(
        self, pools: Sequence[tuple[int, list[int]]], seed: int
    ) -> Generator[Batch, None, None]:
        """The decoded pools; while one is used, the next is read."""
        with ThreadPoolExecutor(1) as reader:
            current: Future[Batch] | None = None
            for pool in pools:
                following = reader.submit(self._load, pool, seed)
                if current is not None:
                    yield current.result()
                current = following
            if current is not None:
                yield current.result()

    def _pools(self, order: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Consecutive row groups of ``order`` in numbered pools of at most ``pool_rows`` rows."""
        pools: list[tuple[int, list[int]]] = []
        for group in order:
            if pools and self._pool_size(pools[-1][1]) + self.rows[group] <= self.pool_rows:
                pools[-1][1].append(group)
            else:
                pools.append((len(pools), [group]))
        return pools

    def _pool_size(self, groups: Sequence[int]) -> int:
        return sum(self.rows[group] for group in groups)

    def _load(self, pool: tuple[int, list[int]], seed: int) -> Batch:
        """Decode one pool, each row to its place in the shuffled order."""
        number, groups = pool
        of_path: dict[Path, list[int]] = {}
        for path, group in (self.groups[group] for group in groups):
            of_path.setdefault(path, []).append(group)
        parts = list(of_path.items())
        order = _permutation(
            sum(self.rows[group] for group in groups), derive_seed(seed, "pool", number)
        )
        images, labels = load_rows(
            parts, self.image, self.fraction, order.numpy(), labelled=self.labelled
        )
        return torch.from_numpy(images), torch.from_numpy(labels)


def open_rows(
    paths: Sequence[Path],
    image: ImageParams,
    fraction: float,
    limit_mb: float,
    device: torch.device,
    *,
    labelled: bool = False,
) -> Rows:
    """Open shards: resident where their decoded pixels take at most ``limit_mb`` MB (10^6 bytes),
    else streamed. With ``labelled`` rows without a label are left out.
    """
    sizes = (decoded_bytes(path, image, fraction, labelled=labelled) for path in paths)
    if sum(sizes) <= limit_mb * 1e6:
        parts = [(path, whole_shard(path)) for path in paths]
        images, labels = map(torch.from_numpy, load_rows(parts, image, fraction, labelled=labelled))
        return ResidentRows(images.to(device), labels.to(device))
    pool_bytes = int(limit_mb * 1e6 / 2)
    return StreamedRows(paths, image, fraction, pool_bytes, device, labelled=labelled)


def cycle(rows: Rows, size: int, seed: int, start: int, length: int) -> Iterator[Batch]:
    """Batches ``start`` to ``length`` of going through the rows again and again, each time in a new
    order.
    """
    per_round = rows.count // size
    while start < length:
        turn, position = divmod(start, per_round)
        for batch in rows.batches(size, derive_seed(seed, "round", turn), position):
            yield batch
            start += 1
            if start >= length:
                return


def _rebatched(parts: Iterable[Batch], size: int, skip: int) -> Iterator[Batch]:
    """Batches of ``size`` rows of the parts laid end to end, without the first ``skip`` rows, which
    lie in the first part, and without an incomplete last batch.
    """
    rest: Batch | None = None
    for images, labels in parts:
        begin, skip = skip, 0
        if rest is not None:
            begin = min(size - len(rest[1]), len(labels))
            rest = _appended(rest, images[:begin], labels[:begin])
            if len(rest[1]) < size:
                continue
            yield rest
        last = begin + (len(labels) - begin) // size * size
        for position in range(begin, last, size):
            yield images[position : position + size], labels[position : position + size]
        # Copies: a view would keep the whole part in memory beside the next two.
        rest = images[last:].clone(), labels[last:].clone()
        del images, labels


def _appended(batch: Batch, images: Tensor, labels: Tensor) -> Batch:
    return torch.cat([batch[0], images]), torch.cat([batch[1], labels])


def _permutation(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
