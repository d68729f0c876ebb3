"""Images of the same classes in several domains: photographs, sketches, … (DomainNet, Office-Home,
PACS).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from kaizen.data.sources.base import PARTS, Part, names_text
from kaizen.data.sources.files import FileSource, Group
from kaizen.data.sources.image_folder import class_folders, train_and_test
from kaizen.data.sources.names import chosen_classes, read_lines
from kaizen.data.sources.walk import Walk, image_file, scan, subfolders
from kaizen.errors import KaizenError
from kaizen.files import shortened
from kaizen.params import DatasetParams

# Domain -> class -> the listed files of a part.
_Lists = dict[str, dict[str, list[str]]]


class DomainFolder(FileSource):
    """A folder of domains, divided into train and test by lists as DomainNet publishes them, or by
    folders.

    With lists (<domain>_train.txt and <domain>_test.txt, lines "<domain>/<class>/<file> <number>")
    classes come in the order of their numbers, else sorted by name. Not every domain needs every
    class.
    """

    name = "domain_folder"
    layout = (
        "<domain>/<class>/* with the lists <domain>_train.txt and <domain>_test.txt, "
        "or <domain>/train/<class>/* and <domain>/test/<class>/* (or val)"
    )

    def __init__(self, dataset: DatasetParams) -> None:
        """Find domains and classes; raises KaizenError that says what is missing."""
        super().__init__(dataset)
        entries = scan(self.root, self.layout, "dataset.path: ")
        listed = sorted(
            {
                entry.name.removesuffix("_train.txt")
                for entry in entries
                if entry.name.endswith("_train.txt")
            }
        )
        self._folders: dict[str, dict[Part, str]] = {}
        self._lists: dict[Part, _Lists] = {}
        if listed:
            self._domains = listed
            found, order = self._read_lists()
        else:
            self._domains = sorted(subfolders(self.root, self.layout))
            if not self._domains:
                raise KaizenError(
                    f"dataset.path: {self.root} holds no domains; expected {self.layout}"
                )
            self._folders = {
                domain: train_and_test(self.root / domain, self.layout) for domain in self._domains
            }
            found = {
                domain: set(
                    class_folders(self.root / domain, self._folders[domain], None, self.layout)
                )
                for domain in self._domains
            }
            order = {}
        self._has = found
        chosen = chosen_classes(set().union(*found.values()), dataset.classes, self.root)
        self._classes = sorted(chosen, key=lambda name: (order.get(name, 0), name))

    @property
    def classes(self) -> list[str]:
        """In the order of the lists' numbers, or sorted by name."""
        return list(self._classes)

    @property
    def domains(self) -> list[str]:
        """Sorted by name."""
        return list(self._domains)

    def groups(self, part: Part, walk: Walk) -> list[Group]:
        """The files of each class, domain by domain; raises KaizenError on a missing file."""
        groups = []
        for domain, folders in self._folders.items():
            walk.outside(f"{domain}/{folders[part]}")
        for label, name in enumerate(self._classes):
            for position, domain in enumerate(self._domains):
                if self._lists:
                    files = sorted(
                        image_file(self.root, path)
                        for path in self._lists[part][domain].get(name, [])
                    )
                    key = f"{domain}_{part}.txt/{name}"
                elif name in self._has[domain]:
                    key = f"{domain}/{self._folders[domain][part]}/{name}"
                    files = walk.images(key)
                else:
                    continue
                if files or not self._lists:
                    groups.append(Group(key, label, position, files))
        return groups

    def _read_lists(self) -> tuple[dict[str, set[str]], dict[str, int]]:
        """Read all lists; returns the classes of each domain and every class's number."""
        numbers: dict[str, int] = {}
        for part in PARTS:
            self._lists[part] = {
                domain: _read_list(self.root / f"{domain}_{part}.txt", domain, numbers)
                for domain in self._domains
            }
        names = {number: name for name, number in sorted(numbers.items(), reverse=True)}
        shared = [name for name, number in numbers.items() if names[number] != name]
        if shared:
            both = names_text([names[numbers[shared[0]]], shared[0]])
            raise KaizenError(
                f"the lists in {self.root} give {both} the same number {numbers[shared[0]]}; fix "
                "them"
            )
        untested = sorted(
            {name for lists in self._lists["train"].values() for name in lists}
            ^ {name for lists in self._lists["test"].values() for name in lists}
        )
        if untested:
            raise KaizenError(
                f"the lists in {self.root} have {names_text(untested)} in one part only; both need "
                "the same"
            )
        return {domain: set(self._lists["train"][domain]) for domain in self._domains}, numbers


def _read_list(path: Path, domain: str, numbers: dict[str, int]) -> dict[str, list[str]]:
    """Class -> paths of one list; enters the classes' numbers into ``numbers``."""
    files: dict[str, list[str]] = {}
    for line in read_lines(path, "dataset.path: "):
        text, _, number = line.rpartition(" ")
        parts = PurePosixPath(text).parts
        if len(parts) != 3 or parts[0] != domain or ".." in parts or not number.isdecimal():
            raise KaizenError(
                f"{path}: {shortened(line)!r} is not {domain}/<class>/<file>, a space and a "
                "number; fix that line"
            )
        if numbers.setdefault(parts[1], int(number)) != int(number):
            raise KaizenError(
                f"{path}: class {parts[1]!r} has the number {number} here, {numbers[parts[1]]} "
                "before; fix the lists"
            )
        files.setdefault(parts[1], []).append(text)
    if not files:
        raise KaizenError(f"{path} lists no images; take it from where the dataset is published")
    return files
