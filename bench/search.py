"""Choose each method's learning rate on task 0, all by one rule and with the same budget.

    python bench/search.py --preset tiny-imagenet-100 --preset search

The rule: of the rates 0.25, 0.5, 1 and 2 each method, and supervised training, trains task 0 once
with each (one seed); the rate with the highest accuracy of a linear probe on the held-out tenth of
the training images is taken, of equal ones the smaller. A rate at which the loss is not finite is
out. Prints a table as Markdown, with a line after each run. What is trained is in the store, so
that an interrupted search goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kaizen.files import read_json
from kaizen.params import merge
from kaizen.params.reading import read_files
from kaizen.params.registry import SUPERVISED

RATES = (0.25, 0.5, 1.0, 2.0)
SUPERVISED_VARIANT = "supervised"


def experiment(values: Mapping[str, Any], method: str, rate: float) -> dict[str, Any]:
    """The parameters of one training: ``method`` alone, at ``rate``."""
    variants = values["grid"]["variants"]
    alone = method == SUPERVISED
    grid = {
        "methods": values["grid"]["methods"] if alone else [method],
        "variants": [v for v in variants if (v == SUPERVISED_VARIANT) is alone],
    }
    rates = {"train": {"lr": rate}, "per_method": {method: {"train": {"lr": rate}}}}
    path = {"dataset": {"path": str(Path(values["dataset"]["path"]).resolve())}}
    return merge(merge(merge(values, path), {"grid": grid}), rates)


def probe_accuracy(values: Mapping[str, Any], method: str, store: Path) -> float | None:
    """The linear probe's accuracy after task 0; None where training failed."""
    metrics = metrics_of(values, store)
    if metrics is None:
        return None
    (series,) = metrics[method].values()
    accuracy: float = series["linear_probe"]["final_accuracy"]["mean"]
    return accuracy


def metrics_of(values: Mapping[str, Any], store: Path) -> dict[str, Any] | None:
    """What metrics_full.json has of the grid that the parameters describe, made in ``store``; None
    where a job failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "params.yaml").write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
        environment = os.environ | {"KAIZEN_STORE": str(store)}
        command = [sys.executable, "-m", "kaizen", "run"]
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        if done.returncode:
            return None
        found: dict[str, Any] = read_json(Path(folder) / "results/summary/metrics_full.json")
        return found


def best(found: Mapping[float, float | None]) -> float | None:
    """The rate with the highest accuracy, of equal ones the smaller; None where all failed."""
    known = {rate: accuracy for rate, accuracy in found.items() if accuracy is not None}
    return min(known, key=lambda rate: (-known[rate], rate)) if known else None


def main() -> None:
    """Train every method at every rate and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--preset", action="append", required=True)
    presets = [Path("presets") / f"{name}.yaml" for name in parser.parse_args().preset]
    values = read_files([Path("params.yaml"), *presets])
    store = Path(os.environ.get("KAIZEN_STORE", ".kaizen/store")).resolve()
    print(f"| method | {' | '.join(map(str, RATES))} | chosen |")
    print(f"|---|{'---:|' * (len(RATES) + 1)}")
    for method in (*values["grid"]["methods"], SUPERVISED):
        found = {
            rate: probe_accuracy(experiment(values, method, rate), method, store) for rate in RATES
        }
        cells = ["not finite" if a is None else f"{100 * a:.1f}" for a in found.values()]
        print(f"| {method} | {' | '.join(cells)} | {best(found)} |", flush=True)


if __name__ == "__main__":
    main()
