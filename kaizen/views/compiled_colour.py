"""The colours of views on a CPU, one image at a time: the operations of `kaizen.views.colour` and
the blur of `kaizen.views.crop`, some hundred pixels through all of them while they are in the first
cache (fidelity.md §8). Only a contrast, which needs the mean of the whole image at its place in
line, and a blur, which needs the neighbours, wait until all pixels are there.

Arithmetic is in float32, in the order of `kaizen.views.colour`; between, pixels are whole levels.
"""

from __future__ import annotations

import numpy as np

from kaizen.compute.compiled import compiled, inlined
from kaizen.views.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION

_GREYSCALE, _BLUR, _SOLARISE = HUE + 1, HUE + 2, HUE + 3
# So many pixels of each channel at a time.
_CHUNK = 512
# A blur's rows come in bands of about so many pixels.
_BAND = 4096
# Below it a pixel's share in a blur is less than float32's rounding of the sum.
_LEAST_SHARE = 1e-7
_ZERO, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_THREE, _FOUR, _SIX = np.float32(3.0), np.float32(4.0), np.float32(6.0)
_MIDDLE, _WHITE, _NOTHING = np.float32(128.0), np.float32(255.0), np.int32(0)
# ITU-R 601 in Pillow's 16 bits: sums of levels are exact in float32.
_RED, _GREEN, _BLUE = (np.float32(weight / 65536) for weight in (19595, 38470, 7471))


@inlined
def _cut(value):  # type: ignore[no-untyped-def]
    """Clamped to 0..255 and cut to a level."""
    return np.floor(min(max(value, _ZERO), _WHITE))


@inlined
def _luma(red, green, blue):  # type: ignore[no-untyped-def]
    """The level of ``convert("L")``."""
    return np.floor(red * _RED + green * _GREEN + blue * _BLUE + _HALF)


@compiled
def _mean_luma(levels, n, pixels):  # type: ignore[no-untyped-def]
    """The mean luma of image n, rounded to a level."""
    channels, total = levels.shape[1], np.int64(0)
    for begin in range(np.uint64(0), np.uint64(pixels), np.uint64(_CHUNK)):
        part = _NOTHING
        for i in range(begin, min(begin + np.uint64(_CHUNK), np.uint64(pixels))):
            grey = np.float32(levels[n, 0, i])
            if channels == 3:
                green, blue = np.float32(levels[n, 1, i]), np.float32(levels[n, 2, i])
                grey = _luma(grey, green, blue)
            part = np.int32(part + np.int32(grey))
        total += np.int64(part)
    return np.float32(np.floor(total / pixels + 0.5))


@inlined
def _saturate(pixels, count, share, kept):  # type: ignore[no-untyped-def]
    """`colour.saturation_`; ``share`` and ``kept`` as in `_apply`."""
    for i in range(count):
        red, green, blue = pixels[0, i], pixels[1, i], pixels[2, i]
        grey = _luma(red, green, blue)
        red, green, blue = red - grey, green - grey, blue - grey
        pixels[0, i] = _cut(share * red + (grey + kept * red))
        pixels[1, i] = _cut(share * green + (grey + kept * green))
        pixels[2, i] = _cut(share * blue + (grey + kept * blue))


@inlined
def _turn_hue(pixels, count, shift):  # type: ignore[no-untyped-def]
    """`colour.hue_`, by half a turn at most."""
    turned = shift * _SIX
    for i in range(count):
        red, green, blue = pixels[0, i], pixels[1, i], pixels[2, i]
        low, high = min(min(red, green), blue), max(max(red, green), blue)
        chroma = high - low
        sixths = (red - green) + _FOUR * chroma
        sixths = (blue - red) + _TWO * chroma if high == green else sixths
        sixths = green - blue if high == red else sixths
        sixths = sixths / max(chroma, _ONE) + turned
        sixths = sixths + _SIX if sixths < _ZERO else sixths
        sixths = sixths - _SIX if sixths >= _SIX else sixths
        low += _HALF
        falling = low + _TWO * chroma
        share_of_red = min(max(abs(sixths - _THREE), _ONE), _TWO)
        share_of_green = min(max(abs(sixths - _TWO), _ONE), _TWO)
        share_of_blue = min(max(abs(sixths - _FOUR), _ONE), _TWO)
        pixels[0, i] = np.floor(low - chroma + share_of_red * chroma)
        pixels[1, i] = np.floor(falling - share_of_green * chroma)
        pixels[2, i] = np.floor(falling - share_of_blue * chroma)


