"""Reading and checking what a person wrote: params.yaml and overlays, refused before any work.

Every problem is named by its key's path, with the value and the fix, all in one message.
"""

from __future__ import annotations

import difflib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaizen.errors import KaizenError
from kaizen.files import write_text, yaml_float
from kaizen.params import VARIANTS, DatasetParams, Params, SplitParams, merge
from kaizen.params.registry import (
    BACKBONES,
    FEATURE_DISTILLERS,
    REPLAY_POLICIES,
    SOURCES,
    SSL_METHODS,
    TIMM,
)

# What the plan calls the models of one task alone, in the place of a variant's name.
SPECIALIST = "specialist"
# Sections that may differ between SSL methods: those that a step's training depends on.
_PER_METHOD = ("augment", "distill", "model", "train")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")
# Neither a hub's address nor the tag of pretrained weights, which are never downloaded.
_TIMM_MODEL = re.compile(rf"{TIMM}[A-Za-z0-9_]+")

# pydantic's error types -> what to do about it; the others speak for themselves.
_FIXES = {
    "missing": "add it",
    "list_type": "write a list, as in [1, 2]",
    "dataclass_type": "write a mapping of its keys",
    "string_type": "put it in quotes",
    "bool_type": "write true or false",
}


def load_params(path: Path, overlays: Sequence[Path] = ()) -> Params:
    """Read params.yaml, lay the overlays over it (mappings merge, all else replaces), and check the
    result.

    Raises KaizenError naming the file and every wrong key.
    """
    values = read_yaml(path)
    for overlay in overlays:
        values = merge(values, read_yaml(overlay))
    return validate(values, " + ".join(str(file) for file in (path, *overlays)))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raises KaizenError on a missing file, bad syntax, a key given twice or
    no mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader that refuses a key given twice, of which YAML would silently take the last."""

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise KaizenError(
                    f"{path}: the key {key!r} in line {line} is not a text; fix it, or put it in "
                    "quotes"
                )
            if key in lines:
                raise KaizenError(
                    f"{path}: the key {key!r} stands twice, in lines {lines[key]} and {line}; keep "
                    "one"
                )
            lines[key] = line
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError as error:
        raise KaizenError(
            f"{path} does not exist; run in the project's folder or name the file with --params"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise KaizenError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise KaizenError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}; fix that line"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise KaizenError(f"{path} must hold a mapping of sections, not a {type(values).__name__}")
    return values


def adopt(path: Path, overlays: Sequence[Path]) -> None:
    """Write overlays into a parameters' file, atomically; comments and order of what is there stay.

    Raises KaizenError where the file cannot be read or written.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
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


def validate(values: Mapping[str, Any], where: str = "params.yaml") -> Params:
    """Check types, bounds, unknown keys and combinations; returns the typed parameters.

    Raises KaizenError that lists every problem with its key's path, the value and the fix.
    """
    try:
        text = json.dumps(values, default=str)
    except (TypeError, ValueError) as error:
        raise KaizenError(
            f"{where}: {error}; write plain mappings, lists, texts and numbers"
        ) from None
    params, problems = _typed(text)
    if params is not None:
        problems = _combinations(params)
        problems += _per_method_problems(params, json.loads(text), problems)
    if params is None or problems:
        raise KaizenError(_listing(where, problems))
    return params


def _typed(text: str) -> tuple[Params | None, list[str]]:
    """The parameters of a JSON text, or what is wrong with their names, types and bounds."""
    from pydantic import TypeAdapter, ValidationError

    try:
        # Strict JSON mode takes 1 for 1.0 but neither "1" for 1 nor 1.5 for an integer.
        return TypeAdapter(Params).validate_json(text), []
    except ValidationError as error:
        # What is neither a list nor a text, where both would do, is reported once: as no list.
        found = [
            p
            for p in error.errors(include_url=False)
            if (p["type"], p["loc"][-1]) != ("string_type", "str")
        ]
        return None, [_describe(problem) for problem in found]


