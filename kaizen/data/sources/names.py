"""Class names: read from lists in text files, and refused where two only look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from importlib import resources
from pathlib import Path

from kaizen.data.sources.base import names_text
from kaizen.errors import KaizenError


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a UTF-8 file, with or without a byte order mark, without those that are blank or
    start with "#"; raises KaizenError.
    """
    try:
        data = path.read_bytes()
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError("it is UTF-16; save it as UTF-8")
        # Files joined by `cat` have marks further down too.
        text = data.decode("utf-8").replace("\ufeff", "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KaizenError(
            f"{what}{path} cannot be read ({reason}); fix the path or the file"
        ) from error
    lines = (line.strip() for line in text.replace("\r", "\n").split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def chosen_classes(
    found: Collection[str], wanted: list[str] | str | None, where: Path
) -> list[str]:
    """The sorted classes of ``found`` that ``dataset.classes`` names: all where it is None.

    A text is the name of a list in class_lists/ or the path of a text file with one class a line.
    Raises KaizenError where the list is empty, or names a class twice or one that ``where`` lacks,
    and where two classes look alike.
    """
    refuse_alike(found, where)
    if wanted is None:
        return sorted(found)
    names = _class_list(wanted) if isinstance(wanted, str) else wanted
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        problem = f"names {names_text(twice)} twice" if twice else "names no class"
        raise KaizenError(
            f"dataset.classes: the list {problem}; name each class once, or set it to null for all"
        )
    missing = sorted(set(names) - set(found))
    if missing:
        alike = alike_text(missing, found)
        raise KaizenError(
            f"dataset.classes: {names_text(missing)} not found in {where}"
            f"{f' ({alike})' if alike else ''}; fix the list or add the folders"
        )
    return sorted(names)


def look(name: str) -> str:
    """What names that look alike have in common: composed characters and single spaces, nothing
    invisible.
    """
    visible = (char for char in name if unicodedata.category(char) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", "".join(visible)).split())


def alike_text(names: Iterable[str], others: Collection[str]) -> str:
    """Pairs of a name and another one that looks like it, spelt out; "" where there are none."""
    known: dict[str, str] = {}
    for other in sorted(others):
        known.setdefault(look(other), other)
    pairs = [(name, known.get(look(name), name)) for name in names]
    spelt = [f"{_spelt(name)} looks like {_spelt(other)}" for name, other in pairs if name != other]
    return "; ".join(spelt[:5])


def refuse_alike(names: Collection[str], where: Path, case: bool = False) -> None:
    """Raise KaizenError where two of the names look alike, as after a copy between macOS and
    Linux; with ``case`` also where they differ in letter case only.
    """
    first: dict[str, str] = {}
    for name in sorted(names):
        other = first.setdefault(look(name).casefold() if case else look(name), name)
        if other != name:
            how = "look alike" if look(other) == look(name) else "differ in letter case only"
            raise KaizenError(
                f"{where} has two classes that {how}, {_spelt(other)} and {_spelt(name)}; "
                "rename or join them"
            )


def _spelt(name: str) -> str:
    """The name with every character beyond ASCII as its code, and how it is composed."""
    forms = [form for form in ("NFC", "NFD") if unicodedata.normalize(form, name) == name]
    composed = f" (Unicode {forms[0]})" if len(forms) == 1 else ""
    return f"{name!a}{composed}"


def _class_list(name: str) -> list[str]:
    packaged = resources.files("kaizen.data.sources") / "class_lists"
    known = sorted(file.name.removesuffix(".txt") for file in packaged.iterdir())
    if name in known:
        with resources.as_file(packaged / f"{name}.txt") as file:
            return read_lines(file, "dataset.classes: ")
    path = Path(name).expanduser()
    if not path.is_file():
        raise KaizenError(
            f"dataset.classes: {name!r} is neither a list that comes with Kaizen "
            f"({', '.join(known)}) nor a text file; fix it"
        )
    return read_lines(path, "dataset.classes: ")
