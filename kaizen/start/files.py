"""The files that every project has, whatever its experiment is; and where they come from."""

from __future__ import annotations

from pathlib import Path

import kaizen
from kaizen.errors import KaizenError

PARAMS = "params.yaml"
# As in the checkout, or in share/kaizen of the distribution.
_FILES = ("Snakefile", "dvc.yaml")
_FOLDERS = ("workflow", "profiles", "presets", ".dvc/plots")
# What a project has of its own: there is no code in it, and none of the repository's tools.
_OWN = {
    ".gitignore": """\
__pycache__/
.venv*/
.kaizen/
.snakemake/
/logs/
/results/
/data/shards/
/data/replay/
/data/inputs.json
# Not /data/raw/*: to DVC it would match data/raw/ itself, and DVC would pass over its .dvc files.
/data/raw/?*
!/data/raw/README.md
!/data/raw/*.dvc
!/data/raw/.gitignore
/dvc_plots/
""",
    ".dvcignore": "__pycache__\n.snakemake\n.kaizen\n.venv\nlogs\n",
    ".dvc/config": "[core]\n    analytics = false\n    autostage = false\n",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    "data/raw/README.md": """\
Put your image folders here, as `data/raw/<name>/train/<class>/*` and
`data/raw/<name>/test/<class>/*` (or `val`), or as `data/raw/<name>/<class>/*` alone, and name them
in `params.yaml` (`dataset.source: image_folder`, `dataset.path: data/raw/<name>`). `dvc add
data/raw/<name>` versions them; `dvc repro` notices a change.
""",
    # The checkout's has the versions of constraints.txt, which is none of a project's.
    "workflow/envs/kaizen.yaml": """\
# Used only with `snakemake --software-deployment-method conda`.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python =3.11
  - pip
  - pip:
      - kaizen-ssl
""",
}
# What the stage of dvc.yaml depends on in a checkout alone.
_CODE = "      - kaizen\n"


def project_files() -> dict[str, bytes]:
    """Every file of a new project but params.yaml, by its path relative to the project.

    Raises KaizenError where this installation does not have them.
    """
    root = files_root()
    paths = [root / name for name in _FILES]
    for folder in _FOLDERS:
        paths += sorted((root / folder).rglob("*"))
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }
    # The code is not in the project: what results depend on of it is data/inputs.json's.
    found["dvc.yaml"] = found["dvc.yaml"].replace(_CODE.encode(), b"", 1)
    return found | {name: text.encode() for name, text in _OWN.items()}


def files_root() -> Path:
    """The folder that has Snakefile, presets and the others: the checkout of this code, or what was
    installed with it.

    Raises KaizenError where there is neither.
    """
    checkout = Path(kaizen.__file__).resolve().parents[1]
    if (checkout / "Snakefile").is_file() and (checkout / "presets").is_dir():
        return checkout
    shipped = shipped_files()
    if shipped is None:
        raise KaizenError(
            "this installation of kaizen has no Snakefile and no presets; `pip install "
            "--force-reinstall kaizen-ssl` installs them"
        )
    return shipped


def shipped_files() -> Path | None:
    """The folder with the files of a project (Snakefile, presets, …) that was installed with the
    distribution; None where it was installed from a checkout, which has them, or not at all.
    """
    from importlib import metadata

    try:
        files = metadata.files("kaizen-ssl") or []
    except metadata.PackageNotFoundError:
        return None
    places = (file for file in files if file.parts[-3:] == ("share", "kaizen", "Snakefile"))
    return next((Path(str(place.locate())).resolve().parent for place in places), None)
