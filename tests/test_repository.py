"""What people meet before the code: guides, templates, containers, the documentation's menu. What
they name exists, and is what they say.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

import kaizen

MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
# Each has its name before a colon at the beginning of a line; "$(STAMP): …" are files.
TARGETS = set(re.findall(r"(?m)^([a-z][a-z-]*):(?!=)", MAKEFILE))
PINNED = dict(
    line.split("==")
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    if "==" in line
)
# Files with commands that people, or machines of GitHub, run.
WITH_COMMANDS = (
    "CONTRIBUTING.md",
    "README.md",
    "Dockerfile",
    ".ci/run",
    ".devcontainer/devcontainer.json",
    ".github/workflows/ci.yml",
    ".github/PULL_REQUEST_TEMPLATE.md",
    ".pre-commit-config.yaml",
)


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def committed() -> list[str]:
    """Every file that git knows, or would take."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


# -- commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_targets_of_make_that_a_file_names_exist(name: str) -> None:
    # In code only: `make lint`, or at the beginning of a command of a block or a script.
    found = re.findall(r"(?:`|[\n:;&] *|RUN |run: |\")make ([a-z][a-z-]*)", text(name))
    assert [target for target in found if target not in TARGETS] == []
    assert found or name in (".pre-commit-config.yaml", "README.md")


