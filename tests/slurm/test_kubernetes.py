"""profiles/kubernetes against a small API server that runs the containers here (kube.py), and a real S3 server."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Scenario
from driver import Grid
from kube import Kubernetes, image_environment
from tiny import REPOSITORY

servers = pytest.importorskip("servers")


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    """The API server, with KUBECONFIG set."""
    server = Kubernetes(tmp_path / "pods", image_environment(REPOSITORY, sys.executable, tmp_path / "image" / "pip"))
    server.configuration(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield server
    server.close()


def test_the_whole_workflow(grid: Grid, kubernetes: Kubernetes, tmp_path: Path, scenario: Scenario) -> None:
    """Every node made by a container: store on the volume, receipts in the object store, bytes of the local run."""
    root = grid.project.root
    shutil.rmtree(grid.project.store.root)
    shutil.copy(REPOSITORY / "Snakefile", root)
    shutil.copytree(REPOSITORY / "workflow", root / "workflow")
    grid.project.set({"dataset.path": str(grid.project.images)})
    with servers.object_store(tmp_path / "s3") as s3:
        os.environ["SNAKEMAKE_STORAGE_S3_ACCESS_KEY"] = s3.access_key
        os.environ["SNAKEMAKE_STORAGE_S3_SECRET_KEY"] = s3.secret_key
        values = {
            "kubernetes-persistent-volumes": [f"kaizen:{root}"],
            "storage-s3-endpoint-url": s3.url,
            "default-storage-prefix": f"s3://{s3.bucket}/kaizen/1",
            "seconds-between-status-checks": 1,
        }
        grid.change_profile(values, source="kubernetes")
        run = grid.snakemake(snakefile=root / "Snakefile")
        run.finish()
        objects = s3.objects()
        again = grid.snakemake(snakefile=root / "Snakefile")
        again.finish()
    assert grid.project.nodes() == grid.reference.nodes()
    assert (root / "results/metrics.json").is_file()
    assert any(name.startswith("kaizen/1/.kaizen/receipts/step/") for name in objects), objects
    manifests = list(kubernetes.jobs.values())
    assert len(manifests) == 7, "shards, replays, three steps, evaluations, summary; nothing the second time"
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests]
    volume = {"name": "kaizen", "persistentVolumeClaim": {"claimName": "kaizen"}}
    assert all(volume in pod["volumes"] for pod in pods)
    (step,) = {pod["containers"][0]["resources"]["requests"]["memory"] for pod in pods if "step:key" in str(pod)}
    assert step == "600M"
    assert sorted(kubernetes.deleted) == sorted(kubernetes.jobs), "finished jobs are cleaned up"
    scenario(grid, ideal=9, made=9)