def _per_method_problems(
    params: Params, values: Mapping[str, Any], common: Sequence[str]
) -> list[str]:
    """What is wrong with `per_method`: each method's parameters are checked as a whole, beyond the
    ``common`` ones.
    """
    problems: list[str] = []
    for method, overlay in params.per_method.items():
        where = f"per_method.{method}"
        if method not in SSL_METHODS:
            problems.append(f"{where}: {_unknown(method, 'an SSL method', SSL_METHODS)}")
        others = overlay.keys() - _PER_METHOD
        if others:
            problems.append(
                f"{where}.{min(others)}: only {', '.join(_PER_METHOD)} can differ between methods; "
                "set it for all"
            )
            continue
        merged, wrong = _typed(json.dumps(merge(values, overlay)))
        wrong += _combinations(merged) if merged is not None else []
        problems += [f"{where}.{problem}" for problem in wrong if problem not in common]
    return problems


def _unknown(name: str, what: str, known: Iterable[str]) -> str:
    """That a name is not known, and the nearest one, or all."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"{name!r} is not {what}; " + (
        f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of params.yaml, for editors; `kaizen schema` writes it to
    workflow/schemas/.
    """
    from pydantic import TypeAdapter

    schema = TypeAdapter(Params).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _listing(where: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return f"{where}: {len(problems)} problems\n" + "\n".join(
        f"  {problem}" for problem in problems
    )


def _describe(problem: Mapping[str, Any]) -> str:
    """One pydantic error as 'key.path: value: what is wrong; the fix'."""
    path = ".".join(
        str(part) for part in problem["loc"] if not str(part).startswith(("list[", "constrained-"))
    )
    if problem["type"] == "unexpected_keyword_argument":
        known = _known_keys(problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        fix = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
        return f"{path}: unknown key; {fix}"
    message = (
        str(problem["msg"]).replace("Input should be", "must be").replace("Input must", "must")
    )
    value = json.dumps(problem["input"], default=str)
    fix = _FIXES.get(problem["type"], "")
    return f"{path}: {value[:80]} is not valid: {message}" + (f"; {fix}" if fix else "")


def _known_keys(location: Sequence[Any]) -> list[str]:
    """The keys that a section has, found by walking the parameter classes."""
    kind: Any = Params()
    for part in location:
        kind = VARIANTS["kaizen"] if isinstance(kind, dict) else getattr(kind, str(part), None)
    return list(getattr(kind, "__dataclass_fields__", {}))


def _combinations(params: Params) -> list[str]:
    """What is impossible though every value is valid by itself."""
    problems: list[str] = []
    known = {**VARIANTS, **params.variants}
    for name in params.variants:
        if not _NAME.fullmatch(name):
            problems.append(
                f"variants.{name}: a variant's name has letters, digits, '_' and '.' only (64 at "
                "most); rename it"
            )
        if name in VARIANTS or name == SPECIALIST:
            problems.append(f"variants.{name}: this name is built in; choose another")
    for name, switches in known.items():
        if switches.joint and (
            switches.feature_distill or switches.classifier_distill or switches.replay
        ):
            problems.append(
                f"variants.{name}: joint training has no prior step to distil from and nothing to "
                "replay; "
                "set feature_distill, classifier_distill and replay to false"
            )
    for name in params.grid.variants:
        if name not in known:
            problems.append(
                f"grid.variants: {_unknown(name, 'a variant', known)}, or define it under variants"
            )
    for name in params.grid.methods:
        if name not in SSL_METHODS:
            problems.append(f"grid.methods: {_unknown(name, 'an SSL method', SSL_METHODS)}")
    distiller = params.distill.feature.distiller
    if distiller != "auto" and distiller not in FEATURE_DISTILLERS:
        problems.append(
            "distill.feature.distiller: "
            f"{_unknown(distiller, 'a distiller', ['auto', *FEATURE_DISTILLERS])}"
        )
    grids: dict[str, list[Any]] = {
        "grid.methods": list(params.grid.methods),
        "grid.variants": params.grid.variants,
        "grid.seeds": params.grid.seeds,
        # Sizes that are written alike in names of runs and folders are one point.
        "replay.proportion": [f"{100 * size:g} %" for size in params.replay.proportion or []],
        "replay.per_class": params.replay.per_class or [],
        "replay.memory": params.replay.memory or [],
    }
    for path, values in grids.items():
        if len(set(values)) < len(values):
            problems.append(f"{path}: {json.dumps(values)} names a point twice; keep each once")
    if distiller == "prototype":
        without = [
            name
            for name in params.grid.methods
            if name in SSL_METHODS and SSL_METHODS[name].distiller != distiller
        ]
        problems += [
            f"distill.feature.distiller: {name} has no prototypes to distil; choose auto"
            for name in without
        ]
    problems += (
        _replay_problems(params, known)
        + _image_problems(params)
        + _backbone_problems(params.model.backbone)
    )
    problems += _dataset_problems(params.dataset) + _split_problems(params.split)
    processes = params.runtime.processes * params.runtime.hosts
    if processes > params.train.batch_size:
        problems.append(
            f"runtime.processes: {processes} processes (on all hosts) cannot share batches of "
            "train.batch_size "
            f"{params.train.batch_size}; lower it, or raise the batch size"
        )
    if params.train.warmup_epochs > params.train.epochs:
        problems.append(
            f"train.warmup_epochs: {params.train.warmup_epochs} is more than train.epochs "
            f"{params.train.epochs}; "
            "lower it"
        )
    return problems


def _dataset_problems(dataset: DatasetParams) -> list[str]:
    if dataset.source not in SOURCES:
        return [f"dataset.source: {_unknown(dataset.source, 'a data source', SOURCES)}"]
    problems = []
    source = SOURCES[dataset.source]
    if source.path == "none" and dataset.path is not None:
        problems.append(
            f"dataset.path: {dataset.source} needs no files and has no path; set it to null"
        )
    if source.path == "needed" and not dataset.path:
        problems.append(
            f"dataset.path: {dataset.source} needs the folder that holds its images; name it"
        )
    for name, unset in (("classes", None), ("unlabelled", False)):
        if name not in source.reads and getattr(dataset, name) != unset:
            problems.append(
                f"dataset.{name}: it has no effect for {dataset.source}; set it to "
                f"{json.dumps(unset)}"
            )
    return problems


def _split_problems(split: SplitParams) -> list[str]:
    problems = []
    for name, by in (("sizes", "class"), ("classes", "class"), ("domains", "domain")):
        if getattr(split, name) is not None and split.by != by:
            problems.append(
                f"split.{name}: it has no effect with split.by {split.by}; set it to null, or by "
                f"to {by}"
            )
    if split.sizes is not None and split.classes is not None:
        problems.append("split: both sizes and classes are given; set one of them to null")
    for path, names in (
        ("split.classes", [name for task in split.classes or [] for name in task]),
        ("split.domains", split.domains or []),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.append(f"{path}: {', '.join(map(repr, twice))} named twice; name each once")
    return problems


def _replay_problems(params: Params, known: Mapping[str, Any]) -> list[str]:
    uses_replay = any(known[name].replay for name in params.grid.variants if name in known)
    if params.replay.policy not in REPLAY_POLICIES:
        return [
            f"replay.policy: {_unknown(params.replay.policy, 'a replay policy', REPLAY_POLICIES)}"
        ]
    sizes = params.replay.sizes()
    if len(sizes) > 1:
        return [
            f"replay: {' and '.join(sizes)} are given, of which only one can be; set the others to "
            "null"
        ]
    if uses_replay and not any(sizes.values()):
        return [
            "replay: a variant of the grid uses replay; give replay.proportion, as in [0.1], or "
            "replay.per_class or "
            "replay.memory, as in [20]"
        ]
    return []


def _backbone_problems(backbone: str) -> list[str]:
    if backbone in BACKBONES or _TIMM_MODEL.fullmatch(backbone):
        return []
    if backbone.startswith(TIMM):
        return [
            f"model.backbone: {backbone!r} is not a model of timm; write {TIMM} and the model's "
            "bare name, as in "
            f"{TIMM}resnet26d (weights are never downloaded, so no tag and no address)"
        ]
    return [
        f"model.backbone: {_unknown(backbone, 'a backbone', BACKBONES)}, or {TIMM}<any of its "
        "models>"
    ]


def _image_problems(params: Params) -> list[str]:
    problems = []
    for name in ("mean", "std"):
        values = getattr(params.image, name)
        if len(values) != params.image.channels:
            problems.append(
                f"image.{name}: {json.dumps(values)} has {len(values)} values but image.channels "
                "is "
                f"{params.image.channels}; give one per channel"
            )
    for name in ("crop_scale", "crop_ratio", "blur_sigma"):
        low, high = getattr(params.augment, name)
        if low > high:
            problems.append(
                f"augment.{name}: [{low}, {high}] runs downwards; write the smaller first"
            )
    return problems
