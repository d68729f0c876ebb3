"""Making one node: lock, check, build, commit. Which function makes which kind; heavy imports wait
until then.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from kaizen.errors import Interrupted, KaizenError, NodeFailed
from kaizen.files import canonical_json
from kaizen.plan.fingerprint import installed_version
from kaizen.provenance.origin import check_code, process_facts
from kaizen.store.locks import Watch
from kaizen.store.store import Store, record_key
from kaizen.training.reporter import Reporter

if TYPE_CHECKING:
    from kaizen.params import DatasetParams

Result = tuple[dict[str, Any], dict[str, Any]]

_LACKS_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "can't start new thread",
)
_LESS_MEMORY = {
    "shards": "lower runtime.ingest_workers or dataset.row_group_mb",
    "replay": "lower dataset.row_group_mb",
    "step": "lower train.stream_above_mb or train.batch_size",
    "evaluation": "lower evaluation.probe_fraction or evaluation.batch_size",
    "reference": "lower evaluation.probe_fraction or evaluation.batch_size",
    "summary": "free memory",
}

_SPEC_FIELDS = {
    "kind": str,
    "key": str,
    "title": str,
    "code": str,
    "params": dict,
    "identities": dict,
    "inputs": dict,
    "local": dict,
}


class StopRequest:
    """What SIGTERM and SIGINT do: a step is asked to save and stop after its batch, any other node
    ends at once.
    """

    def __init__(self) -> None:
        """Not yet listening; see `listen`."""
        self.requested = False
        self.can_save = False

    def listen(self) -> None:
        """Install the handlers; only ever in the main thread of a process of its own."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def now_making(self, kind: str) -> None:
        """Tell what is being made from now on."""
        self.can_save = kind == "step"

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        if not self.can_save:
            raise Interrupted("stopped; the same command makes this node from its beginning")

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.requested


def check_spec(spec: Any, source: str) -> dict[str, Any]:
    """Return ``spec`` if it is a node's specification; raises KaizenError naming ``source`` and
    what is wrong.
    """
    fix = "take it from this version's `kaizen plan --json`"
    if not isinstance(spec, dict):
        raise KaizenError(
            f"{source} is not a node's specification but a {type(spec).__name__}; {fix}"
        )
    for name, kind in _SPEC_FIELDS.items():
        if not isinstance(spec.get(name), kind):
            what = "lacks" if name not in spec else f"has no {kind.__name__} as"
            raise KaizenError(f"{source} {what} {name!r}; {fix}")
    if spec["kind"] not in _MAKERS:
        raise KaizenError(
            f"{source}: kind {spec['kind']!r} is unknown, not one of {', '.join(_MAKERS)}; {fix}"
        )
    for role, parent in spec["inputs"].items():
        if not isinstance(parent, dict) or not {"kind", "key"} <= parent.keys():
            raise KaizenError(f"{source}: input {role!r} does not name a kind and a key; {fix}")
    if record_key(spec) != spec["key"]:
        raise KaizenError(
            f"{source}: key {spec['key']} is not that of its content, which was altered; {fix}"
        )
    return spec


def run_node(
    spec: dict[str, Any], store: Store, reporter: Reporter, stop: Callable[[], bool] = lambda: False
) -> bool:
    """Make the node that ``spec`` describes unless it is finished; returns whether it was made.

    The node appears whole or not at all. Waits while another process makes it. Raises KaizenError
    (see its subclasses) when it cannot be made.
    """
    check_spec(spec, "the specification")
    # Sorted as on a job's command line: what a node's files say in the order of a mapping must not
    # tell the two apart.
    spec = json.loads(canonical_json(spec))
    kind, key = spec["kind"], spec["key"]
    with store.lock(kind, key, reporter.note, stop, spec["title"]) as lock:
        if store.has(kind, key):
            return False
        for role, parent in spec["inputs"].items():
            if not store.has(parent["kind"], parent["key"]):
                raise KaizenError(
                    f"{role} ({parent['kind']} {parent['key']}) is not in {store.root}; run "
                    "`snakemake` to make it"
                )
        check_code(spec)
        began = time.time()
        with store.building(kind, key) as building:
            with _explain_lack_of_memory(kind):
                environment, speed = _MAKERS[kind](
                    spec, store, building, reporter, Watch(stop, lock)
                )
            environment |= {
                "python": platform.python_version(),
                "kaizen": installed_version("kaizen"),
            }
            run = {"began": began, "seconds": time.time() - began} | process_facts()
            lock.confirm()
            store.commit(spec, building, environment, run | speed)
        _forget_work(store.work_folder(kind, key))
    return True


