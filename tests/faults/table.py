"""The table of faults: what happens, what it costs, and the message; the tests check each row, the docs show them.

`python tests/faults/table.py` prints it as Markdown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tiny import Outcome


@dataclass(frozen=True)
class Fault:
    """A fault, what was lost by it, the message (… stands for any text) and the command's exit code."""

    kind: str
    name: str
    lost: str
    message: str
    code: int

    def check(self, outcome: Outcome) -> None:
        """The command ended as the table says: the exit code, the message in one line, no traceback."""
        assert "Traceback" not in outcome.output, outcome.output
        assert outcome.code == self.code, f"{self.name} ended with {outcome.code}\n{outcome.output}"
        lines = [" ".join(line.split()) for line in outcome.output.splitlines()]
        pattern = re.escape(self.message).replace("…", ".+")
        assert not self.message or any(re.search(pattern, line) for line in lines), (
            f"{self.name}: no line is\n{self.message}\nin\n{outcome.output}"
        )


NOTHING = "nothing"
EPOCHS = "the batches after the last saved epoch"
NODE = "the node that was being made"

_LOWER = "lower train.lr, lengthen train.warmup_epochs or set train.precision: float32"
_KEPT = f"not finite in epoch 2; the last good state is kept in …; {_LOWER}"

_NUMBERS = [
    Fault("Numbers", f"{value} in {term}", EPOCHS, f"{term} ({name}) is {_KEPT}", 1)
    for value in ("NaN", "infinity")
    for term, name in (
        ("L_FE_CT", "self-supervised loss"),
        ("L_FE_KD", "feature distillation"),
        ("L_C_CT", "classifier cross-entropy"),
        ("L_C_KD", "classifier distillation"),
    )
] + [
    Fault("Numbers", "NaN in the gradient of the encoder", EPOCHS, f"L_FE_CT (self-supervised loss) and … are {_KEPT}", 1),
    Fault("Numbers", "NaN in the gradient of the classifier", EPOCHS, f"L_C_CT (classifier cross-entropy) and L_C_KD (classifier distillation) are {_KEPT}", 1),
    Fault("Numbers", "NaN in the weights by the first epoch's last update", EPOCHS, f"model.encoder.… is not finite after epoch 1; no state was saved before; {_LOWER}", 1),
    Fault("Numbers", "NaN in the weights by the step's very last update", EPOCHS, f"model.encoder.… is not finite after epoch 2; the last good state is kept in …; {_LOWER}", 1),
    Fault("Numbers", "NaN in a buffer", EPOCHS, f"model.encoder.…running_var is not finite after epoch 2; the last good state is kept in …; {_LOWER}", 1),
]  # fmt: skip

_ANEW = "its node was set aside as …; run the same command again to make it anew"
_FLIPPED, _TRUNCATED = "does not match its recorded hash", "has … bytes, not the recorded …"
_DAMAGE = [
    Fault("Damage", f"{what} {how}", "the damaged node, which is made again", f"…/{file} {says}; {_ANEW}", 2)
    for what, file in (
        ("shard", "task-00.train.parquet"),
        ("replay shard", "replay.parquet"),
        ("checkpoint", "model.safetensors"),
        ("history", "history.parquet"),
        ("evaluation", "accuracy.json"),
    )
    for how, says in (
        ("with a bit flipped", _FLIPPED),
        ("truncated", _TRUNCATED),
        ("in the place of another", "…"),
    )
] + [
    Fault("Damage", f"record {how}", "the damaged node, which is made again", "…/node.json is not the record of node step …; set aside as …; run again to make it anew", 2)
    for how in ("with a bit flipped", "truncated", "in the place of another")
] + [
    Fault("Damage", f"resume state {how}", "the step's progress", f"…/resume.safetensors cannot be used ({why}); kept as …; the step starts from its beginning", 0)
    for how, why in (
        ("with a bit flipped", "its content does not match its hash"),
        ("truncated", "…"),
        ("in the place of another", "it is another step's"),
    )
] + [
    Fault("Damage", f"manifest {how}", NOTHING, "", 0)
    for how in ("with a bit flipped", "truncated", "in the place of another")
]  # fmt: skip

