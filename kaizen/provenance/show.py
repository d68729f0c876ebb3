"""An explanation for people: the answer, labelled lines and, if wanted, a tree of what it was made
from; a pipe gets plain text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kaizen.files import canonical_json, printable
from kaizen.provenance.tree import duration, lineage_tree, total

if TYPE_CHECKING:
    from rich.console import Console

_LABEL = 13
_MOST_FILES = 12
_WIDEST = 120
_PIPE = 500


def print_explanation(
    found: Mapping[str, Any], console: Console | None = None, with_tree: bool = False
) -> None:
    """Print what `explain` found: the answer first, then all that it depends on; ``with_tree`` also
    the tree of what it was made from.
    """
    from rich.console import Console
    from rich.text import Text

    found = without_controls(found)
    console = console or Console()
    if not console.is_terminal:
        # A pipe or a file has no width that lines would have to be cut to.
        console = Console(file=console.file, width=_PIPE)
    width = min(max(80, console.width), _WIDEST)

    def line(label: str, text: str, style: str = "") -> None:
        rows = textwrap.wrap(
            text, width - _LABEL, break_long_words=False, break_on_hyphens=False
        ) or [""]
        for number, row in enumerate(rows):
            head = (label if number == 0 else "").ljust(_LABEL)
            console.print(Text.assemble((head, "dim"), (row, style)), soft_wrap=True)

    console.print(Text(f"{found['asked']}: {found['what']}", style="bold"), soft_wrap=True)
    for label, text, style in _answer(found):
        line(label, text, style)
    again = found["again"]
    for number, command in enumerate(again["commands"]):
        # Never wrapped, so that it can be copied.
        head = ("make again" if number == 0 else "then").ljust(_LABEL)
        console.print(Text.assemble((head, "dim"), (command, "bold")), soft_wrap=True)
    if again["note"]:
        line(
            "" if again["commands"] else "make again",
            again["note"],
            "" if again["commands"] else "yellow",
        )
    console.print()
    for label, text, style in _facts(found):
        line(label, text, style)
    option = "" if with_tree or not found["parents"] else " (--tree shows them)"
    line("total", total(found["wall_time"]) + option)
    if found["parents"] and with_tree:
        line("made from", "with the wall time of each")
        console.print(lineage_tree(found), soft_wrap=True)


def explanation_lines(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The same lines as (label, text, style), for a page; a continued line has no label."""
    found = without_controls(found)
    lines = [*_answer(found), *_facts(found)]
    return [*lines, ("total", total(found["wall_time"]), "")]


