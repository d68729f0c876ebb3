"""Write the templates of DVC's plots again, after a change of the figures' specifications:
`python tests/plots.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

from kaizen.report.figures.dvc import templates

FOLDER = Path(__file__).parents[1] / ".dvc" / "plots"


def text(spec: object) -> str:
    """A template as it is in its file."""
    return json.dumps(spec, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, spec in templates().items():
        (FOLDER / f"{name}.json").write_text(text(spec), encoding="utf-8")