_FULL = "No space left on device; free some space there, or set KAIZEN_STORE to a folder on a larger disk"
_READ_ONLY = (
    "Read-only file system; the file system is read-only: make it writable, or (for the store) set KAIZEN_STORE to another"
)
_DISK = [
    Fault("Full disk", f"no space for the {what}", lost, f"cannot write …{file}: {_FULL}", 2)
    for what, lost, file in (
        ("shards", NODE, "/shards/…/task-00.train.parquet"),
        ("replay shard", NODE, "/replay/…/replay.parquet"),
        ("resume state", EPOCHS, "/.work/step-…/resume.safetensors"),
        ("checkpoint", EPOCHS, "/step/…/model.safetensors"),
        ("history", EPOCHS, "/step/…/history.parquet"),
        ("evaluation", NODE, "/evaluation/…/accuracy.json"),
        ("figures", NODE, "/summary/…/figures/accuracy_bars.png"),
        ("record", NODE, "/shards/…/node.json"),
        ("published tree", NOTHING, "/results/models/…"),
        ("manifest", NOTHING, "/results/manifest.json"),
        ("parameters of a preset", NOTHING, "/params.yaml"),
    )
] + [
    Fault("Full disk", "no space for the log", "the log", "the log cannot be written (No space left on device) and ends here", 0),
    Fault("Full disk", "no space for the checksums", NOTHING, "", 0),
] + [
    Fault("Read-only output", f"read-only {what}", NOTHING, message, 2)
    for what, message in (
        ("store", f"cannot write …/store/…: {_READ_ONLY}"),
        ("published tree", f"cannot write …/results/…: {_READ_ONLY}"),
        ("log folder", f"cannot write logs/…: {_READ_ONLY}"),
        ("parameters", f"cannot write …/params.yaml: {_READ_ONLY}"),
    )
]  # fmt: skip

_BAD_IMAGE = "…/images/train/cat/07.png cannot be read as an image ({}); replace or remove it, or set dataset.on_corrupt: skip"
_IMAGES = [
    Fault("Images", name, NOTHING, _BAD_IMAGE.format(reason), 2)
    for name, reason in (
        ("a PNG that claims 60000 x 60000 pixels", "Image size (3600000000 pixels) exceeds limit of …"),
        ("a PNG that claims 10000 x 9000 pixels", "10000 x 9000 pixels are more than 89478485"),
        ("a JPEG that claims 65500 x 65500 pixels", "Image size (4290250000 pixels) exceeds limit of …"),
        ("a GIF that claims 65535 x 65535 pixels", "Image size (4294836225 pixels) exceeds limit of …"),
        ("a TIFF that claims 100000 x 100000 pixels", "Image size (10000000000 pixels) exceeds limit of …"),
        ("a BMP that claims 60000 x 60000 pixels", "Image size (3600000000 pixels) exceeds limit of …"),
        ("a PPM that claims 90000 x 90000 pixels", "Image size (8100000000 pixels) exceeds limit of …"),
        ("a PNG whose text is a bomb", "…"),
        ("a truncated PNG", "…"),
        ("a truncated JPEG", "image file is truncated …"),
        ("a truncated WebP", "…"),
        ("a PNG of 0 x 8 pixels", "…"),
        ("a PPM of 0 x 0 pixels", "…"),
        ("an empty file", "it is none of PNG, JPEG, …"),
        ("a text", "it is none of PNG, JPEG, …"),
        ("a PostScript program", "it is none of PNG, JPEG, …"),
        ("an HTML page", "it is none of PNG, JPEG, …"),
        ("pixels of 32 bits", "pixels of 32 bits (mode F) have no defined range; convert it to 8 or 16 bits"),
    )
]
_NAMES = [
    Fault("Names", "a variant's name that is no plain word", NOTHING, "…variants…", 2),
]
_NO_GPU = "train.device: cuda, but torch sees no GPU on this machine; set train.device to auto or cpu"
_MACHINE = [
    Fault("Machine", "no GPU, in one process", NOTHING, f"kaizen: {_NO_GPU}", 2),
    Fault("Machine", "no GPU, with a plan made elsewhere", NOTHING, f"kaizen: {_NO_GPU}", 2),
    Fault("Machine", "no GPU, with snakemake", NOTHING, f"step 0 …: {_NO_GPU}", 1),
    Fault("Machine", "no memory for ingestion", NODE, "out of memory; lower runtime.ingest_workers or dataset.row_group_mb, and run the same command again", 1),
    Fault("Machine", "no memory for a step", EPOCHS, "out of memory; lower train.stream_above_mb or train.batch_size, and run the same command again", 1),
    Fault("Machine", "clock set back by a year", NOTHING, "", 0),
    Fault("Machine", "a snakemake that was killed has left its lock", NOTHING, "…snakemake --unlock…", 1),
    Fault("Machine", "two snakemakes in one checkout", NOTHING, "…", 1),
    Fault("Machine", "two snakemakes in two checkouts with one store", NOTHING, "", 0),
]  # fmt: skip

FAULTS = [*_NUMBERS, *_DAMAGE, *_DISK, *_IMAGES, *_NAMES, *_MACHINE]
_BY_NAME = {fault.name: fault for fault in FAULTS}
assert len(_BY_NAME) == len(FAULTS)


def of_kind(kind: str) -> list[Fault]:
    """The faults of a kind, in order."""
    return [fault for fault in FAULTS if fault.kind == kind]


def fault(name: str) -> Fault:
    """A fault by its name."""
    return _BY_NAME[name]


def markdown() -> str:
    """The table, a section per kind."""
    parts = []
    for kind in dict.fromkeys(fault.kind for fault in FAULTS):
        rows = [(f.name, f.lost, f"`{f.message}`" if f.message else "none", str(f.code)) for f in of_kind(kind)]
        header = [("Fault", "Lost", "Message", "Exit code"), ("---",) * 4]
        lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in (*header, *rows)]
        parts.append(f"### {kind}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown())