def test_make_alone_lists_every_target_with_what_it_does() -> None:
    assert not re.search(r"(?m)^\.DEFAULT_GOAL", MAKEFILE)
    outputs = [
        subprocess.run(
            [*command, "--no-print-directory"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in (["make"], ["make", "help"])
    ]
    assert outputs[0] == outputs[1]
    listed = dict(re.findall(r"(?m)^([a-z-]+) +(\S.*)$", outputs[0]))
    assert set(listed) == TARGETS and len(listed) == len(outputs[0].splitlines())
    phony = " ".join(re.findall(r"(?m)^\.PHONY: (.*)$", MAKEFILE)).split()
    assert set(phony) == TARGETS


def test_the_commands_of_the_first_hour_exist() -> None:
    block = re.search(r"## The first hour.*?```sh\n(.*?)```", text("CONTRIBUTING.md"), re.DOTALL)
    assert block
    known = re.findall(r'commands\.add(?:_planned)?\(\s*"([a-z-]+)"', _command_line())
    lines = [line for each in block[1].splitlines() for line in each.split("#")[0].split("&&")]
    words = [shlex.split(line) for line in lines]
    for command in words:
        if command[0] == "kaizen":
            assert command[1] in known, command
        if command[:2] == ["kaizen", "preset"]:
            assert (REPOSITORY / f"presets/{command[2]}.yaml").is_file()
    assert {command[0] for command in words} == {"make", ".", "kaizen", "snakemake", "git"}


def _command_line() -> str:
    return "".join(path.read_text() for path in (REPOSITORY / "kaizen/cli").glob("*.py"))


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_the_files_that_a_guide_names_exist(name: str) -> None:
    """Also those without a suffix, which tests/test_citations.py does not look at."""
    names = re.findall(r"`((?:\.?[\w-]+/)+[\w.-]*|Snakefile|Dockerfile)`", text(name))
    assert len(names) >= 3
    assert [path for path in names if not (REPOSITORY / path).exists()] == []


# -- files that other programs read ------------------------------------------------------------


def test_every_yaml_and_json_file_parses() -> None:
    names = [n for n in committed() if n.endswith((".yml", ".yaml", ".cff", ".json"))]
    assert {".github/workflows/ci.yml", "CITATION.cff", "mkdocs.yml"} <= set(names)
    for name in names:
        if (REPOSITORY / name).is_file():
            assert yaml.safe_load(text(name)) is not None, name


def test_the_workflow_of_github_does_what_ci_does() -> None:
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    own = text(".ci/run").splitlines()
    assert {"make test", "make lint", "make docs", "sudo tests/install_servers.sh"} == set(commands)
    assert "make test" in own and "tests/install_servers.sh" in own
    # Nothing but a file of the repository or a target of make.
    for job in jobs.values():
        assert job["timeout-minutes"] <= 180
        setup = next(
            s for s in job["steps"] if s.get("uses", "").startswith("actions/setup-python")
        )
        assert (REPOSITORY / setup["with"]["cache-dependency-path"]).is_file()
        version = tuple(map(int, setup["with"]["python-version"].split(".")))
        assert version >= (3, 11)


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_an_issue_form_asks_for_something(name: str) -> None:
    form = yaml.safe_load(text(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert form["name"] and form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) > 1
    assert any(field.get("validations", {}).get("required") for field in form["body"])
    assert all(field["attributes"]["label"] for field in form["body"])


def test_the_hooks_before_a_commit_are_the_tools_of_make_lint_at_their_versions() -> None:
    (repo,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local"
    lint = re.search(r"(?m)^lint:.*\n((?:\t.*\n)+)", MAKEFILE)
    assert lint
    for hook in repo["hooks"]:
        tool = hook["entry"].split()[0].rpartition("/")[2]
        assert f"$(RUN) {tool}" in lint[1]
        for package in hook.get("additional_dependencies", []):
            name, _, version = package.partition("==")
            assert PINNED[name] == version, package
    assert {hook["id"] for hook in repo["hooks"]} == {
        "ruff-check",
        "ruff-format",
        "snakefmt",
        "mypy",
    }


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert citation["version"] == kaizen.__version__
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    # As the model cards cite it.
    card = text("kaizen/report/card_texts.py")
    assert paper["title"] in card and paper["identifiers"][0]["value"] in card
    assert all(author["family-names"] in card for author in paper["authors"])
    assert paper["collection-title"] in card and str(paper["year"]) in card


def test_the_catalog_of_workflows_is_told_what_there_is() -> None:
    usage = yaml.safe_load(text(".snakemake-workflow-catalog.yml"))["usage"]
    assert usage["mandatory-flags"]["flags"] == ""
    assert usage["software-stack-deployment"] == {"conda": True}
    assert "workflow/envs/kaizen.yaml" in text("Snakefile")


# -- containers --------------------------------------------------------------------------------


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order: word and rest, on one line each."""
    lines = [line for line in text("Dockerfile").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest) for word, _, rest in (x.partition(" ") for x in joined.splitlines()) if word
    ]


def test_the_image_is_set_up_by_make_in_a_place_of_its_own() -> None:
    instructions = _instructions()
    assert [rest.split()[-1] for word, rest in instructions if word == "FROM"] == [
        "tools",
        "kaizen",
    ]
    defaults = dict(rest.split("=", 1) for word, rest in instructions if word == "ARG")
    assert defaults["BASE"].startswith("python:3.1") and defaults["TORCH_INDEX"].endswith("/cpu")
    (setup,) = [rest for word, rest in instructions if word == "RUN" and "make setup" in rest]
    venv = re.search(r"make setup VENV=(\S+)", setup)
    assert venv and f"PATH={venv[1]}/bin:$PATH" in text("Dockerfile")
    store = re.search(r"KAIZEN_STORE=(\S+)", text("Dockerfile"))
    assert store and ("VOLUME", store[1]) in instructions and f"mkdir {store[1]}" in setup
    # Nobody is root after the system's packages, which have what make setup calls.
    words = [word for word, _ in instructions]
    assert words.index("USER") < words.index("COPY")
    packages = next(rest for word, rest in instructions if "apt-get install" in rest)
    assert {"git", "make"} <= set(packages.split())
    # Both bases are told of: one that is built by default, one with CUDA.
    assert "--build-arg BASE=nvidia/cuda:" in text("Dockerfile")


def test_the_image_has_every_file_that_the_setup_and_a_run_need() -> None:
    rules = text(".dockerignore").splitlines()

    def left_out(name: str) -> bool:
        wrong = False
        for rule in rules:
            pattern = rule.removeprefix("!").removeprefix("**/")
            places = [name, *(str(parent) for parent in Path(name).parents)]
            if rule.startswith("**/"):
                places = [Path(place).name for place in places]
            if any(fnmatch.fnmatchcase(place, pattern) for place in places):
                wrong = not rule.startswith("!")
        return wrong

    gone = [name for name in committed() if left_out(name)]
    assert [name for name in gone if not name.startswith("data/raw/")] == []
    assert left_out(".git/HEAD") and left_out("results/metrics.json") and left_out(".venv/bin/x")
    assert left_out("kaizen/cli/__pycache__/look.pyc") and left_out(".kaizen/store/step")
    assert not left_out("data/raw/README.md") and left_out("data/raw/mine/cat/1.png")


def test_the_container_for_editors_names_what_exists() -> None:
    settings: dict[str, Any] = json.loads(text(".devcontainer/devcontainer.json"))
    folder = REPOSITORY / ".devcontainer"
    assert (folder / settings["build"]["dockerfile"]).resolve() == REPOSITORY / "Dockerfile"
    assert (folder / settings["build"]["context"]).resolve() == REPOSITORY
    assert f"AS {settings['build']['target']}\n" in text("Dockerfile")
    assert f"useradd --create-home {settings['remoteUser']}" in text("Dockerfile")
    schemas = settings["customizations"]["vscode"]["settings"]["yaml.schemas"]
    for schema, patterns in schemas.items():
        assert (REPOSITORY / schema).is_file()
        assert all(list(REPOSITORY.glob(pattern)) for pattern in patterns)


# -- the documentation -------------------------------------------------------------------------


def _hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site", REPOSITORY / "docs/site.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _menu(entries: Any) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    inner = entries.values() if isinstance(entries, dict) else entries
    return [page for entry in inner for page in _menu(entry)]


def test_the_menu_has_every_page_once() -> None:
    settings = yaml.safe_load(text("mkdocs.yml"))
    hook = _hook()
    pages = _menu(settings["nav"])
    own = {path.name for path in (REPOSITORY / "docs").glob("*.md")}
    assert sorted(pages) == sorted(own | set(hook.PAGES)), (
        "mkdocs.yml: nav lists the pages of docs/, and those of docs/site.py"
    )
    assert all((REPOSITORY / source).is_file() for source in (hook.PAGES | hook.PLAIN).values())
    assert not own & set(hook.PAGES)
    assert settings["strict"] is True and settings["hooks"] == ["docs/site.py"]


def test_the_reference_has_every_module_once() -> None:
    hook = _hook()
    shown = [
        module
        for package in hook.packages()
        for module in re.findall(r"(?m)^::: (\S+)$", hook.reference(package))
    ]
    names = [path.relative_to(REPOSITORY).with_suffix("") for path in _modules()]
    expected = [".".join(p.parent.parts if p.name == "__init__" else p.parts) for p in names]
    assert sorted(shown) == sorted(expected) and len(shown) > 100


def _modules() -> list[Path]:
    inside = (REPOSITORY / "kaizen").rglob("*.py")
    top = {REPOSITORY / "kaizen" / name for name in ("__init__.py", "__main__.py")}
    return [path for path in inside if path not in top]


@pytest.mark.parametrize(
    ("page", "link", "becomes"),
    [
        ("index.md", "docs/data.md", "data.md"),
        ("index.md", "docs/data.md#images", "data.md#images"),
        ("index.md", "docs/figures/a.png", "figures/a.png"),
        ("index.md", "presets/README.md", "presets.md"),
        ("running.md", "stream.md", "stream.md"),
        ("running.md", "../README.md", "index.md"),
        ("fidelity.md", "../tests/golden/README.md", "golden.md"),
        ("adding.md", "../kaizen/ssl/simclr.py", "reference/ssl.md#kaizen.ssl.simclr"),
        ("adding.md", "../kaizen/files.py", "reference/files.md#kaizen.files"),
        ("adding.md", "../kaizen/ssl/__init__.py", "reference/ssl.md#kaizen.ssl"),
        ("presets.md", "../docs/data.md", "data.md"),
        ("index.md", "CITATION.cff", "citation.txt"),
        ("contributing.md", "LICENSE", "license.txt"),
        # No page: left for MkDocs to refuse.
        ("running.md", "../Snakefile", "../Snakefile"),
        ("running.md", "https://example.org", "https://example.org"),
        ("running.md", "#here", "#here"),
    ],
)
def test_a_link_for_github_leads_to_a_page_of_the_site(page: str, link: str, becomes: str) -> None:
    hook = _hook()
    source = hook.PAGES.get(page, f"docs/{page}")
    assert hook.follow(f"see [this]({link}).", page, source) == f"see [this]({becomes})."


def test_a_files_path_becomes_the_name_of_its_page() -> None:
    hook = _hook()
    names = hook.menu([{"Start": "index.md"}, {"Use": [{"Your images": "data.md"}]}])
    assert names == {"index.md": "Start", "data.md": "Your images"}
    told = "[docs/data.md](docs/data.md#x), [data.md](docs/data.md), [these](docs/data.md)"
    assert hook.follow(told, "index.md", "README.md", names) == (
        "[Your images](data.md#x), [Your images](data.md), [these](data.md)"
    )
    other = "[docs/live.md](docs/live.md), ![a](docs/figures/a.png), [a [b]](docs/data.md)"
    assert hook.follow(other, "index.md", "README.md", names) == (
        "[docs/live.md](live.md), ![a](figures/a.png), [a [b]](data.md)"
    )


def test_a_report_beside_the_site_is_shown_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = _hook()
    page = SimpleNamespace(file=SimpleNamespace(src_uri="report.md"))
    config = SimpleNamespace(nav=[])
    monkeypatch.setattr(hook, "ROOT", tmp_path)
    assert hook.on_page_markdown("text", page, config, None) == "text"
    (tmp_path / "results").mkdir()
    (tmp_path / "results/report.html").write_text("<!doctype html>")
    assert 'src="live-report.html"' in hook.on_page_markdown("text", page, config, None)


def test_every_link_of_a_page_leads_to_one() -> None:
    """As `make docs` finds it, without its packages; anchors within a page are left to it."""
    hook = _hook()
    figures = {p.relative_to(REPOSITORY / "docs").as_posix() for p in _in_docs("figures/*")}
    pages = {path.name for path in _in_docs("*.md")} | set(hook.PAGES) | set(hook.PLAIN)
    modules = {
        f"reference/{package}.md#{module}"
        for package in hook.packages()
        for module in re.findall(r"(?m)^::: (\S+)$", hook.reference(package))
    }
    wrong, count = [], 0
    for page in sorted(pages - set(hook.PLAIN)):
        source = hook.PAGES.get(page, f"docs/{page}")
        for link in re.findall(r"\]\(([^)\s:]+)\)", hook.follow(text(source), page, source)):
            count += 1
            if link not in modules and link.split("#")[0] not in pages | figures | {""}:
                wrong.append((page, link))
    assert wrong == [] and count > 50


def _in_docs(pattern: str) -> list[Path]:
    return list((REPOSITORY / "docs").glob(pattern))


def test_what_builds_the_documentation_is_pinned() -> None:
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in extras["docs"]}
    assert names == {"mkdocs", "mkdocs-material", "mkdocstrings"} and names <= PINNED.keys()
    assert "mkdocstrings-python" in PINNED
    # What a reader loads comes from the site alone.
    assert yaml.safe_load(text("mkdocs.yml"))["theme"]["font"] is False
