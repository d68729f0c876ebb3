"""Stand-in."""

from __future__ import annotations

from pathlib import Path

from kaizen.compute.seeds import derive_seed
from kaizen.data.sources.base import Part
from kaizen.data.sources.files import FileSource, Group
from kaizen.data.sources.walk import Walk, subfolders
from kaizen.params import DatasetParams

LABELS_FILE = "labels.csv"


class Arrival(FileSource):
    name = "stream"
    layout = "train/<class>/* …"

    def __init__(self, dataset: DatasetParams) -> None:
        super().__init__(dataset)
        self.fraction, self.seed = dataset.test_fraction, dataset.seed
        self.base = "train/" if (self.root / "train").is_dir() else ""
        self.tests = "test" if (self.root / "test").is_dir() else None
        self._classes = (
            sorted(subfolders(self.root / self.base, self.layout) - {"unlabelled"})
            if (self.root / self.base).is_dir()
            else []
        )

    @property
    def held_out(self) -> bool:
        return self.tests is None

    @property
    def classes(self) -> list[str]:
        return list(self._classes)

    def groups(self, part: Part, walk: Walk) -> list[Group]:
        found = []
        for label, name in enumerate(self._classes):
            if self.tests:
                folder = f"{'train' if part == 'train' else self.tests}/{name}"
                files = walk.images(folder) if (self.root / folder).is_dir() else []
            else:
                every = Walk(self.root, self.layout).images(f"{self.base}{name}")
                order = sorted(every, key=lambda f: derive_seed(self.seed, "held out", f.path))
                n = (
                    min(max(1, round(len(every) * self.fraction)), len(every) - 1)
                    if len(every) > 1
                    else 0
                )
                files = sorted(order[:n] if part == "test" else order[n:])
                folder = f"{part}:{self.base}{name}"
            found.append(Group(folder, label, 0, files))
        if part == "train" and (self.root / "unlabelled").is_dir():
            found.append(
                Group("unlabelled", -1, 0, Walk(self.root, self.layout).images("unlabelled"))
            )
        return found

    def _listing(self, part):
        if part not in self._listed:
            walk = Walk(self.root, self.layout, {})
            self._listed[part], self._walks[part] = self.groups(part, walk), walk
        return self._listed[part]

    def counts(self, part: Part) -> dict[int, int]:
        return {g.label: len(g.files) for g in self._listing(part) if g.files}

    def unlabelled_checksum(self, cache: Path | None) -> str | None:
        for g, text, _ in self._group_checksums(cache)["train"]:
            if g.label == -1 and g.files:
                return text
        return None

    def checksums(self, cache):
        out = {}
        for part, found in self._group_checksums(cache).items():
            per = {g.label: text for g, text, _ in found}
            out[part] = [per.get(l, "") for l in range(len(self._classes))]
        return out