@inlined
def _pointwise(operation, factor, share, kept, mean, pixels, count):  # type: ignore[no-untyped-def]
    """Brightness, contrast or solarisation, each channel by itself."""
    for c in range(pixels.shape[0]):
        if operation == BRIGHTNESS:
            for i in range(count):
                pixels[c, i] = _cut(pixels[c, i] * factor)
        elif operation == CONTRAST:
            for i in range(count):
                away = pixels[c, i] - mean
                pixels[c, i] = _cut(share * away + (mean + kept * away))
        else:
            for i in range(count):
                level = pixels[c, i]
                pixels[c, i] = level if level < _MIDDLE else _WHITE - level


@compiled
def _apply(operation, factor, mean, pixels, count):  # type: ignore[no-untyped-def]
    """One operation on the first ``count`` pixels, float32 [C, n], in place; a contrast with the
    ``mean``.
    """
    # torch's lerp: from the end that is nearer.
    near = abs(factor) < _HALF
    share = factor if near else factor - _ONE
    kept = _ZERO if near else _ONE
    if operation == SATURATION:
        _saturate(pixels, count, share, kept)
    elif operation == HUE:
        _turn_hue(pixels, count, factor)
    elif operation == _GREYSCALE:
        for i in range(count):
            grey = _luma(pixels[0, i], pixels[1, i], pixels[2, i])
            pixels[0, i], pixels[1, i], pixels[2, i] = grey, grey, grey
    else:
        _pointwise(operation, factor, share, kept, mean, pixels, count)


@compiled
def _weigh_neighbours(sigma, kernel):  # type: ignore[no-untyped-def]
    """Write a Gaussian's weights for the distances 0, 1, … to ``kernel``, and 0 beyond its reach;
    returns a multiple of 4 that is no less than it.
    """
    sigma = max(float(sigma), 1e-6)
    total, reach = 1.0, 0
    kernel[:] = _ZERO
    # The last three are there for the rounding to 4 only.
    for distance in range(1, len(kernel) - 3):
        weight = np.exp(-0.5 * (distance / sigma) ** 2)
        if weight < _LEAST_SHARE:
            break
        kernel[distance] = weight
        total += 2.0 * weight
        reach = distance
    kernel[0] = 1.0
    kernel[: reach + 1] /= np.float32(total)
    return (reach + 3) // 4 * 4


