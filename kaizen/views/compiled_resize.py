"""Pillow's bicubic resize, antialiased, to the bit: whole numbers throughout, rows first, both
passes rounded to levels (fidelity.md §8). On a CPU, one image at a time.

Pixels of a row lie side by side, but a weighted sum of them is made fast where whole lines are
added up. So the image is turned over before each pass: columns become lines, and then rows again.
A line holds all channels.
"""

from __future__ import annotations

import numpy as np

from kaizen.compute.compiled import compiled, inlined

# Pillow's weights are whole multiples of 2^-22 (Resample.c, PRECISION_BITS).
_BITS = 22
_STEPS = float(1 << _BITS)
_HALF = np.int32(1 << (_BITS - 1))
# Lines are added up to eight at a time: those beyond an image have weight 0, and must be there.
_MORE = 8
# Up to this side an image counts as small: all weights together fit into a second cache.
_SMALL = 64
_U8, _U16, _U32 = np.uint64(8), np.uint64(16), np.uint64(32)
_BYTES = np.uint64(0x00FF00FF00FF00FF)
_PAIRS = np.uint64(0x0000FFFF0000FFFF)
_FOURS = np.uint64(0x00000000FFFFFFFF)


@compiled
def _weigh_pixels(length, target, begin, count, at, first, taps, weights):  # type: ignore[no-untyped-def]
    """Of ``count`` outputs from ``begin`` on, of ``target`` from ``length`` pixels: the first
    pixel, how many have weight, and the weights (Pillow's precompute_coeffs and
    normalize_coeffs_8bpc), in the rows from ``at`` on.
    """
    scale = length / target
    stretch = max(scale, 1.0)
    support, inverse = 2.0 * stretch, 1.0 / stretch
    values = np.empty(weights.shape[1])
    for i in range(count):
        centre = (begin + i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        used = min(int(centre + support + 0.5), length) - low
        total = 0.0
        for k in range(used):
            x = abs((k + low - centre + 0.5) * inverse)
            value = 0.0
            if x < 1.0:
                value = (1.5 * x - 2.5) * x * x + 1.0
            elif x < 2.0:
                value = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
            values[k] = value
            total += value
        for k in range(used):
            value = values[k] / total * _STEPS
            weights[at + i, k] = np.int32(value + 0.5 if value >= 0.0 else value - 0.5)
        for k in range(used, used + _MORE):
            weights[at + i, k] = 0
        first[at + i], taps[at + i] = low, used


@inlined
def _four(a, b, c, d, p, q, r, s):  # type: ignore[no-untyped-def]
    """Four pixels times their weights; in 32 bits, as every sum is kept."""
    return np.int32(np.int32(a) * p + np.int32(b) * q + np.int32(c) * r + np.int32(d) * s)


@inlined
def _level(total):  # type: ignore[no-untyped-def]
    """The level of a sum."""
    return np.uint8(min(max(np.int32(total) >> _BITS, 0), 255))  # type: ignore[arg-type]


@inlined
def _add_first(lines, first, taps, weights, number, sums, n):  # type: ignore[no-untyped-def]
    """Add up lines, four at a time, until at most 8 are left: how many were."""
    k = 0
    while taps - k > 8:
        p, q = weights[number, k], weights[number, k + 1]
        r, s = weights[number, k + 2], weights[number, k + 3]
        a, b, c, d = first + k, first + k + 1, first + k + 2, first + k + 3
        for i in range(n):
            before = _HALF if k == 0 else sums[i]
            total = _four(lines[a, i], lines[b, i], lines[c, i], lines[d, i], p, q, r, s)
            sums[i] = before + total
        k += 4
    return k


@inlined
def _add_lines(lines, first, taps, weights, number, sums, out, place):  # type: ignore[no-untyped-def]
    """Line ``place`` of ``out``, uint8 [K, n]: the weighted sum of ``lines``, uint8 [L, n], from
    ``first`` on, by row ``number`` of the weights, rounded to levels. ``sums`` is memory for it.

    Without slices of arrays: counting who refers to them takes longer than short lines.
    """
    n = out.shape[1]
    done = _add_first(lines, first, taps, weights, number, sums, n)
    a = first + done
    b, c, d, e, f, g, h = a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7
    p, q = weights[number, done], weights[number, done + 1]
    r, s = weights[number, done + 2], weights[number, done + 3]
    t, u = weights[number, done + 4], weights[number, done + 5]
    v, w = weights[number, done + 6], weights[number, done + 7]
    if taps <= 4:
        for i in range(n):
            total = _four(lines[a, i], lines[b, i], lines[c, i], lines[d, i], p, q, r, s)
            out[place, i] = _level(_HALF + total)
    elif taps <= 6:
        for i in range(n):
            total = _four(lines[a, i], lines[b, i], lines[c, i], lines[d, i], p, q, r, s)
            more = np.int32(lines[e, i]) * t + np.int32(lines[f, i]) * u
            out[place, i] = _level(_HALF + total + more)
    elif taps <= 8:
        for i in range(n):
            total = _four(lines[a, i], lines[b, i], lines[c, i], lines[d, i], p, q, r, s)
            more = _four(lines[e, i], lines[f, i], lines[g, i], lines[h, i], t, u, v, w)
            out[place, i] = _level(_HALF + total + more)
    else:
        for i in range(n):
            total = _four(lines[a, i], lines[b, i], lines[c, i], lines[d, i], p, q, r, s)
            more = _four(lines[e, i], lines[f, i], lines[g, i], lines[h, i], t, u, v, w)
            out[place, i] = _level(sums[i] + total + more)


@compiled
def _turn(source, start, row, words, target, line, offset):  # type: ignore[no-untyped-def]
    """Turn 8 rows of 8 * ``words`` bytes over into as many lines of 8 bytes.

    Rows begin at ``start`` and are ``row`` words apart in ``source``, lines at ``offset`` and
    ``line`` words apart in ``target``: both uint64 [n], words of 8 bytes whose first is the lowest.
    """
    for j in range(words):
        place = start + j
        a, b = source[place], source[place + row]
        c, d = source[place + 2 * row], source[place + 3 * row]
        e, f = source[place + 4 * row], source[place + 5 * row]
        g, h = source[place + 6 * row], source[place + 7 * row]
        # Swap quarters of 4 x 4 bytes, then of 2 x 2 in each, then bytes.
        a, e = (a & _FOURS) | (e << _U32), (a >> _U32) | (e & ~_FOURS)
        b, f = (b & _FOURS) | (f << _U32), (b >> _U32) | (f & ~_FOURS)
        c, g = (c & _FOURS) | (g << _U32), (c >> _U32) | (g & ~_FOURS)
        d, h = (d & _FOURS) | (h << _U32), (d >> _U32) | (h & ~_FOURS)
        a, c = (a & _PAIRS) | ((c & _PAIRS) << _U16), ((a >> _U16) & _PAIRS) | (c & ~_PAIRS)
        b, d = (b & _PAIRS) | ((d & _PAIRS) << _U16), ((b >> _U16) & _PAIRS) | (d & ~_PAIRS)
        e, g = (e & _PAIRS) | ((g & _PAIRS) << _U16), ((e >> _U16) & _PAIRS) | (g & ~_PAIRS)
        f, h = (f & _PAIRS) | ((h & _PAIRS) << _U16), ((f >> _U16) & _PAIRS) | (h & ~_PAIRS)
        a, b = (a & _BYTES) | ((b & _BYTES) << _U8), ((a >> _U8) & _BYTES) | (b & ~_BYTES)
        c, d = (c & _BYTES) | ((d & _BYTES) << _U8), ((c >> _U8) & _BYTES) | (d & ~_BYTES)
        e, f = (e & _BYTES) | ((f & _BYTES) << _U8), ((e >> _U8) & _BYTES) | (f & ~_BYTES)
        g, h = (g & _BYTES) | ((h & _BYTES) << _U8), ((g >> _U8) & _BYTES) | (h & ~_BYTES)
        place = offset + 8 * j * line
        target[place], target[place + line] = a, b
        target[place + 2 * line], target[place + 3 * line] = c, d
        target[place + 4 * line], target[place + 5 * line] = e, f
        target[place + 6 * line], target[place + 7 * line] = g, h


@inlined
def _turn_plane(pixels, begin, row, height, width, strip, target, line, offset):  # type: ignore[no-untyped-def]
    """Turn ``height`` rows of ``width`` bytes over, which begin at ``begin`` and are ``row`` bytes
    apart: through ``strip``, uint64 [n], where rows are whole words; lines as in `_turn`.
    """
    words = (width + 7) // 8
    lines = strip.view(np.uint8)[: 64 * words].reshape(8, 8 * words)
    for y in range(0, height, 8):
        for r in range(min(8, height - y)):
            # Unsigned numbers: of others numba asks whether they count from the end.
            start = np.uint64(begin + (y + r) * row)
            for x in range(np.uint64(width)):
                lines[r, x] = pixels[start + x]
        _turn(strip, np.int64(0), words, words, target, line, offset + y // 8)


@inlined
def _write(rows, size, side, n, out):  # type: ignore[no-untyped-def]
    """Write rows of all channels, each of ``side`` bytes, as planes of image n."""
    channels = out.shape[1]
    lines = rows[: side * channels * side].reshape(side, channels, side)
    for c in range(channels):
        for y in range(size):
            for x in range(size):
                out[n, c, y, x] = lines[y, c, x]


@compiled
def resize(  # type: ignore[no-untyped-def]
    images, side_by_side, boxes, mirrored, target_height, target_width, top, left, out
):
    """Crop each image, uint8, to its box int64 [N, 4] (top, left, height, width), resize it to the
    target size, cut out the window at (top, left) that has the size of ``out``, uint8 [N, C, S, S],
    and mirror that where asked, bool [N]. Only what the window needs is computed.

    ``images`` are [N, C, H, W], or [N, H, W, C] where the channels of a pixel lie ``side_by_side``:
    turned over, those too become parts of its column's line.
    """
    count, channels, size = out.shape[0], out.shape[1], out.shape[2]
    tallest, widest = images.shape[1:3] if side_by_side else images.shape[2:4]
    planes, unit = (1, channels) if side_by_side else (channels, 1)
    side = (size + 7) // 8 * 8
    # Weights depend on a box's length alone: those of small images are computed once for each.
    most = 2 * int(np.ceil(2.0 * max(tallest / target_height, widest / target_width, 1.0))) + 1
    shared = target_height == target_width and top == left and max(tallest, widest) <= _SMALL
    slots = max(tallest, widest) + 1 if shared else 2
    known, at = np.zeros(slots, np.bool_), np.empty(2, np.int64)
    first, taps = np.empty(slots * size, np.int64), np.empty(slots * size, np.int64)
    weights = np.empty((slots * size, most + _MORE), np.int32)
    tall, wide = (tallest + 7) // 8 * 8, (widest * unit + 7) // 8 * 8
    strip = np.empty(wide, np.uint64)
    columns = np.empty((planes * wide + channels * (side + _MORE)) * tall // 8, np.uint64)
    narrow = np.empty(channels * side * max(tall, side) // 8, np.uint64)
    rows = np.empty(channels * side * (tall + _MORE) // 8, np.uint64)
    sums = np.empty(channels * max(tall, side), np.int32)
    column_bytes, narrow_bytes = columns.view(np.uint8), narrow.view(np.uint8)
    row_bytes = rows.view(np.uint8)
    pixels, long = images.reshape(-1), channels * side
    for n in range(count):
        for axis in range(2):
            length, begin = boxes[n, 3 - axis], top if axis else left
            target = target_height if axis else target_width
            slot = length if shared else axis
            at[axis] = slot * size
            if not (shared and known[slot]):
                _weigh_pixels(length, target, begin, size, at[axis], first, taps, weights)
                known[slot] = True
        x_begin, y_begin = first[at[0]], first[at[1]]
        x_end = first[at[0] + size - 1] + taps[at[0] + size - 1]
        y_end = first[at[1] + size - 1] + taps[at[1] + size - 1]
        # Columns become lines.
        used, here = (x_end - x_begin) * unit, y_end - y_begin
        tall = (here + 7) // 8 * 8
        high = channels * tall
        start = (n * planes * tallest + boxes[n, 0] + y_begin) * widest + boxes[n, 1] + x_begin
        for c in range(planes):
            begin, offset = (start + c * tallest * widest) * unit, c * tall // 8
            _turn_plane(
                pixels, begin, widest * unit, here, used, strip, columns, planes * tall // 8, offset
            )
        pixels_wide = (used + unit - 1) // unit + _MORE
        lines = column_bytes[: pixels_wide * high].reshape(pixels_wide, high)
        results = narrow_bytes[: side * high].reshape(side, high)
        for axis in range(2):
            for k in range(size):
                place = size - 1 - k if axis == 0 and mirrored[n] else k
                number = at[axis] + k
                begin = first[number] - (y_begin if axis else x_begin)
                _add_lines(lines, begin, taps[number], weights, number, sums, results, place)
            if axis == 0:
                # And rows again; the columns' memory is free then.
                for c in range(channels):
                    for x in range(0, size, 8):
                        start, offset = (x * high + c * tall) // 8, (c * side + x) // 8
                        _turn(narrow, start, high // 8, tall // 8, rows, long // 8, offset)
                lines = row_bytes[: (tall + _MORE) * long].reshape(tall + _MORE, long)
                results = narrow_bytes[: side * long].reshape(side, long)
        _write(narrow_bytes, size, side, n, out)
