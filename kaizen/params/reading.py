"""YAML files of parameters: read, and written so that their comments stay."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import write_text, yaml_float
from kaizen.params.base import merge
from kaizen.params.scalars import agreed_scalar
from kaizen.params.typed import type_name

# The file that says what is wanted.
PARAMS = "params.yaml"
# What a file may come to; those of the largest grids have a hundredth.
_MOST_VALUES = 200_000
_MOST_DEPTH = 50
# The same of a file that Kaizen writes: a stream of thousands of arrivals.
_MOST_WRITTEN = 5_000_000
# Where presets lie in the project's folder.
PRESETS = "presets"


def read_files(paths: Sequence[Path]) -> dict[str, Any]:
    """Read YAML files and lay each over those before it: mappings merge, all else replaces."""
    values: dict[str, Any] = {}
    for number, path in enumerate(paths):
        values = merge(values, read_yaml(path, is_overlay=number > 0))
    return values


def read_yaml(path: Path, is_overlay: bool = False, written_by_us: bool = False) -> dict[str, Any]:
    """Read a YAML mapping; raises KaizenError on a missing file, bad syntax, a key given twice or
    no mapping.

    ``is_overlay``: it is to be laid over others, which the advice on a missing one goes by.
    ``written_by_us``: every text in it is in quotes and its values are checked afterwards, so that
    the quick loader will do, and it may be long.
    """
    import yaml

    loader = _strict_loader(path)
    if written_by_us:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Both are SafeLoaders.
        values = yaml.load(path.read_text(encoding="utf-8-sig"), loader)  # noqa: S506
    except FileNotFoundError as error:
        raise KaizenError(f"{path} does not exist; {_find(path, is_overlay)}") from error
    except UnicodeDecodeError as error:
        raise KaizenError(
            f"{path} cannot be read: it is not UTF-8 ({error}); save it in that encoding"
        ) from error
    except OSError as error:
        raise KaizenError(f"{path} cannot be read: {error}") from error
    except RecursionError as error:
        raise _too_large(str(path)) from error
    except yaml.YAMLError as error:
        # PyYAML's name for a file that it was given the text of.
        reason = " ".join(str(error).replace('in "<unicode string>", ', "in ").split())
        raise KaizenError(f"{path} is not valid YAML: {reason}; fix that line") from error
    check_size(values, str(path), _MOST_WRITTEN if written_by_us else _MOST_VALUES)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise KaizenError(f"{path} must hold a mapping of sections, not {type_name(values)}")
    return values


def _find(path: Path, is_overlay: bool) -> str:
    """What to do about a file of parameters that is not there."""
    if not is_overlay:
        return (
            "run in the project's folder or name the file with --params; `kaizen init FOLDER` "
            "makes a project"
        )
    if path.parent.name != PRESETS:
        return "name a file of parameters that is to be laid over the others"
    known = sorted(file.stem for file in path.parent.glob("*.yaml"))
    if not known:
        return "run in the project's folder, where presets are"
    close = difflib.get_close_matches(path.stem, known, 1)
    names = ", ".join(known)
    return f"did you mean {close[0]}? Choose from {names}" if close else f"choose from {names}"


def _too_large(where: str, most: int = _MOST_VALUES) -> KaizenError:
    return KaizenError(
        f"{where} is nested too deep, or comes to more than {most} values with all its "
        "references (&name, *name) written out; write it plainly"
    )


def check_size(values: Any, where: str, most: int = _MOST_VALUES) -> None:
    """Raise KaizenError, naming ``where``, for what a few lines of references to references come
    to, and what is nested too deep.
    """
    waiting, count = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > most or depth > _MOST_DEPTH:
            raise _too_large(where, most)
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list | tuple | set):
            waiting.extend((item, depth + 1) for item in inner)


def _strict_loader(path: Path) -> Any:
    """A class that loads the YAML file ``path`` and names it where a key is wrong."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is without types
        """SafeLoader that refuses a key given twice, of which YAML would silently take the last,
        and what two versions of YAML read differently (`kaizen.params.scalars`).
        """

        def compose_scalar_node(self, anchor: Any) -> Any:
            """A scalar's node, which remembers whether it has neither quotes nor a tag."""
            event = self.peek_event()
            node = super().compose_scalar_node(anchor)
            node.is_plain = event.tag is None and event.style is None
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            """The value of a node; raises KaizenError naming file and line."""
            value = super().construct_object(node, deep)
            if getattr(node, "is_plain", False):
                return agreed_scalar(node.value, value, f"{path}, line {node.start_mark.line + 1}")
            return value

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                key_node.is_plain = False
                continue
            key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise KaizenError(
                    f"{path}: the key {key!r} in line {line} is not a text; fix it, or put it in "
                    "quotes"
                )
            if key in lines:
                raise KaizenError(
                    f"{path}: the key {key!r} is there twice, in lines {lines[key]} and {line}; "
                    "keep one"
                )
            lines[key] = line
        values: dict[Any, Any] = loader.construct_mapping(node, deep=True)
        return values

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return Loader


def write_overlays(path: Path, overlays: Sequence[Path]) -> None:
    """Write overlays into a parameters' file, atomically; comments and order of what is there stay.

    Raises KaizenError where the file cannot be read or written.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 100
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        float,
        lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", yaml_float(value)),
    )
    document = yaml.load(path.read_text(encoding="utf-8"))
    for overlay in overlays:
        _lay_over(document, read_yaml(overlay))
    text = io.StringIO()
    yaml.dump(document, text)
    write_text(path, text.getvalue())


def _lay_over(document: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """As `merge`, in place, so that a document keeps its comments."""
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _lay_over(document[key], value)
        else:
            document[key] = value