@inlined
def _blur_rows(levels, n, c, size, kernel, reach, padded, rows):  # type: ignore[no-untyped-def]
    """Blur the rows of a channel into ``rows``, which are size + 2 reach long."""
    side, middle, last = np.uint64(size), np.uint64(reach), size - 1
    wide = size + 2 * reach
    band = max(1, _BAND // wide)
    margins = padded[: band * wide].reshape(band, wide)
    # Padded rows behind each other are one line: moved along it, it is added up weighted. What
    # comes together at the ends of rows is not looked at.
    for top in range(0, size, band):
        tall = min(band, size - top)
        for y in range(tall):
            begin = np.uint64(top + y) * side
            for x in range(side):
                margins[y, middle + x] = np.float32(levels[n, c, begin + x])
            for x in range(reach):
                margins[y, x] = margins[y, reach]
                margins[y, reach + size + x] = margins[y, reach + last]
        length = tall * wide - 2 * reach
        line = rows[top * wide : top * wide + length]
        centre, weight = padded[reach : reach + length], kernel[0]
        for i in range(length):
            line[i] = weight * centre[i]
        for k in range(1, reach, 4):
            a, b = padded[reach - k :], padded[reach + k :]
            d, e = padded[reach - k - 1 :], padded[reach + k + 1 :]
            f, g = padded[reach - k - 2 :], padded[reach + k + 2 :]
            h, j = padded[reach - k - 3 :], padded[reach + k + 3 :]
            p, q, r, s = kernel[k], kernel[k + 1], kernel[k + 2], kernel[k + 3]
            for i in range(length):
                near = p * (a[i] + b[i]) + q * (d[i] + e[i])
                far = r * (f[i] + g[i]) + s * (h[i] + j[i])
                line[i] += near + far


@inlined
def _blur_columns(levels, n, c, size, kernel, reach, line, rows):  # type: ignore[no-untyped-def]
    """Blur the columns of what `_blur_rows` wrote, and write it as levels."""
    side, last, wide = np.uint64(size), size - 1, size + 2 * reach
    lines = rows[: size * wide].reshape(size, wide)
    for y in range(size):
        begin = np.uint64(y) * side
        for x in range(side):
            line[x] = lines[y, x] * kernel[0]
        for k in range(1, reach, 4):
            a, b = max(y - k, 0), min(y + k, last)
            d, e = max(y - k - 1, 0), min(y + k + 1, last)
            f, g = max(y - k - 2, 0), min(y + k + 2, last)
            h, j = max(y - k - 3, 0), min(y + k + 3, last)
            p, q, r, s = kernel[k], kernel[k + 1], kernel[k + 2], kernel[k + 3]
            for x in range(side):
                near = p * (lines[a, x] + lines[b, x]) + q * (lines[d, x] + lines[e, x])
                far = r * (lines[f, x] + lines[g, x]) + s * (lines[h, x] + lines[j, x])
                line[x] += near + far
        for x in range(side):
            levels[n, c, begin + x] = np.uint8(np.int32(_cut(line[x] + _HALF)))


@compiled
def _blur(levels, n, size, kernel, reach, padded, rows):  # type: ignore[no-untyped-def]
    """Blur image n by the kernel up to a distance of ``reach``, a multiple of 4, in place, border
    pixels repeated outwards. ``padded`` and ``rows``, float32 [n], are memory.
    """
    for c in range(levels.shape[1]):
        _blur_rows(levels, n, c, size, kernel, reach, padded, rows)
        _blur_columns(levels, n, c, size, kernel, reach, padded, rows)


@inlined
def _choose(n, jittered, order, greyscaled, blurred, solarised, operations):  # type: ignore[no-untyped-def]
    """Write the operations of image n in their order; returns how many they are."""
    used = 0
    if jittered[n]:
        for k in range(order.shape[1]):
            operations[k] = order[n, k]
        used = order.shape[1]
    for k, chosen in enumerate((greyscaled, blurred, solarised)):
        if chosen[n]:
            operations[used] = _GREYSCALE + k
            used += 1
    return used


@inlined
def _run(levels, n, pixels, operations, done, end, factors, mean, chunk):  # type: ignore[no-untyped-def]
    """The operations from ``done`` to ``end`` - 1 on image n, a chunk of pixels at a time."""
    channels = levels.shape[1]
    for begin in range(np.uint64(0), np.uint64(pixels), np.uint64(_CHUNK)):
        some = min(np.uint64(pixels) - begin, np.uint64(_CHUNK))
        for c in range(channels):
            for i in range(some):
                chunk[c, i] = np.float32(levels[n, c, begin + i])
        for k in range(done, end):
            number = operations[k]
            # Grey images have no saturation, nor a hue.
            if channels == 3 or number < SATURATION or number == _SOLARISE:
                factor = factors[n, number] if number <= HUE else _ZERO
                _apply(number, factor, mean, chunk, some)
        for c in range(channels):
            for i in range(some):
                levels[n, c, begin + i] = np.uint8(np.int32(chunk[c, i]))


@inlined
def _normalise(levels, n, pixels, table, out):  # type: ignore[no-untyped-def]
    """The network's numbers for the levels of image n, its channels side by side."""
    if levels.shape[1] == 3:
        for i in range(pixels):
            out[n, i, 0] = table[0, levels[n, 0, i]]
            out[n, i, 1] = table[1, levels[n, 1, i]]
            out[n, i, 2] = table[2, levels[n, 2, i]]
    else:
        for i in range(pixels):
            out[n, i, 0] = table[0, levels[n, 0, i]]


@compiled
def finish_views(  # type: ignore[no-untyped-def]
    levels, jittered, factors, order, greyscaled, blurred, sigma, solarised, radius, table, out
):
    """Colours and normalisation of N cropped images, by their `ViewDraws`.

    ``levels``: uint8 [N, C, S * S], changed on the way; ``radius``: of the widest blur, in pixels;
    ``table``: float32 [C, 256], the network's number for each level; ``out``: float32 [N, S * S,
    C].
    """
    count, channels, pixels = levels.shape
    size = int(np.sqrt(pixels))
    operations = np.empty(order.shape[1] + 3, np.int64)
    chunk = np.empty((channels, _CHUNK), np.float32)
    kernel = np.empty(radius + 4, np.float32)
    wide = size + 2 * (radius + 3)
    padded = np.empty(max(_BAND, wide), np.float32)
    rows = np.empty(size * wide, np.float32)
    for n in range(count):
        used = _choose(n, jittered, order, greyscaled, blurred, solarised, operations)
        done = 0
        while done < used:
            end = done + 1
            if operations[done] == _BLUR:
                _blur(levels, n, size, kernel, _weigh_neighbours(sigma[n], kernel), padded, rows)
            else:
                mean = _mean_luma(levels, n, pixels) if operations[done] == CONTRAST else _ZERO
                while end < used and operations[end] != _BLUR and operations[end] != CONTRAST:
                    end += 1
                _run(levels, n, pixels, operations, done, end, factors, mean, chunk)
            done = end
        _normalise(levels, n, pixels, table, out)
