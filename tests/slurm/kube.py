"""The least of a Kubernetes API server: keeps Jobs and Secrets, and runs a Job's container as a
process of this host.

What is real: the executor plugin and its client, the manifests, the commands that the containers
run, their exit codes and logs. What is not: images, scheduling, volumes (a claim's mount path is
simply a folder of this host), limits.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


class Kubernetes:
    """The server; `jobs` are the manifests that were created, by name."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Containers see ``environment``, as if it was in the image, and a working folder of their
        own.
        """
        self.folder, self.environment = folder, dict(environment)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.deleted: list[str] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                found = server.handle(self.command, self.path, body)
                text = found if isinstance(found, str) else json.dumps(found)
                self.send_response(200)
                self.send_header(
                    "Content-Type", "text/plain" if isinstance(found, str) else "application/json"
                )
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def configuration(self, path: Path) -> None:
        """Write a kubeconfig for this server."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        values = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": url}}],
            "users": [{"name": "tests", "user": {}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }
        path.write_text(yaml.safe_dump(values))

    def handle(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | str:
        """Answer one request of the few that the executor makes."""
        path, _, query = path.partition("?")
        parts = path.strip("/").split("/")
        name = body.get("metadata", {}).get("name", "")
        if method == "POST" and parts[-1] == "secrets":
            self.secrets[name] = {
                key: base64.b64decode(value).decode() for key, value in body["data"].items()
            }
        elif method == "POST" and parts[-1] == "jobs":
            self.jobs[name] = body
            self._start(name)
        elif method == "GET" and parts[-1] == "status":
            code = self._processes[parts[-2]].poll()
            return {
                "status": {"active": 1} if code is None else {"failed" if code else "succeeded": 1}
            }
        elif method == "GET" and parts[-1] == "pods":
            return {"items": [self._pod(query.partition("job-name%3D")[2])]}
        elif method == "GET" and parts[-1] == "log":
            return (self.folder / parts[-2] / "log").read_text()
        elif method == "DELETE" and parts[-2] == "jobs":
            self.deleted.append(parts[-1])
            self._processes[parts[-1]].terminate()
        return body

    def close(self) -> None:
        """End the server and the containers."""
        self._server.shutdown()
        for process in self._processes.values():
            process.kill()

    def _start(self, name: str) -> None:
        (container,) = self.jobs[name]["spec"]["template"]["spec"]["containers"]
        work = self.folder / name
        work.mkdir(parents=True)
        secrets = {
            entry["name"]: self.secrets[entry["valueFrom"]["secretKeyRef"]["name"]][
                entry["valueFrom"]["secretKeyRef"]["key"]
            ]
            for entry in container.get("env") or []
        }
        with open(work / "log", "wb") as log:
            self._processes[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=work,
                env=self.environment | secrets,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _pod(self, job: str) -> dict[str, Any]:
        code = self._processes[job].poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        status = {
            "name": "snakemake",
            "image": "",
            "imageID": "",
            "ready": True,
            "restartCount": 0,
            "state": state,
        }
        return {"metadata": {"name": job}, "status": {"containerStatuses": [status]}}


def image_environment(repository: Path, python: str, pip: Path) -> dict[str, str]:
    """What the image holds: Python, the checkout's code, and a pip that has nothing left to
    install.
    """
    pip.parent.mkdir(parents=True, exist_ok=True)
    pip.write_text("#!/bin/sh\nexit 0\n")
    pip.chmod(0o755)
    path = os.pathsep.join([str(pip.parent), str(Path(python).parent), "/usr/bin", "/bin"])
    return {
        "PATH": path,
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
        "HOME": str(pip.parent),
    }
