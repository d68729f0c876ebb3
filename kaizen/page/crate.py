"""`results/ro-crate-metadata.json`: what is published, as RO-Crate 1.1, for archives."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from kaizen import __version__
from kaizen.files import sha256_file, write_json
from kaizen.page.results import Results
from kaizen.provenance.explain import made_at
from kaizen.provenance.known import Known, KnownNode
from kaizen.store.layout import CRATE, METRICS

_FILES = {
    "report.html": ("All results on one page", "text/html"),
    "metrics.json": ("The classifier's metrics", "application/json"),
    "manifest.json": ("Every published file with its node's key and SHA-256", "application/json"),
    "provenance.json": ("How each node was made", "application/json"),
    "summary/report.md": ("Tables and figures in Markdown", "text/markdown"),
    "summary/metrics_full.json": ("Every metric by every reader", "application/json"),
    "summary/results.csv": ("Every metric of every run", "text/csv"),
}
_FOLDERS = {
    "summary": "Tables, figures and cards",
    "models": "The trained models, a folder for each step of a run",
    "heads": "Classifiers in closed form",
    "evaluations": "Accuracies, confusion, calibration and features of each run",
}
_LICENCE = "#licence"


def write_crate(known: Known, results: Results, description: str) -> None:
    """Write the crate's metadata beside the manifest; its date is that of the summary, so the same
    results give the same bytes.
    """
    folder = (known.root / CRATE).parent
    entry = known.files.get(METRICS)
    write_json(
        known.root / CRATE,
        crate(folder, results, description, known.node(entry.node) if entry else None),
    )


def crate(
    folder: Path, results: Results, description: str, summary: KnownNode | None
) -> dict[str, Any]:
    """The metadata of the results that lie in ``folder``."""
    made = made_at(summary) if summary else None
    date = (made and made["began"]) or datetime.datetime.fromtimestamp(0, datetime.UTC).isoformat()
    files = [
        {
            "@id": name, "@type": "File", "name": title, "encodingFormat": kind,
            "contentSize": str((folder / name).stat().st_size),
            "sha256": sha256_file(folder / name),
        }
        for name, (title, kind) in _FILES.items()
        if (folder / name).is_file()
    ]  # fmt: skip
    folders = [
        {"@id": f"{name}/", "@type": "Dataset", "name": title}
        for name, title in _FOLDERS.items()
        if (folder / name).is_dir()
    ]
    parts = [{"@id": part["@id"]} for part in [*files, *folders]]
    commit = summary.origin.commit if summary and summary.origin else None
    program = {
        "@id": "#kaizen", "@type": "SoftwareApplication", "name": "Kaizen",
        "softwareVersion": f"{__version__}" + (f", commit {commit}" if commit else ""),
        "url": "https://arxiv.org/abs/2303.17235",
    }  # fmt: skip
    action = {
        "@id": f"#summary-{results.summary}", "@type": "CreateAction",
        "name": "The experiment, down to its summary", "instrument": {"@id": "#kaizen"},
        "result": parts, "endTime": date,
    }  # fmt: skip
    root = {
        "@id": "./", "@type": "Dataset", "name": results.title, "description": description,
        "datePublished": date, "license": {"@id": _LICENCE}, "hasPart": parts,
        "mentions": {"@id": action["@id"]},
    }  # fmt: skip
    licence = {
        "@id": _LICENCE, "@type": "CreativeWork", "name": "No licence is stated",
        "description": "Kaizen gives these results none; that of the data applies to them.",
    }  # fmt: skip
    metadata = {
        "@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }  # fmt: skip
    terms: dict[str, str] = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
    return {
        "@context": ["https://w3id.org/ro/crate/1.1/context", terms],
        "@graph": [metadata, root, *files, *folders, program, action, licence],
    }
