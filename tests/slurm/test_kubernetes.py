"""profiles/kubernetes against a small API server that runs the containers here (kube.py), and a
real S3 server.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from project import REPOSITORY
from servers import ObjectStore, object_store

from slurm.conftest import Scenario
from slurm.driver import Grid, Snakemake, until
from slurm.kube import Kubernetes, image_environment


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[ObjectStore]:
    """The object store through which sources, logs and receipts go."""
    with object_store(tmp_path / "s3") as store:
        yield store


@pytest.fixture
def kubernetes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: Grid, s3: ObjectStore
) -> Iterator[Kubernetes]:
    """The API server, and the grid's project as a checkout on the volume, with the profile."""
    root = grid.project.root
    shutil.copy(REPOSITORY / "Snakefile", root)
    shutil.copytree(REPOSITORY / "workflow", root / "workflow")
    grid.project.set({"dataset.path": str(grid.project.images)})
    values = {
        "kubernetes-persistent-volumes": [f"kaizen:{root}"],
        "storage-s3-endpoint-url": s3.url,
        "default-storage-prefix": f"s3://{s3.bucket}/kaizen/1",
        "seconds-between-status-checks": 1,
    }
    grid.change_profile(values, source="kubernetes")
    server = Kubernetes(
        tmp_path / "pods", image_environment(REPOSITORY, sys.executable, tmp_path / "image" / "pip")
    )
    server.configuration(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_ACCESS_KEY", s3.access_key)
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_SECRET_KEY", s3.secret_key)
    yield server
    server.close()


def start(grid: Grid, *arguments: str) -> Snakemake:
    return grid.snakemake(*arguments, snakefile=grid.project.root / "Snakefile")


def test_the_whole_workflow_in_pods(
    grid: Grid, kubernetes: Kubernetes, s3: ObjectStore, scenario: Scenario
) -> None:
    """Every node made by a container: store on the volume, receipts in the object store, bytes of
    the local run.
    """
    shutil.rmtree(grid.project.store.root)
    start(grid).finish()
    assert grid.project.nodes() == grid.reference.nodes()
    assert (grid.project.root / "results/metrics.json").is_file()
    objects = s3.objects()
    assert any(name.startswith("kaizen/1/.kaizen/receipts/step/") for name in objects), objects
    pods = [manifest["spec"]["template"]["spec"] for manifest in kubernetes.jobs.values()]
    assert len(pods) == 7, "shards, replays, three steps, evaluations, summary"
    volume = {"name": "kaizen", "persistentVolumeClaim": {"claimName": "kaizen"}}
    mount = {"name": "kaizen", "mountPath": str(grid.project.root)}
    assert all(
        volume in pod["volumes"] and mount in pod["containers"][0]["volumeMounts"] for pod in pods
    )
    (memory,) = {
        pod["containers"][0]["resources"]["requests"]["memory"]
        for pod in pods
        if "step:key" in str(pod)
    }
    assert memory == "600M"
    assert sorted(kubernetes.deleted) == sorted(kubernetes.jobs), "finished jobs are cleaned up"
    start(grid).finish()
    assert len(kubernetes.jobs) == 7, "nothing the second time"
    scenario(grid, ideal=9)


def test_a_lost_pod_is_replaced_and_resumes(
    grid: Grid, kubernetes: Kubernetes, s3: ObjectStore, scenario: Scenario
) -> None:
    """SIGKILL of all that runs in a pod, as when its node is lost."""
    key = grid.project.keys("step")[1]
    run = start(grid, grid.forget(key))
    trainer = grid.hold_trainer(key)
    # The container is Snakemake's shell: everything below it, and it.
    pod = next(
        p
        for p in trainer.parents()
        if Path(p.cwd()).parent == kubernetes.folder and p.ppid() == psutil.Process().pid
    )
    for process in [pod, *pod.children(recursive=True)]:
        process.kill()
    until("a second pod", lambda: len(kubernetes.jobs) == 2)
    run.finish()
    grid.check_made(key, resumed=False)
    log = (
        s3.client().get_object(Bucket=s3.bucket, Key=f"kaizen/1/logs/step/{key}.log")["Body"].read()
    )
    assert b"resumes at epoch" in log
    scenario(grid, ideal=1)
