"""The README as a package index shows it, with no file beside it; all else is pyproject.toml's.

Links to files lead into the repository where [project.urls] has it, and are plain text otherwise.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
# [text](target) and ![text](target) of targets within the repository.
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def for_index(text: str, repository: str | None) -> str:
    """The text with links that work anywhere; without a repository pictures are left out."""

    def link(found: re.Match[str]) -> str:
        mark, label, target = found.groups()
        if repository is None:
            return "" if mark else label
        return f"{mark}[{label}]({repository}/{'raw' if mark else 'blob'}/main/{target})"

    return LINK.sub(link, text)


if __name__ == "__main__":
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=for_index(readme, project["urls"].get("Repository")),
        long_description_content_type="text/markdown",
    )