@contextlib.contextmanager
def _explain_lack_of_memory(kind: str) -> Iterator[None]:
    """Turn every way in which Python, Arrow and torch lack memory into NodeFailed with the fix."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # Torch's own: OutOfMemoryError of a GPU, and a RuntimeError of the CPU's allocator.
        lacking = isinstance(error, MemoryError) or any(
            words in str(error) for words in _LACKS_MEMORY
        )
        if not lacking:
            raise
        raise NodeFailed(
            f"out of memory; {_LESS_MEMORY[kind]}, and run the same command again"
        ) from error


def _forget_work(folder: Path) -> None:
    """Remove the working state of a node that is finished."""
    if folder.exists():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _shards(
    spec: dict[str, Any], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Result:
    from kaizen.data.ingest import ingest
    from kaizen.data.tracking import tracked_by_dvc
    from kaizen.params import DatasetParams, LabelsParams, SplitParams, from_dict

    params, local = spec["params"], spec["local"]
    dataset = from_dict(DatasetParams, params["dataset"] | local["dataset"])
    began = time.monotonic()
    summary = ingest(
        dataset,
        from_dict(SplitParams, params["split"]),
        from_dict(LabelsParams, params["labels"]),
        local["workers"],
        building,
        lambda done, total: reporter.amount(done, total, "images ingested"),
    )
    _check_unchanged(dataset, spec)
    images = sum(task[part]["rows"] for task in summary["tasks"] for part in ("train", "test"))
    speed = {"images_per_second": images / (time.monotonic() - began)}
    tracked = tracked_by_dvc(Path(dataset.path)) if dataset.path else None
    dvc = {"dvc": {"file": os.path.relpath(tracked.file), "md5": tracked.md5}} if tracked else {}
    return _versions("numpy", "pillow", "pyarrow"), speed | dvc


def _check_unchanged(dataset: DatasetParams, spec: dict[str, Any]) -> None:
    """Raise KaizenError where the raw images are not those that the node's key was made from."""
    from kaizen.jobs.workflow import dataset_facts

    facts = dataset_facts(dataset, Path.cwd())
    found = facts.identities()
    changed = any(found.get(name) != checksum for name, checksum in spec["identities"].items())
    if changed or list(facts.classes) != spec["params"]["classes"]:
        raise KaizenError(
            f"dataset.path: the images of {dataset.path or dataset.source} changed after the plan "
            "was made; "
            "run the same command again, which plans again"
        )


def _replay(
    spec: dict[str, Any], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Result:
    from kaizen.data.replay.base import Size, no_features
    from kaizen.data.replay.shard import make_replay
    from kaizen.data.shards import shard_info
    from kaizen.plan.replay_check import empty_replay

    params = spec["params"]
    key = spec["inputs"]["shards"]["key"]
    for task in range(params["task"]):
        store.open_file("shards", key, f"task-{task:02d}.train.parquet")
    environment, features = _versions("numpy", "pyarrow"), no_features
    if any(role.startswith("step-") for role in spec["inputs"]):
        from kaizen.evaluation.step_features import StepFeatures

        features = StepFeatures(spec, store, reporter)
        environment |= features.compute.describe()
    size = Size(params["unit"], params["size"])
    out = building / "replay.parquet"
    make_replay(
        store.folder("shards", key),
        params["task"],
        params["policy"],
        size,
        params.get("seed", 0),
        out,
        features,
    )
    if size.amount and not shard_info(out).rows:
        raise empty_replay(params["unit"], params["size"], params["task"])
    return environment, {}


def _step(
    spec: dict[str, Any], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Result:
    if spec["local"].get("processes", 1) * spec["local"].get("hosts", 1) > 1:
        from kaizen.jobs.launch import train_in_processes

        return train_in_processes(spec, store, building, reporter, watch)
    from kaizen.training.step import run_step

    return run_step(spec, store, building, reporter, watch)


def _evaluation(
    spec: dict[str, Any], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Result:
    from kaizen.evaluation.run import run_evaluation

    return run_evaluation(spec, store, building, reporter), {}


def _summary(
    spec: dict[str, Any], store: Store, building: Path, reporter: Reporter, watch: Watch
) -> Result:
    from kaizen.report.node import run_summary

    run_summary(spec, store, building)
    return _versions("matplotlib", "numpy", "pyarrow"), {}


def _versions(*packages: str) -> dict[str, Any]:
    return {package: installed_version(package) for package in packages}


_MAKERS = {
    "shards": _shards,
    "replay": _replay,
    "step": _step,
    "evaluation": _evaluation,
    "reference": _evaluation,
    "summary": _summary,
}
