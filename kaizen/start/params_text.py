"""A params.yaml for a folder of images, with the reason of each value."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

from kaizen.errors import KaizenError
from kaizen.files import counted, printable
from kaizen.start.fitted import SIDE, Fitted
from kaizen.start.measure import Measured

_WIDTH = 99
# Colour images of more pixels are taken for photographs.
_MIRRORED = 32


def summary(found: Measured, fitted: Fitted) -> str:
    """One line: what the images are, and what became of that."""
    stream = f"{fitted.parts} tasks, each a part of every class"
    if fitted.tasks:
        stream = f"{fitted.parts} tasks of {_range(sorted(set(fitted.tasks)))} classes"
    return f"{_images(found)} -> {stream}, seen in {fitted.size} x {fitted.size} {_kind(fitted)}"


def params_text(found: Measured, fitted: Fitted, path: str) -> str:
    """The text of a params.yaml for the images, where ``path`` is `dataset.path`."""
    begin = (
        f"Written by `kaizen init`, which looked at {printable(str(found.folder))}: "
        f"{_images(found)}. The reason of each value stands above it: it is where to begin, not "
        "what was found best. Keys that are left out have their defaults; editors complete and "
        "explain all of them by the schema below. `kaizen check` looks at the images again."
    )
    lines = [
        *_comment(begin),
        "# yaml-language-server: $schema=workflow/schemas/params.schema.json",
        "",
        *_dataset(found, fitted, path),
    ]
    for section in (_split, _replay, _grid, _image, _augment, _model, _train):
        lines += ["", *section(found, fitted)]
    title = _text(f"Kaizen on {found.folder.absolute().name}")
    return "\n".join([*lines, "", "report:", f"  title: {title}", ""])


def _dataset(found: Measured, fitted: Fitted, path: str) -> Iterator[str]:
    yield "dataset:"
    yield "  source: image_folder"
    yield f"  path: {_text(path)}"
    if found.held_out:
        yield from _because(
            "test_fraction: 0.2",
            f"There is no folder `test` or `val`: a fifth of every class, {found.test} images, is "
            "held out, always the same.",
        )
    if fitted.load_size is not None and found.side > fitted.load_size:
        yield from _because(
            f"resize: {fitted.load_size}",
            f"The usual shorter side is {found.side} pixels, and the network sees fewer: images "
            "are stored as it sees them. Raise it with image.load_size.",
        )
    if found.unread:
        yield from _because(
            "on_corrupt: skip",
            "Some files are left out, which `kaizen check` counts. Convert them and set this to "
            "stop, so that nothing is lost unseen.",
        )
    else:
        yield from _because(
            "on_corrupt: stop", "An unreadable image ends the run with its name; skip counts it."
        )


def _split(found: Measured, fitted: Fitted) -> Iterator[str]:
    classes = len(found.classes)
    yield "split:"
    if not fitted.tasks:
        yield from _because(
            "by: data",
            f"{classes} classes are too few for tasks of two: each task is a part of every class.",
        )
        yield f"  tasks: {fitted.parts}"
    elif len(set(fitted.tasks)) == 1:
        yield from _because(
            f"tasks: {fitted.parts}",
            f"{classes} classes arrive in {fitted.parts} tasks of {fitted.tasks[0]}, in an order "
            "that split.seed draws. `classes: [[cat, dog], [ship]]` names them instead.",
        )
    else:
        yield from _because(
            f"sizes: {list(fitted.tasks)}",
            f"{classes} classes do not divide well: {fitted.parts} tasks of nearly equal size, in "
            "an order that split.seed draws.",
        )


def _replay(found: Measured, fitted: Fitted) -> Iterator[str]:
    fewest = min(found.classes.values())
    yield "replay:"
    yield from _because(
        "policy: balanced_random",
        "Files that follow each other are often alike (one scene, one burst), so not the first.",
    )
    if fewest >= 20:
        yield from _because(
            "proportion: [0.1]",
            f"A tenth of each class is kept: {fewest // 10} images of the smallest. More forgets "
            "less.",
        )
    else:
        yield "  proportion: null"
        yield from _because(
            f"per_class: [{max(1, fewest // 5)}]",
            f"Images of each class that are kept; the smallest has {fewest}.",
        )


def _grid(found: Measured, fitted: Fitted) -> Iterator[str]:
    yield "grid:"
    yield from _because(
        "variants: [kaizen, no_distill]",
        "The second shows what the first is worth, and takes as long; leave it out for a model "
        "alone.",
    )
    yield from _because(
        "heads: [trained, lda]", "lda is solved in closed form, at no training (docs/heads.md)."
    )
    yield from _because(
        "specialists: false",
        "true trains a model on each task alone, for forward transfer: as long as a run.",
    )


def _image(found: Measured, fitted: Fitted) -> Iterator[str]:
    yield "image:"
    why = f"The usual shorter side is {found.side} pixels."
    if found.side > SIDE:
        why += (
            f" {SIDE} is enough for a small network on a CPU; for detail, and with a GPU, raise "
            "size, load_size and dataset.resize together, as to 128 or 224."
        )
    yield from _because(f"size: {fitted.size}", why)
    if fitted.load_size is None:
        yield from _because("load_size: null", "All images are squares of one size.")
    else:
        why = "Images differ in size"
        if found.looks.unlike is None:
            why = "Images are larger, or no squares"
            if found.looks.seen < found.looks.images:
                why = f"Not all images were looked at ({found.looks.seen}), so sizes may differ"
        why += ": the shorter side is brought to this, and the centre is cut out."
        yield from _because(f"load_size: {fitted.load_size}", why)
    if fitted.channels == 3:
        yield from _because("channels: 3", "There are colour images; greyscale ones become RGB.")
    elif found.looks.colour:
        yield from _because("channels: 1", "Images are stored in RGB, and are grey.")
        yield "  drop_colour: true"
    else:
        yield from _because("channels: 1", "All images are greyscale.")
    yield from _because(f"mean: {list(fitted.mean)}", "Measured, of pixels from 0 to 1.")
    yield f"  std: {list(fitted.std)}"


def _augment(found: Measured, fitted: Fitted) -> Iterator[str]:
    colour = fitted.channels == 3
    yield "augment:"
    yield from _because(
        f"crop_scale: {[0.2, 1.0] if colour else [0.3, 1.0]}",
        "Share of the area that a view keeps. What a class is known by has to be in it.",
    )
    if not colour and fitted.size <= _MIRRORED:
        yield from _because("flip: 0.0", "Small grey images may be characters; 0.5 mirrors views.")
    else:
        yield from _because(
            "flip: 0.5", "Half of the views are mirrored; 0.0 where left and right matter."
        )
    if colour:
        yield from _because(
            "jitter: { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, "
            "hue: 0.1 }",
            "Colours vary with the light. Where a class is known by its colour, lower saturation, "
            "hue and greyscale.",
        )
        yield "  greyscale: 0.2"
        yield "  solarize: [0.0, 0.2]"


def _model(found: Measured, fitted: Fitted) -> Iterator[str]:
    yield "model:"
    yield "  backbone: small_resnet"
    yield from _because(
        f"width: {fitted.width}",
        f"For {counted(found.train, 'training image')}: 16 below 2,000, 32 below 20,000, then 64. "
        "With a GPU and many images: backbone resnet18.",
    )
    hidden = 128 if len(found.classes) <= 20 else 256
    yield f"  classifier_hidden: [{hidden}]"


def _train(found: Measured, fitted: Fitted) -> Iterator[str]:
    per_task = found.train // fitted.parts
    yield "train:"
    yield from _because(
        f"batch_size: {fitted.batch}",
        f"About {per_task} images a task make {max(1, per_task // fitted.batch)} batches.",
    )
    yield f"  replay_batch_size: {fitted.batch}"
    yield from _because(
        f"epochs: {fitted.epochs}",
        "Per task: some 400 updates, within 10 to 50 epochs. More learns better features.",
    )
    yield f"  warmup_epochs: {max(1, fitted.epochs // 6)}"
    yield from _because("lr: 1.0", "At a batch of 256, scaled to this one; 2.0 and 0.5 are next.")


def _images(found: Measured) -> str:
    looks = found.looks
    per_class = _range(sorted({min(found.classes.values()), max(found.classes.values())}))
    sizes = " x ".join(_range(side) for side in (looks.height, looks.width))
    without = f", {found.unlabelled} without a class" if found.unlabelled else ""
    return (
        f"{counted(looks.images, 'image')} of {len(found.classes)} classes ({per_class} of each to "
        f"train on{without}; {found.test} to test), {sizes} pixels"
    )


def _kind(fitted: Fitted) -> str:
    return "colour" if fitted.channels == 3 else "greyscale"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def _comment(text: str, indent: str = "") -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False
    )


def _because(key: str, why: str) -> Iterator[str]:
    """A key of a section, with its reason above it."""
    yield from _comment(why, "  ")
    yield f"  {key}"


def _text(text: str) -> str:
    """A text in YAML's double quotes, which are JSON's; raises KaizenError where it is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise KaizenError(f"the folder's name, {text!r}, is no text in UTF-8; rename it") from error
    return json.dumps(text, ensure_ascii=not text.isprintable())
