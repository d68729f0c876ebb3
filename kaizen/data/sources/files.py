"""What the sources that consist of image files share: listing, checksums per class, and what was
left out of them or is in them twice.
"""

from __future__ import annotations

import functools
import hashlib
from abc import abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kaizen.data.found import Found, LeftOut
from kaizen.data.image_files import has_colour, read_header, sample_pixels
from kaizen.data.schema import UNLABELLED
from kaizen.data.sources.base import PARTS, Looks, Part, Row, Source, names_text
from kaizen.data.sources.copies import Files, copies
from kaizen.data.sources.held_out import HeldOut
from kaizen.data.sources.memory import ChecksumMemory
from kaizen.data.sources.walk import SUFFIXES, UNNAMED, File, Walk
from kaizen.errors import KaizenError
from kaizen.files import canonical_json, sha256_file, sha256_text
from kaizen.params import DatasetParams
from kaizen.params.typed import UNSET


class Group(NamedTuple):
    """The files of one class in one domain and part, sorted by path; ``key`` names it among all
    groups. Of images without a class, ``label`` is -1.
    """

    key: str
    label: int
    domain: int
    files: list[File]


class FileSource(Source):
    """A dataset of image files under ``root``; a subclass says which files form which class and
    domain.

    Where it sets ``held_out``, the dataset has no test part: the share of every class is taken out
    of the training part, which alone is listed.
    """

    layout: str
    held_out: HeldOut | None = None

    def __init__(self, dataset: DatasetParams) -> None:
        """Note the folder; raises KaizenError where there is none. Files are listed when first
        needed.
        """
        if dataset.path is None:
            raise KaizenError(
                f"dataset.path: null, but {self.name} needs the folder that holds "
                f"{self.layout}; set it"
            )
        self.root = Path(dataset.path).expanduser().absolute()
        self._on_corrupt = dataset.on_corrupt
        self._listed: dict[Part, list[Group]] = {}
        self._walks: dict[Part, Walk] = {}
        self._checked: dict[Part, list[tuple[Group, str, str]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Workers only read files: leave out the listing."""
        return self.__dict__ | {"_listed": {}, "_walks": {}, "_checked": {}}

    @abstractmethod
    def groups(self, part: Part, walk: Walk) -> list[Group]:
        """List a part's files by ``walk``, grouped, in the order of labels and then domains; raises
        KaizenError on faults.
        """

    def checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """Per class: SHA-256 over sorted relative paths and content hashes, "" where a class has
        no file in the part; only changed classes are read again.
        """
        return {
            part: [
                _joined([text for group, text, _ in found if group.label == label])
                for label in range(len(self.classes))
            ]
            for part, found in self._group_checksums(cache).items()
        }

    def unlabelled_checksum(self, cache: Path | None) -> str | None:
        """As of a class."""
        found = self._group_checksums(cache)["train"]
        texts = [text for group, text, _ in found if group.label == UNLABELLED]
        return _joined(texts) or None

    def domain_checksums(self, cache: Path | None) -> dict[Part, list[str]]:
        """Per domain: SHA-256 over the names and checksums of its classes."""
        return {
            part: [
                sha256_text(
                    canonical_json(
                        [
                            [self.classes[g.label], text]
                            for g, text, _ in found
                            if g.domain == domain
                        ]
                    )
                )
                for domain in range(len(self.domains))
            ]
            for part, found in self._group_checksums(cache).items()
        }

    def rows(self, part: Part) -> list[Row]:
        """Rows class by class, files sorted by relative path; the index is the position in the
        part.
        """
        files = ((group, file) for group in self._listing(part) for file in group.files)
        return [
            Row(index, group.label, file.path, group.domain)
            for index, (group, file) in enumerate(files)
        ]

    def train_counts(self) -> dict[tuple[int, int], int]:
        """Files, from the listing that the checksums need anyway."""
        counts: dict[tuple[int, int], int] = {}
        for group in self._listing("train"):
            place = group.label, group.domain
            counts[place] = counts.get(place, 0) + len(group.files)
        return counts

    def read(self, row: Row) -> bytes:
        """The bytes of the row's file."""
        return (self.root / row.path).read_bytes()

    def found(self, cache: Path | None) -> Found:
        """What was left out of each part and why, and which images are there twice.

        Raises KaizenError where test images are training images, or images of several classes, in
        numbers that cannot be meant.
        """
        parts = {part: self._files(part, cache) for part in PARTS}
        mend = "remove them from one part" if self.held_out is None else "remove the copies"
        return Found(
            skipped=LeftOut(self._walks["train"].summary(), self._walks["test"].summary()),
            copies=copies(self.root, parts["train"], parts["test"], self.classes, mend),
            # An arrival may have nothing to hold out, as where no image has a class.
            held_out=self.held_out.share() if self.held_out and parts["test"].paths else UNSET,
        )

    def looks(self, most: int, decoded: int) -> Looks | None:
        """From the headers of evenly spaced files; None where none of them can be read."""
        paths = [f.path for part in PARTS for group in self._listing(part) for f in group.files]
        chosen = (
            [paths[i * len(paths) // most] for i in range(most)] if most < len(paths) else paths
        )
        headers = [read_header(self.root / path) for path in chosen]
        found = [(path, header) for path, header in zip(chosen, headers, strict=True) if header]
        if not found:
            return None
        step = max(1, len(found) // max(1, decoded))
        samples = [(path, sample_pixels(self.root / path)) for path, _ in found[::step][:decoded]]
        pixels = {path: values for path, values in samples if values is not None}
        coloured = (path for path, values in pixels.items() if has_colour(values))
        channels = 3 if any(header.channels == 3 for _, header in found) else 1
        joined = [values[:, :channels] for values in pixels.values()] or [np.empty((0, channels))]
        values = np.concatenate(joined)
        sizes = [(path, header.height, header.width) for path, header in found]
        other = next((size for size in sizes if size[1:] != sizes[0][1:]), None)
        return Looks(
            len(paths),
            len(found),
            (min(h.height for _, h in found), max(h.height for _, h in found)),
            (min(h.width for _, h in found), max(h.width for _, h in found)),
            sum(header.channels == 3 for _, header in found),
            next(coloured, None),
            tuple((values.mean(axis=0) / 255).tolist()) if len(values) else (),
            tuple((values.std(axis=0) / 255).tolist()) if len(values) else (),
            None if other is None else (sizes[0], other),
        )

    def _files(self, part: Part, cache: Path | None) -> Files:
        groups = self._group_checksums(cache)[part]
        digests = bytes.fromhex("".join(texts for _, _, texts in groups))
        labels = [np.full(len(group.files), group.label) for group, _, _ in groups]
        paths = [file.path for group, _, _ in groups for file in group.files]
        joined = np.concatenate([np.empty(0, dtype=np.int64), *labels])
        return Files(np.frombuffer(digests, dtype=np.uint64), joined, paths)

    def _listing(self, part: Part) -> list[Group]:
        if part not in self._listed:
            listed: Part = "train" if self.held_out is not None else part
            seen: dict[tuple[int, int], str] = {}
            for other in self._walks.values():
                seen |= other.seen
            walk = Walk(self.root, self.layout, seen)
            groups = self.groups(listed, walk)
            if self._on_corrupt == "stop":
                self._refuse_unread(walk, listed)
            self.refuse_empty(listed, groups, walk)
            self._listed[listed], self._walks[listed] = groups, walk
            if self.held_out is not None:
                self._listed |= self._hold_out(self.held_out, groups)
                self._walks["test"] = Walk(self.root, self.layout)
        return self._listed[part]

    def _hold_out(self, held_out: HeldOut, groups: list[Group]) -> dict[Part, list[Group]]:
        """Both parts, from the groups of all files."""
        found: dict[Part, list[Group]] = {"train": [], "test": []}
        for group in groups:
            if group.label == UNLABELLED:
                found["train"].append(group)
                continue
            train, test = held_out.split(self.classes[group.label], group.files)
            found["train"].append(group._replace(files=train))
            if test:
                # No class's key: those of class folders have no slash, or begin with a part's name.
                key = f"held out/{group.key}"
                found["test"].append(group._replace(key=key, files=test))
        return found

    def refuse_empty(self, part: Part, groups: list[Group], walk: Walk) -> None:
        """Raise KaizenError where a part's groups, as listed, lack images."""
        refuse_empty(self.root, groups, self.layout, walk)

    def _refuse_unread(self, walk: Walk, part: Part) -> None:
        """Raise KaizenError where images would be left out of a class."""
        unread = walk.unread()
        if unread:
            found = "; ".join(
                f"{finding.count} {finding.what} (the first: {self.root / finding.first})"
                for finding in unread
            )
            named = any(finding.what == UNNAMED for finding in unread)
            raise KaizenError(
                f"the {part} images of {self.root} have {found}; "
                f"{'rename' if named else 'convert'} them{'' if named else ' to PNG or JPEG'}, "
                "remove them, or set dataset.on_corrupt: skip, which leaves them out and counts "
                "them"
            )

    def _group_checksums(self, cache: Path | None) -> dict[Part, list[tuple[Group, str, str]]]:
        """Each group with its checksum, and the first 16 hexadecimal digits of each file's."""
        if self._checked:
            return self._checked
        memory = ChecksumMemory(cache, self.root)
        self._checked = {part: [] for part in PARTS}
        for part in PARTS:
            for group in self._listing(part):
                compute = functools.partial(self._content, group.files)
                text = memory.checksum(group.key, ["digests", group.files], compute)
                checksum, _, digests = text.partition(" ")
                self._checked[part].append((group, checksum, digests))
        memory.save()
        return self._checked

    def _content(self, files: list[File]) -> str:
        """SHA-256 of paths and content, a space, and the files' own, shortened and joined."""
        digest = hashlib.sha256()
        digests = []
        for file in files:
            path = self.root / file.path
            try:
                content = sha256_file(path)
            except OSError as error:
                raise KaizenError(
                    f"{path} cannot be read ({error.strerror}); fix or remove it"
                ) from error
            digest.update(canonical_json([file.path, content]).encode() + b"\n")
            digests.append(content[:16])
        return f"{digest.hexdigest()} {''.join(digests)}"


def _joined(checksums: list[str]) -> str:
    if len(checksums) < 2:
        return "".join(checksums)
    return sha256_text(canonical_json(checksums))


def refuse_empty(root: Path, groups: list[Group], layout: str, walk: Walk) -> None:
    """Raise KaizenError where a class (of a domain) has no image in the part that ``groups``
    list, and say what it has instead.
    """
    empty = [group.key for group in groups if not group.files]
    if len(empty) == len(groups):
        folder = root / groups[0].key.rpartition("/")[0].split("/")[0]
        raise KaizenError(
            f"{folder} holds no images ({' '.join(sorted(SUFFIXES))}){instead(walk)}; expected "
            f"{layout}"
        )
    if empty:
        raise KaizenError(
            f"{root} has classes without images: {names_text(empty)}{instead(walk)}; fill or "
            "remove them"
        )


def instead(walk: Walk) -> str:
    """What a walk left out, for a message that there is too little; "" where it was nothing."""
    found = ", ".join(f"{finding.count} {finding.what}" for finding in walk.summary())
    return f" (left out: {found})" if found else ""