def without_controls(value: Any) -> Any:
    """The same without characters that a terminal would obey."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {without_controls(name): without_controls(item) for name, item in value.items()}
    return [without_controls(item) for item in value] if isinstance(value, list | tuple) else value


def _answer(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, text and style of the lines that say what it is, and whether that is right."""
    if found["number"]:
        yield from _number_lines(found["number"])
    yield "node", f"{found['title']} ({found['kind']}/{found['key']})", ""
    yield from _file_lines(found["files"])


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, text and style of the lines about what it depends on."""
    current = {
        True: "yes",
        False: "no, of another",
        None: "unknown: it cannot be made here (`kaizen check` says why)",
    }
    yield (
        "current plan",
        current[found["in_current_plan"]],
        "" if found["in_current_plan"] else "yellow",
    )
    if found["published"]:
        yield "published", ", ".join(found["published"]), ""
    yield from _origin_lines(found["origin"])
    yield from _made_lines(found["made"], found["origin"] or {})
    yield from _data_lines(found["data"])
    yield from _code_lines(found["code"])
    yield (
        "environment",
        ", ".join(f"{name} {value}" for name, value in sorted(found["environment"].items())),
        "",
    )
    if found["other_cpu"]:
        yield "", f"made by another CPU, so bits may differ here: {found['other_cpu']}", "yellow"
    for number, (section, text) in enumerate(_sections(found["parameters"])):
        yield "parameters" if number == 0 else "", f"{section}: {text}" if section else text, ""


def _file_lines(files: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    wrong = [file for file in files if file["problem"]]
    if len(files) == 1 and not wrong:
        yield "file", f"matches its recorded hash, {files[0]['size']:,} bytes", "green"
        yield "", f"sha256 {files[0]['sha256']}", ""
    elif not wrong and files:
        yield "files", f"all {len(files)} match their recorded hash", "green"
    for file in wrong[:_MOST_FILES]:
        recorded = (
            f" (recorded: sha256 {file['sha256']}, {file['size']:,} bytes)"
            if "sha256" in file
            else ""
        )
        yield "file", f"DOES NOT MATCH: {file['path']} {file['problem']}{recorded}", "bold red"


def _number_lines(number: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield "number", f"{number['path']} = {number['value']}", "bold"
    if "meaning" not in number:
        return
    yield "", number["meaning"], ""
    if number["runs"] is None:
        yield (
            "",
            "the evaluations that it comes from are not here, so it was not checked (`dvc pull`?)",
            "yellow",
        )
        return
    for run in number["runs"]:
        reference = f", against reference/{run['reference'][:12]}" if run.get("reference") else ""
        yield (
            "",
            f"{run['value']} from evaluation/{run['evaluation'][:12]} of {run['run']}{reference}",
            "",
        )
    good = number["agrees"]
    yield (
        "",
        "they lead to this number" if good else "THEY DO NOT LEAD TO THIS NUMBER",
        "green" if good else "bold red",
    )


def _origin_lines(origin: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str]]:
    if origin is None:
        yield "commit", "not recorded", "yellow"
        return
    commit, changed, depends = (origin.get(name) for name in ("commit", "changed", "depends"))
    if not commit:
        yield "commit", "none: the code was not in a git checkout with a commit", "yellow"
        return
    if changed is None:
        yield (
            "commit",
            f"{commit}; whether files were changed since is not known, as git was not installed",
            "yellow",
        )
    elif depends:
        yield "commit", f"{commit}, dirty: {', '.join(depends)} had uncommitted changes", "yellow"
    elif changed:
        yield (
            "commit",
            f"{commit}, clean in all that this depends on (uncommitted were: {', '.join(changed)})",
            "",
        )
    else:
        yield "commit", f"{commit}, clean", ""
    if not origin.get("params_committed"):
        yield "", "its parameters are not those of that commit's params.yaml alone", ""


def _made_lines(
    made: Mapping[str, Any] | None, origin: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    if made is None:
        yield "made", "how is not known here: it came without results/provenance.json", "yellow"
        return
    parts = [str(made["began"] or "at an unknown time").replace("T", " ").replace("+00:00", " UTC")]
    parts += [f"in {duration(made['seconds'])}"] if made["seconds"] is not None else []
    parts += [f"on {made['host']}"] if "host" in made else []
    parts += [f"SLURM job {made['slurm_job']}"] if "slurm_job" in made else []
    parts += [f"{made['processes']} processes"] if made.get("processes", 1) != 1 else []
    yield "made", ", ".join(parts), ""
    if origin.get("command"):
        experiment = f" (DVC experiment {origin['experiment']})" if "experiment" in origin else ""
        yield "by", f"{origin['command']}{experiment}", ""


def _data_lines(data: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for one in data:
        if one["source"] is None:
            where = f"of {one['shards']}, which is gone" if one["shards"] else "which are gone"
            what = f"{len(one['checksums'])} task shards {where}"
            yield "data", f"{what}; known by what their content depended on alone", "yellow"
            yield "", f"sha256 over that {one['sha256']}", ""
            continue
        place = f" at {one['path']}" if one["path"] else ""
        yield "data", f"{one['source']}{place}, {len(one['checksums'])} checksums", ""
        yield "", f"sha256 over them {one['sha256']}", ""
        for gone in one["instead_of"]:
            yield "", f"from {one['shards']}: the same images of its tasks as {gone}, now gone", ""
        if one["dvc"]:
            yield "", f"tracked by {one['dvc']['file']}, md5 {one['dvc']['md5']}", ""


def _code_lines(code: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    same = {
        True: "the present code is the same",
        False: "THE PRESENT CODE IS ANOTHER",
        None: "whether the present code is the same is not known here",
    }
    style = "" if code["same_now"] else "yellow"
    yield "code", same[code["same_now"]], style
    yield "", f"fingerprint {code['fingerprint']}", ""
    if code.get("changed_since"):
        yield "", f"changed since that commit: {', '.join(code['changed_since'])}", style
    other = [
        f"{package} {then} (now {code['versions_now'][package]})"
        for package, then in code["versions"].items()
        if code["versions_now"][package] != then
    ]
    if other:
        yield "", f"its key stands for {', '.join(other)}", style


def _sections(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each section of the parameters with its values in one line; values of no section first."""
    alone = {name: value for name, value in params.items() if not isinstance(value, dict)}
    if alone:
        yield "", ", ".join(_flat(alone))
    for name, value in params.items():
        if isinstance(value, dict) and value:
            yield name, ", ".join(_flat(value))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{prefix}{name} ({len(value)} entries, see --json)"
        else:
            yield f"{prefix}{name} {value if isinstance(value, str) else canonical_json(value)}"
