"""What a command prints of what it saw: what could not be read, accuracy, and which class was taken
for which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kaizen.errors import names_text
from kaizen.files import counted, printable
from kaizen.inference.run import Seen

# Wider tables do not fit a terminal.
_MOST_COLUMNS = 12


def report_lines(seen: Seen, classes: Sequence[str]) -> Iterator[str]:
    """The lines, without what a terminal would obey; of the true classes, ``classes`` are those
    that the model knows.
    """
    if seen.unreadable:
        yield f"{counted(seen.unreadable, 'image')} could not be read:"
        yield from (f"  {printable(reason)}" for reason in seen.reasons)
        if seen.unreadable > len(seen.reasons):
            yield f"  … and {seen.unreadable - len(seen.reasons)} more"
    if not seen.pairs:
        return
    known = {pair: count for pair, count in seen.pairs.items() if pair[0] in classes}
    others = {pair[0]: 0 for pair in seen.pairs if pair[0] not in classes}
    for (true, _), count in seen.pairs.items():
        if true in others:
            others[true] += count
    total = sum(known.values())
    if total:
        right = sum(count for (true, taken), count in known.items() if true == taken)
        yield f"accuracy {100 * right / total:.1f} %: {right} of {counted(total, 'image')}"
        yield from _confusion(known, classes)
    if others:
        yield (
            f"{counted(sum(others.values()), 'image')} of classes that the model has not seen are "
            f"not counted: {printable(names_text(sorted(others)))}"
        )


def _confusion(pairs: dict[tuple[str, str], int], classes: Sequence[str]) -> Iterator[str]:
    """A table, rows the true classes; of many classes the pairs that are confused most."""
    names = [name for name in classes if any(name in pair for pair in pairs)]
    if len(names) > _MOST_COLUMNS:
        wrong = sorted(
            ((count, pair) for pair, count in pairs.items() if pair[0] != pair[1]),
            key=lambda item: (-item[0], item[1]),
        )
        yield "taken for another most often:"
        for count, (true, taken) in wrong[:10]:
            yield f"  {count:6d}  {printable(true)} for {printable(taken)}"
        return
    shown = [printable(name)[:12] for name in names]
    width = max(6, *(len(name) for name in shown)) + 1
    yield "true class (rows) taken for (columns):"
    yield " " * width + "".join(name.rjust(width) for name in shown)
    for name, text in zip(names, shown, strict=True):
        counts = (str(pairs.get((name, taken), 0)).rjust(width) for taken in names)
        yield text.ljust(width) + "".join(counts)
