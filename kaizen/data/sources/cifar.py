"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the archives of Python's version, which hold
pickles.

The pickles are read by an unpickler that knows plain values and NumPy arrays only, after the
archive was verified.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - for an unpickler that makes plain values only
import tarfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kaizen.data.sources.archive import Archive, ArchiveSource, Content, Images, member
from kaizen.data.sources.base import ALL, Looks, Part
from kaizen.params import DatasetParams

_SIDE = 32
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class _Cifar(NamedTuple):
    archive: Archive
    members: dict[Part, list[str]]
    labels: bytes
    classes: list[str]


ARCHIVES = {
    "cifar10": _Cifar(
        Archive(
            "cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            170,
        ),
        {
            "train": [f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)],
            "test": ["cifar-10-batches-py/test_batch"],
        },
        b"labels",
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    ),
    "cifar100": _Cifar(
        Archive(
            "cifar-100-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            169,
        ),
        {"train": ["cifar-100-python/train"], "test": ["cifar-100-python/test"]},
        b"fine_labels",
        _CIFAR100.split(),
    ),
}


class Cifar(ArchiveSource):
    """CIFAR-10 or CIFAR-100 with its fine labels: 50,000 + 10,000 colour images of 32 x 32
    pixels.
    """

    def __init__(self, dataset: DatasetParams) -> None:
        """``dataset.path`` is the archive or the folder that holds it; where it is absent it will
        be downloaded.
        """
        self.name = dataset.source
        super().__init__(ARCHIVES[self.name].archive, dataset.path)

    @property
    def classes(self) -> list[str]:
        """The published names in label order."""
        return list(ARCHIVES[self.name].classes)

    def looks(self, most: int, decoded: int) -> Looks:
        """As published."""
        return Looks(60_000, 60_000, (_SIDE, _SIDE), (_SIDE, _SIDE), 60_000, ALL)

    def train_counts(self) -> dict[tuple[int, int], int]:
        """50,000 in all, evenly, as published."""
        each = 50_000 // len(self.classes)
        return {(label, 0): each for label in range(len(self.classes))}

    def load(self) -> Content:
        """Read both parts out of the archive; nothing is written to disk."""
        packed = ARCHIVES[self.name]
        with self.open() as tar:
            return {
                part: _joined(
                    [_batch(tar, name, packed.labels, len(packed.classes)) for name in names]
                )
                for part, names in packed.members.items()
            }


def _joined(batches: list[Images]) -> Images:
    return Images(
        np.concatenate([batch.pixels for batch in batches]),
        np.concatenate([b.labels for b in batches]),
    )


def _batch(tar: tarfile.TarFile, name: str, key: bytes, classes: int) -> Images:
    """One batch: "data" uint8 [N, 3072], channel by channel, and a list of labels. Raises
    ValueError otherwise.
    """
    try:
        batch = PlainUnpickler(member(tar, name), encoding="bytes").load()
        data, labels = batch[b"data"], np.asarray(batch[key], dtype=np.int64)
    except (pickle.UnpicklingError, AttributeError, TypeError, IndexError, ImportError) as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error
    size = 3 * _SIDE * _SIDE
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.shape != (len(labels), size)
    ):
        raise ValueError(f"{name} does not hold {len(labels)} images of {size} bytes")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"{name} holds labels beyond 0 to {classes - 1}")
    return Images(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1), labels)


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes for old protocols; no other codec is let in."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


# NumPy's own reconstruction, under its old and new names.
_RECONSTRUCT: Callable[..., Any] = np.ndarray(0).__reduce__()[0]  # type: ignore[assignment]
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class PlainUnpickler(pickle.Unpickler):
    """Reads containers, texts, bytes, numbers and NumPy arrays; a pickle that names anything else
    is refused.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return what may be called; raises UnpicklingError for all else, before anything of it is
        imported.
        """
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is not plain data"
            ) from None
