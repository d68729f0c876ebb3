"""The table of faults: what happens, what it costs, and the message; the tests check each row, the
docs show them.

`PYTHONPATH=tests python -m faults.table` prints it as Markdown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from project import Outcome


@dataclass(frozen=True)
class Fault:
    """A fault, what was lost by it, the message (… stands for any text) and the command's exit
    code.
    """

    kind: str
    name: str
    lost: str
    message: str
    code: int

    def check(self, outcome: Outcome) -> None:
        """The command ended as the table says: the exit code, the message in one line, no
        traceback.
        """
        assert outcome.code == self.code, f"{self.name} ended with {outcome.code}\n{outcome.output}"
        self.check_text(outcome.output)

    def check_text(self, output: str) -> None:
        """The message is a line of the output, which holds no traceback."""
        CHECKED.add(self.name)
        assert "Traceback" not in output, output
        lines = [" ".join(line.split()) for line in output.splitlines()]
        pattern = re.escape(self.message).replace("…", ".+")
        assert not self.message or any(re.search(pattern, line) for line in lines), (
            f"{self.name}: no line is\n{self.message}\nin\n{output}"
        )


# The names of the rows that the current test has checked.
CHECKED: set[str] = set()

NOTHING = "nothing"
EPOCHS = "the batches after the last saved epoch"
NODE = "the node that was being made"

_KILLS = [
    Fault("SIGKILL", f"SIGKILL in {work}, {rounds} random moments", lost, "", -9)
    for work, rounds, lost in (
        (
            "training",
            20,
            "the node that was being made; of a step, the batches after the last saved epoch",
        ),
        ("ingestion", 10, NODE),
        ("publishing", 10, NOTHING),
        ("garbage collection", 10, NOTHING),
    )
]

_LOWER = "lower train.lr, lengthen train.warmup_epochs or set train.precision: float32"
_KEPT = "the last good state is kept in …"
_TERMS = {
    "L_FE_CT": "L_FE_CT (self-supervised loss)",
    "L_FE_KD": "L_FE_KD (feature distillation)",
    "L_C_CT": "L_C_CT (classifier cross-entropy)",
    "L_C_KD": "L_C_KD (classifier distillation)",
}


def _number(name: str, what: str, kept: str = _KEPT) -> Fault:
    return Fault("Numbers", name, EPOCHS, f"{what}; {kept}; {_LOWER}", 1)


_NUMBERS = [
    *(
        _number(f"{value} in {term}", f"{name} is not finite in epoch 2")
        for value in ("NaN", "infinity")
        for term, name in _TERMS.items()
    ),
    _number(
        "NaN in the gradient of the encoder", f"{_TERMS['L_FE_CT']} and … are not finite in epoch 2"
    ),
    _number(
        "NaN in the gradient of the classifier",
        f"{_TERMS['L_C_CT']} and {_TERMS['L_C_KD']} are not finite in epoch 2",
    ),
    _number(
        "NaN in the weights by the first epoch's last update",
        "model.encoder.… is not finite after epoch 1",
        "no state was saved before",
    ),
    _number(
        "NaN in the weights by the step's very last update",
        "model.encoder.… is not finite after epoch 2",
    ),
    _number("NaN in a buffer", "model.encoder.…running_var is not finite after epoch 2"),
]

_AGAIN = "its node was set aside as …; run the same command to make it again"
_RECORD = (
    "…/node.json is not the record of node step/…; set aside as …; run the same command to "
    "make it again"
)
_RESUME = "…/resume.safetensors cannot be used ({}); kept as …; the step starts from its beginning"
_FLIPPED, _TRUNCATED, _ANOTHERS = "with a bit flipped", "truncated", "in the place of another"
_FILES = {
    "shard": "task-00.train.parquet",
    "replay shard": "replay.parquet",
    "checkpoint": "model.safetensors",
    "history": "history.parquet",
    "facts of a step": "step.json",
    "description of a model": "config.json",
    "evaluation": "accuracy.json",
}


def _damage(
    name: str, message: str, lost: str = "the damaged node, which is made again", code: int = 2
) -> Fault:
    return Fault("Damage", name, lost, message, code)


_DAMAGE = [
    *(
        _damage(f"{what} {how}", f"…/{file} {says}; {_AGAIN}")
        for what, file in _FILES.items()
        for how, says in (
            (_FLIPPED, "does not match its recorded hash"),
            (_TRUNCATED, "has … bytes, not the recorded …"),
            (_ANOTHERS, "…"),
        )
    ),
    *(_damage(f"record {how}", _RECORD) for how in (_FLIPPED, _TRUNCATED, _ANOTHERS)),
    *(
        _damage(f"resume state {how}", _RESUME.format(why), "the step's progress", 0)
        for how, why in (
            (_FLIPPED, "its content does not match its hash"),
            (_TRUNCATED, "…"),
            (_ANOTHERS, "it is another step's"),
        )
    ),
    *(_damage(f"manifest {how}", "", NOTHING, 0) for how in (_FLIPPED, _TRUNCATED, _ANOTHERS)),
]

_FULL = (
    "No space left on device; free some space there, or set KAIZEN_STORE to a folder on a "
    "larger disk"
)
_READ_ONLY = (
    "Read-only file system; the file system is read-only: make it writable, or (for the store) "
    "set KAIZEN_STORE to another"
)
_NO_LOG = "the log cannot be written (No space left on device) and ends here"
_FULL_DISK = [
    *(
        Fault("Full disk", f"no space for the {what}", lost, f"cannot write …{file}: {_FULL}", 2)
        for what, lost, file in (
            ("shards", NODE, "/shards/…/task-00.train.parquet"),
            ("replay shard", NODE, "/replay/…/replay.parquet"),
            ("resume state", EPOCHS, "/.work/step-…/resume.safetensors"),
            ("checkpoint", EPOCHS, "/step/…/model.safetensors"),
            ("history", EPOCHS, "/step/…/history.parquet"),
            ("facts of a step", EPOCHS, "/step/…/step.json"),
            ("evaluation", NODE, "/evaluation/…/accuracy.json"),
            ("figures", NODE, "/summary/…/figures/accuracy_bars.png"),
            ("record", NODE, "/shards/…/node.json"),
            ("published tree", NOTHING, "/results/models/…"),
            ("manifest", NOTHING, "/results/manifest.json"),
            ("parameters of a preset", NOTHING, "params.yaml"),
        )
    ),
    Fault("Full disk", "no space for the log", "the rest of the log", _NO_LOG, 0),
    Fault("Full disk", "no space for the checksums", NOTHING, "", 0),
]
_READ_ONLY_DISK = [
    Fault("Read-only output", f"read-only {what}", NOTHING, f"cannot write {file}: {_READ_ONLY}", 2)
    for what, file in (
        ("store", "…/store/…"),
        ("published tree", "…/results/…"),
        ("log folder", "logs/…"),
        ("parameters", "…/params.yaml"),
    )
]

_BAD_IMAGE = (
    "…/images/train/cat/07.png cannot be read as an image ({}); replace or remove it, or "
    "set dataset.on_corrupt: skip"
)
_TOO_LARGE = "Image size (…) exceeds limit of …"
_NO_IMAGE = "it is none of PNG, JPEG, GIF, BMP, TIFF, WEBP, PPM, AVIF"
_IMAGES = [
    Fault("Images", name, NOTHING, _BAD_IMAGE.format(reason), 2)
    for name, reason in (
        ("a PNG that claims 60000 x 60000 pixels", _TOO_LARGE),
        ("a PNG that claims 10000 x 9000 pixels", "10000 x 9000 pixels are more than 89478485"),
        ("a JPEG that claims 65500 x 65500 pixels", _TOO_LARGE),
        ("a GIF that claims 65535 x 65535 pixels", _TOO_LARGE),
        ("a TIFF that claims 100000 x 100000 pixels", _TOO_LARGE),
        ("a BMP that claims 60000 x 60000 pixels", _TOO_LARGE),
        ("a PPM that claims 90000 x 90000 pixels", _TOO_LARGE),
        ("a PNG whose text is a bomb", "…"),
        ("a truncated PNG", "…"),
        ("a truncated JPEG", "image file is truncated …"),
        ("a truncated WebP", "…"),
        ("a PNG of 0 x 8 pixels", "…"),
        ("a PPM of 0 x 0 pixels", "…"),
        ("an empty file", _NO_IMAGE),
        ("a text", _NO_IMAGE),
        ("a PostScript program", _NO_IMAGE),
        ("an HTML page", _NO_IMAGE),
        (
            "pixels of 32 bits",
            "pixels of 32 bits (mode F) have no defined range; convert it to 8 or 16 bits",
        ),
        (
            "data of 12 bits in 16",
            "its 16-bit pixels are at most … of 65535, nearly black: if the data have fewer bits, "
            "say so by dataset.bit_depth, else convert it to 8 bits",
        ),
    )
]

_REFUSED = "…cifar-10-python.tar.gz cannot be read (…); fetch it again from …"
_CODE = [
    Fault("Files that would do harm", name, NOTHING, _REFUSED, 2)
    for name in (
        "a pickle that calls a function",
        "an archive whose member is a link, a device, a pipe or a folder",
        "an archive whose member claims more than there is",
    )
] + [
    Fault(
        "Files that would do harm",
        "an archive with paths and links that lead out of it",
        NOTHING,
        "",
        0,
    )
]

_WORD = "a variant's name has letters, digits, '_' and '.' only (64 at most); rename it"
_NAMES = [
    Fault(
        "Names",
        "classes, folders and titles with characters of shell, TeX, Markdown, XML",
        NOTHING,
        "",
        0,
    ),
    Fault(
        "Names",
        "a variant's name that is no plain word",
        NOTHING,
        "a variant's name has letters, digits, '_' and '.' only (64 at most); rename it",
        2,
    ),
]

_NO_GPU = (
    "train.device: cuda, but torch sees no GPU on this machine; set train.device to auto or cpu"
)
_NO_MEMORY = "out of memory; lower {}, and run the same command again"
_MACHINE = [
    Fault("Machine", "no GPU, in one process", NOTHING, f"kaizen: {_NO_GPU}", 2),
    Fault("Machine", "no GPU, with a plan made elsewhere", NOTHING, f"kaizen: {_NO_GPU}", 2),
    Fault(
        "Machine",
        "no GPU, with snakemake",
        NOTHING,
        "kaizen: train.device: cuda, but this machine shows no GPU: jobs must run on machines that "
        "have one, by a cluster's profile; here, set train.device to auto or cpu",
        2,
    ),
    Fault(
        "Machine",
        "no memory for ingestion",
        NODE,
        _NO_MEMORY.format("runtime.ingest_workers or dataset.row_group_mb"),
        1,
    ),
    Fault(
        "Machine",
        "no memory for a step",
        EPOCHS,
        _NO_MEMORY.format("train.stream_above_mb or train.batch_size"),
        1,
    ),
    Fault("Machine", "clock set back by a year", NOTHING, "", 0),
    Fault(
        "Machine",
        "two snakemakes in one checkout",
        NOTHING,
        "Error: Directory cannot be locked. Please make sure that no other Snakemake process is "
        "trying to create …",
        1,
    ),
    Fault(
        "Machine",
        "a snakemake that was killed has left its lock",
        "what its jobs had not saved",
        "the remaining lock was likely caused by a kill signal or a power loss. It can be removed "
        "with the --unlock argument.",
        1,
    ),
    Fault("Machine", "two snakemakes in two checkouts with one store", NOTHING, "", 0),
]

_COPY = "copy the model's folder again, all of it, or have it made again by `snakemake --cores all`"
_GOES_ON = "step-01 is not taken, step-00 goes on: "
_SERVING = [
    Fault("Serving", name, lost, message, code)
    for name, lost, message, code in (
        (
            "a newer step with NaN in its weights",
            NOTHING,
            f"{_GOES_ON}…/model.safetensors: … is not finite; {_COPY}",
            0,
        ),
        (
            "a newer step that is truncated",
            NOTHING,
            f"{_GOES_ON}…/model.safetensors has … bytes, not the recorded …; {_COPY}",
            0,
        ),
        (
            "a newer step without its record",
            NOTHING,
            f"{_GOES_ON}…/node.json is not there, or not yet",
            0,
        ),
        (
            "a newer step that does not know a class any more",
            NOTHING,
            f"{_GOES_ON}it does not know 'red' any more, which step-00 knows",
            0,
        ),
        (
            "a newer step that mixes classes up",
            NOTHING,
            f"{_GOES_ON}on … held-out images of the classes that step-00 knows it is right in "
            "0.0 %, step-00 in 100.0 %: more than 40 points less (--max-drop)",
            0,
        ),
        (
            "a server that starts beside a newest step that is truncated",
            NOTHING,
            "step-01 cannot be served: …/model.safetensors has … bytes, not the recorded …; "
            f"{_COPY}",
            0,
        ),
        (
            "a server of one model, which is truncated",
            NOTHING,
            f"…/model.safetensors has … bytes, not the recorded …; {_COPY}",
            2,
        ),
        (
            "a port that another program has",
            NOTHING,
            "--port: … of 127.0.0.1 cannot be used (Address already in use); name another, or 0 "
            "for any free one",
            2,
        ),
        (
            "no space for an image that is given with feedback",
            "that image: its request is answered with 507",
            "cannot write …/next/…: No space left on device; free some space there, or set "
            "KAIZEN_STORE to a folder on a larger disk",
            0,
        ),
        (
            "SIGKILL while feedback is given",
            "answers under way; what was acknowledged is kept",
            "",
            -9,
        ),
        (
            "SIGTERM while a request is under way",
            NOTHING,
            "ended; all that was under way is answered",
            0,
        ),
    )
]

FAULTS = [
    *_KILLS,
    *_NUMBERS,
    *_DAMAGE,
    *_FULL_DISK,
    *_READ_ONLY_DISK,
    *_IMAGES,
    *_CODE,
    *_NAMES,
    *_MACHINE,
    *_SERVING,
]
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
        rows = [
            (f.name, f.lost, f"`{f.message}`" if f.message else "none", str(f.code))
            for f in of_kind(kind)
        ]
        header = [("Fault", "Lost", "Message", "Exit code"), ("---",) * 4]
        lines = [
            "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"
            for row in (*header, *rows)
        ]
        parts.append(f"### {kind}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown())
