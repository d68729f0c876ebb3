"""A batch norm in training with the addition and the ReLU after it, and their gradients, in
bfloat16: two passes over memory each way, where torch takes one for every operation and more for
the norm.

Maps with channels last are rows uint16 [R, W], the bits of bfloat16. A row holds the C channels
several times over, W = k C, as short rows would cost more in loops than in arithmetic. All other
arrays are float32. `forward` and `backward` take the addresses of tensors, whose type and layout
the caller has looked at (`kaizen.models.cpu_norm`).
"""

from __future__ import annotations

import numpy as np

from kaizen.compute.compiled import compiled, inlined, memory_at

# Sums are taken over so many rows at a time, and these are added up: in float32, a long sum loses
# what short ones keep.
_BLOCK = 32
_ZERO = np.float32(0.0)
_NOTHING = np.uint16(0)
_array_at = memory_at()


@inlined
def _wide(bits):  # type: ignore[no-untyped-def]  # numba's, for every type
    """The number that bfloat16's bits mean."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@inlined
def _rounded(value):  # type: ignore[no-untyped-def]
    """The bits of the nearest bfloat16, of two that are as near the even one."""
    bits = np.float32(value).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@compiled
def _block_sums(
    block: np.ndarray, first: np.ndarray, sums: np.ndarray, squares: np.ndarray
) -> None:
    """Write the sums, [W], of the distances of some rows from the first of them, and of their
    squares.
    """
    rows, width = block.shape
    for j in range(width):
        first[j], sums[j], squares[j] = _wide(block[0, j]), _ZERO, _ZERO
    # Four rows at a time: the sums are read and written once for all of them.
    fours = rows // 4 * 4
    for r in range(0, fours, 4):
        row0, row1, row2, row3 = block[r], block[r + 1], block[r + 2], block[r + 3]
        for j in range(width):
            away0, away1 = _wide(row0[j]) - first[j], _wide(row1[j]) - first[j]
            away2, away3 = _wide(row2[j]) - first[j], _wide(row3[j]) - first[j]
            sums[j] += (away0 + away1) + (away2 + away3)
            squares[j] += (away0 * away0 + away1 * away1) + (away2 * away2 + away3 * away3)
    for r in range(fours, rows):
        for j in range(width):
            away = _wide(block[r, j]) - first[j]
            sums[j] += away
            squares[j] += away * away


@compiled
def _statistics(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    """Write mean and biased variance, [C], of the channels of ``x``.

    Those of blocks are combined by the distances of their means (Chan et al. 1979): sums of squares
    alone would cancel where a mean is large.
    """
    rows, width = x.shape
    total, spread = np.zeros(width, np.float32), np.zeros(width, np.float32)
    sums, squares = np.empty(width, np.float32), np.empty(width, np.float32)
    first = np.empty(width, np.float32)
    seen = _ZERO
    for begin in range(0, rows, _BLOCK):
        block = x[begin : begin + _BLOCK]
        _block_sums(block, first, sums, squares)
        count = np.float32(len(block))
        share, factor = count / (seen + count), seen * count / (seen + count)
        for j in range(width):
            here = sums[j] / count
            away = here + first[j] - total[j]
            total[j] += away * share
            spread[j] += squares[j] - here * sums[j] + away * away * factor
        seen += count
    channels = len(mean)
    copies = np.float32(width // channels)
    for c in range(channels):
        middle, sum_of_squares = _ZERO, _ZERO
        for j in range(c, width, channels):
            middle += total[j] / copies
        for j in range(c, width, channels):
            away = total[j] - middle
            sum_of_squares += spread[j] + away * away * seen
        mean[c], variance[c] = middle, sum_of_squares / (seen * copies)


@compiled
def _scale_and_shift(
    x: np.ndarray,
    other: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    added: bool,
    relu: bool,
    y: np.ndarray,
) -> None:
    """Write ``x`` times ``scale`` plus ``shift``, both [C], plus ``other`` if ``added``, and cut
    below 0 if ``relu``, to ``y``; rounded once, at the end. What is not a number stays so.
    """
    rows, width = x.shape
    scale, shift = np.resize(scale, width), np.resize(shift, width)
    for r in range(rows):
        if added:
            for j in range(width):
                value = _wide(x[r, j]) * scale[j] + shift[j] + _wide(other[r, j])
                y[r, j] = _rounded(_ZERO if relu and value <= _ZERO else value)
        elif relu:
            for j in range(width):
                value = _wide(x[r, j]) * scale[j] + shift[j]
                y[r, j] = _rounded(_ZERO if value <= _ZERO else value)
        else:
            for j in range(width):
                y[r, j] = _rounded(_wide(x[r, j]) * scale[j] + shift[j])


@compiled
def _gradient_sums(
    gradient: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    relu: bool,
    sums: np.ndarray,
    products: np.ndarray,
) -> None:
    """Write, [C], the sum of the ``gradient`` of every channel and of its product with the distance
    of ``x`` from the ``mean``; if ``relu``, where ``y`` is not 0.
    """
    rows, width = x.shape
    channels = len(mean)
    mean = np.resize(mean, width)
    part, part_products = np.empty(width, np.float32), np.empty(width, np.float32)
    sums[:] = _ZERO
    products[:] = _ZERO
    for begin in range(0, rows, _BLOCK):
        part[:] = _ZERO
        part_products[:] = _ZERO
        for r in range(begin, min(begin + _BLOCK, rows)):
            if relu:
                for j in range(width):
                    passed = _wide(gradient[r, j] if y[r, j] != _NOTHING else _NOTHING)
                    part[j] += passed
                    part_products[j] += passed * (_wide(x[r, j]) - mean[j])
            else:
                for j in range(width):
                    passed = _wide(gradient[r, j])
                    part[j] += passed
                    part_products[j] += passed * (_wide(x[r, j]) - mean[j])
        for begin_copy in range(0, width, channels):
            for c in range(channels):
                sums[c] += part[begin_copy + c]
                products[c] += part_products[begin_copy + c]


@compiled
def _input_gradients(
    gradient: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    factors: np.ndarray,
    relu: bool,
    added: bool,
    for_x: np.ndarray,
    for_other: np.ndarray,
) -> None:
    """Write the gradient of ``x``, the three ``factors`` [3, C] times the gradient that passes the
    ReLU, the distance of ``x`` from the ``mean``, and 1; and if ``added`` the passed one to
    ``for_other``.
    """
    rows, width = x.shape
    mean = np.resize(mean, width)
    passing, away, constant = (
        np.resize(factors[0], width),
        np.resize(factors[1], width),
        np.resize(factors[2], width),
    )
    for r in range(rows):
        if relu and added:
            for j in range(width):
                passed = gradient[r, j] if y[r, j] != _NOTHING else _NOTHING
                for_other[r, j] = passed
                rest = away[j] * (_wide(x[r, j]) - mean[j]) + constant[j]
                for_x[r, j] = _rounded(passing[j] * _wide(passed) + rest)
        elif relu:
            for j in range(width):
                passed = gradient[r, j] if y[r, j] != _NOTHING else _NOTHING
                rest = away[j] * (_wide(x[r, j]) - mean[j]) + constant[j]
                for_x[r, j] = _rounded(passing[j] * _wide(passed) + rest)
        else:
            for j in range(width):
                rest = away[j] * (_wide(x[r, j]) - mean[j]) + constant[j]
                for_x[r, j] = _rounded(passing[j] * _wide(gradient[r, j]) + rest)


@compiled
def forward(
    groups: int,
    shape: tuple[int, int],
    x_at: int,
    other_at: int,
    y_at: int,
    weight_at: int,
    bias_at: int,
    statistics_at: int,
    running_at: tuple[int, int],
    channels: int,
    eps: float,
    momentum: float,
    relu: bool,
) -> None:
    """Write the normalised maps to ``y``, with ``other`` added (address 0: none) and, if ``relu``,
    cut below 0; to ``statistics``, [groups, 2, C], mean and 1 / sqrt(variance + ``eps``).

    The ``groups`` parts of a batch, of ``shape`` each, lie behind each other and have statistics of
    their own. One after the other moves the running mean and variance by ``momentum``, the variance
    unbiased.
    """
    whole = (groups, *shape)
    x, y = _array_at(x_at, whole, np.uint16), _array_at(y_at, whole, np.uint16)
    added = other_at != 0
    other = _array_at(other_at if added else x_at, whole, np.uint16)
    weight = _array_at(weight_at, (channels,), np.float32)
    bias = _array_at(bias_at, (channels,), np.float32)
    statistics = _array_at(statistics_at, (groups, 2, channels), np.float32)
    running_mean = _array_at(running_at[0], (channels,), np.float32)
    running_variance = _array_at(running_at[1], (channels,), np.float32)
    variance = np.empty(channels, np.float32)
    scale, shift = np.empty(channels, np.float32), np.empty(channels, np.float32)
    count = x[0].size // channels
    moved, kept = np.float32(momentum), np.float32(1.0 - momentum)
    moved_unbiased = np.float32(momentum * count / (count - 1))
    for group in range(groups):
        mean, inverse = statistics[group, 0], statistics[group, 1]
        _statistics(x[group], mean, variance)
        for c in range(channels):
            inverse[c] = np.float32(1.0) / np.sqrt(variance[c] + np.float32(eps))
            scale[c] = weight[c] * inverse[c]
            shift[c] = bias[c] - mean[c] * scale[c]
            running_mean[c] = running_mean[c] * kept + mean[c] * moved
            running_variance[c] = running_variance[c] * kept + variance[c] * moved_unbiased
        _scale_and_shift(x[group], other[group], scale, shift, added, relu, y[group])


@compiled
def backward(
    groups: int,
    shape: tuple[int, int],
    gradient_at: int,
    x_at: int,
    y_at: int,
    weight_at: int,
    statistics_at: int,
    for_x_at: int,
    for_other_at: int,
    for_parameters_at: int,
    channels: int,
    relu: bool,
) -> None:
    """Write the gradients of x, of weight and bias, [2, C], and if ``relu`` of what was added
    (address 0: nothing was). By a part's mean and variance all its values depend on each other.
    """
    whole = (groups, *shape)
    gradient, x = _array_at(gradient_at, whole, np.uint16), _array_at(x_at, whole, np.uint16)
    y, for_x = _array_at(y_at, whole, np.uint16), _array_at(for_x_at, whole, np.uint16)
    added = for_other_at != 0
    for_other = _array_at(for_other_at if added else for_x_at, whole, np.uint16)
    weight = _array_at(weight_at, (channels,), np.float32)
    statistics = _array_at(statistics_at, (groups, 2, channels), np.float32)
    for_parameters = _array_at(for_parameters_at, (2, channels), np.float32)
    for_parameters[:] = _ZERO
    for_weight, for_bias = np.empty(channels, np.float32), np.empty(channels, np.float32)
    factors = np.empty((3, channels), np.float32)
    count = np.float32(x[0].size // channels)
    for group in range(groups):
        mean, inverse = statistics[group, 0], statistics[group, 1]
        _gradient_sums(gradient[group], y[group], x[group], mean, relu, for_bias, for_weight)
        for c in range(channels):
            for_weight[c] *= inverse[c]
            passing = weight[c] * inverse[c]
            factors[0, c] = passing
            factors[1, c] = -passing * inverse[c] * for_weight[c] / count
            factors[2, c] = -passing * for_bias[c] / count
            for_parameters[0, c] += for_weight[c]
            for_parameters[1, c] += for_bias[c]
        _input_gradients(
            gradient[group],
            y[group],
            x[group],
            mean,
            factors,
            relu,
            added,
            for_x[group],
            for_other[group],
        )
