"""What a dataset's images look like and what the network will see of them, before any work."""

from __future__ import annotations

from collections.abc import Sequence

from kaizen.data.found import Found, LeftOut
from kaizen.data.sources.base import ALL, Looks, Source
from kaizen.errors import KaizenError
from kaizen.params import InputParams
from kaizen.params.data import LEAST_DEVIATION

# So many images, evenly spaced, are looked at: headers, and of fewer the pixels.
SEEN, DECODED = 200, 16
# A mean this far from the images' own is another dataset's.
_FAR = 0.1


def refuse_loss_of_colour(source: Source, image: InputParams) -> None:
    """Raise KaizenError where colour images would become grey and ``image.drop_colour`` does not
    ask for it.
    """
    if image.channels != 1 or image.drop_colour:
        return
    looks = source.looks(SEEN, DECODED)
    if looks is None or looks.coloured is None:
        return
    values = ""
    if looks.mean:
        values = f" (here about {_list(looks.mean)} and {_deviations(looks.std)})"
    which = looks.coloured if looks.coloured == ALL else f"such as {looks.coloured}"
    raise KaizenError(
        f"image.channels: 1, but images are in colour ({which}), and the network would see them "
        "in grey; set image.channels: 3 with three values each in image.mean and "
        f"image.std{values}, or image.drop_colour: true if grey is meant"
    )


def refuse_several_sizes(source: Source, image: InputParams) -> None:
    """Raise KaizenError where images of several sizes are seen and ``image.load_size`` is null.

    Sees a sample: what is of another size beyond it is refused when it is decoded.
    """
    if image.load_size is not None:
        return
    looks = source.looks(SEEN, DECODED)
    if looks is None or looks.unlike is None:
        return
    (first, *size), (second, *other) = looks.unlike
    side = max(4, min(2048, looks.height[0], looks.width[0]))
    raise KaizenError(
        f"image.load_size: null, but images differ in size ({size[0]} x {size[1]} and {other[0]} x "
        f"{other[1]} pixels, {first} and {second}); set image.load_size to the side that all are "
        f"brought to, such as {side}"
    )


def describe(source: Source, image: InputParams, found: Found) -> list[str]:
    """Lines that say what the images are, what the network will see, what is held out or left out
    of them and what is there twice (``found``: `Source.found`).
    """
    looks = source.looks(SEEN, DECODED)
    lines = [] if looks is None else [f"{_images(looks)} -> {_network(looks, image)}"]
    if looks is not None and len(looks.mean) == image.channels:
        far = [abs(a - b) > _FAR for a, b in zip(looks.mean, image.mean, strict=True)]
        if any(far):
            lines.append(
                f"image.mean: {_list(image.mean)} is far from these images'; set image.mean: "
                f"{_list(looks.mean)} and image.std: {_deviations(looks.std)}"
            )
    if found.held_out:
        lines.append(f"held out for testing: {found.held_out.text()}")
    for part, findings in vars(found.skipped or LeftOut([], [])).items():
        for finding in findings:
            lines.append(
                f"left out of {part}: {finding.count} {finding.what}, the first {finding.first}"
            )
    for finding in found.copies or []:
        lines.append(f"copies: {finding.count} {finding.what}, such as {finding.first}")
    return lines


def _images(looks: Looks) -> str:
    grey = looks.seen - looks.colour
    kinds = [f"{looks.colour} RGB"] if looks.colour else []
    kinds += [f"{grey} greyscale"] if grey else []
    if len(kinds) == 1:
        kinds = [kinds[0].replace(f"{looks.seen} ", "")]
    seen = "" if looks.seen == looks.images else f" ({looks.seen} looked at)"
    pixels = " x ".join(_range(side) for side in (looks.height, looks.width))
    mean = f", mean {_list(looks.mean)}, std {_list(looks.std)}" if looks.mean else ""
    only = ", grey in all that were decoded" if looks.colour and looks.coloured is None else ""
    return f"{looks.images} images{seen}: {' and '.join(kinds)}, {pixels} px{mean}{only}"


def _network(looks: Looks, image: InputParams) -> str:
    kind = "RGB" if image.channels == 3 else "greyscale"
    loaded = f", from {image.load_size} x {image.load_size}" if image.load_size else ""
    same = looks.height[0] == looks.height[1] and looks.width[0] == looks.width[1]
    if image.load_size is None and not same:
        loaded = ", but image.load_size: null takes images of one size only"
    return (
        f"{image.size} x {image.size} {kind}{loaded}, normalised by mean {_list(image.mean)}, "
        f"std {_list(image.std)}"
    )


def _range(side: Sequence[int]) -> str:
    return str(side[0]) if side[0] == side[1] else f"{side[0]}–{side[1]}"


def _list(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.3g}' for value in values)}]"


def _deviations(values: Sequence[float]) -> str:
    """Values for image.std, which takes none of 0: images of one grey are not scaled."""
    return _list([value if value >= LEAST_DEVIATION else 1.0 for value in values])
