"""A process that has imported all that Kaizen computes with, and forks a child for every command.

So a command runs in a process of its own, which can be killed, filled up or poisoned, without the
seconds that importing torch takes. `Warm` is the tests' side; this file run as a program is the
process's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project import REPOSITORY, Outcome, Project

# What commands and jobs import when they begin.
_IMPORTED = (
    "kaizen.data.ingest",
    "kaizen.data.replay.shard",
    "kaizen.evaluation.run",
    "kaizen.store.garbage",
    "kaizen.jobs.make",
    "kaizen.jobs.preloaded",
    "kaizen.store.publish",
    "kaizen.report.node",
    "kaizen.report.terminal",
    "kaizen.jobs.running",
    "kaizen.training.step",
    "kaizen.jobs.workflow",
    "numpy.random",
    "rich.table",
)


@dataclass(frozen=True)
class Ended(Outcome):
    """How a command ended, after how many seconds, and the MB of memory it had at most; a killed
    one has code -9.

    The memory includes what it shares with the warm process.
    """

    seconds: float
    peak_mb: float


class Warm:
    """Asks the warm process to run commands; use as a context manager."""

    def __init__(self, scratch: Path) -> None:
        """``scratch`` is a folder for the commands' outputs."""
        self.scratch = scratch
        paths = (str(REPOSITORY / "tests"), str(REPOSITORY))
        # One thread, as a process with more must not be forked: that of Arrow's allocator is off
        # too. And no GPU.
        single = {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
            "CUDA_VISIBLE_DEVICES": "",
        }
        environment = os.environ | single | {"PYTHONPATH": os.pathsep.join(paths)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faults.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def kaizen(
        self,
        project: Project,
        *arguments: str,
        inject: Mapping[str, Any] | None = None,
        kill_after: float | None = None,
    ) -> Ended:
        """Run a command in ``project``, with faults of `inject` (function name -> arguments)
        prepared in its process.

        After ``kill_after`` seconds it gets a SIGKILL.
        """
        output = self.scratch / "output"
        request = {
            "folder": str(project.root),
            "store": str(project.store.root),
            "arguments": arguments,
            "inject": inject or {},
            "kill_after": kill_after,
            "output": str(output),
        }
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return Ended(
            answer["code"], output.read_text(encoding="utf-8", errors="replace"), *answer["used"]
        )


def run(request: dict[str, Any]) -> int:
    """Run the command in this process, as `python -m kaizen` would."""
    from faults import inject
    from kaizen import cli

    os.setsid()
    descriptor = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(request["folder"])
    os.environ["KAIZEN_STORE"] = request["store"]
    for name, options in request["inject"].items():
        getattr(inject, name)(**options)
    return cli.main(request["arguments"])


def child(request: dict[str, Any]) -> None:
    """`run`, and the end of the process."""
    code = 1
    try:
        code = run(request)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(process: int, kill_after: float | None) -> tuple[int, float]:
    """Wait for a process, at most so long, and kill it then; returns its exit code and the most MB
    that it had.
    """
    handle = os.pidfd_open(process)
    try:
        if not select.select([handle], [], [], kill_after)[0]:
            os.kill(process, signal.SIGKILL)
    finally:
        os.close(handle)
    _, status, used = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024 / 1e6


def serve() -> None:
    """Answer requests until stdin ends."""
    from PIL import Image

    from kaizen.compute.device import choose_compute
    from kaizen.params import registry

    for module in _IMPORTED:
        importlib.import_module(module)
    for target in (
        *(method.target for method in registry.SSL_METHODS.values()),
        *(distiller.target for distiller in registry.FEATURE_DISTILLERS.values()),
        *(source.target for source in registry.SOURCES.values()),
    ):
        registry.load(target)
    # Each imports much more when it is first used.
    choose_compute("cpu", "float32", 1)
    Image.init()
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a process with threads must not be forked")
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        process = os.fork()
        if process == 0:
            child(request)
        code, peak = wait(process, request["kill_after"])
        print(json.dumps({"code": code, "used": [time.monotonic() - began, peak]}), flush=True)


if __name__ == "__main__":
    serve()
