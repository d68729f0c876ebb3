"""`kaizen serve`: everything put together, from the socket to the signal that ends it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from PIL import Image

from kaizen.errors import KaizenError
from kaizen.files import printable, tell
from kaizen.serving.app import PATHS, make_app
from kaizen.serving.check import Rules, look_at_places, warm_up
from kaizen.serving.collection import Bounds, Collection
from kaizen.serving.figures import Figures
from kaizen.serving.follow import Follower, Load
from kaizen.serving.guard import Guard, is_loopback
from kaizen.serving.info import Informed
from kaizen.serving.limits import Limits
from kaizen.serving.published import Found, content, find_model, find_steps
from kaizen.serving.served import Deployment, Served
from kaizen.serving.service import Service


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, and how: ``model`` is a run's folder, a model's, or an exported file. With
    ``follow`` it is looked at every ``poll`` seconds for a newer step. ``collect`` is the folder
    where images are kept, None where none are.
    """

    model: Path
    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = field(default_factory=Limits)
    follow: bool = False
    poll: float = 2.0
    rules: Rules = field(default_factory=Rules)
    collect: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        """Raises KaizenError that names the option where a value is out of its bounds."""
        if not 0 <= self.port <= 65535:
            raise KaizenError(f"--port: {self.port} must be from 0 (any free one) to 65535")
        if not 0.05 <= self.poll <= 86400:
            raise KaizenError(f"--poll: {self.poll:g} must be from 0.05 to 86400 seconds")


def serve(serving: Serving, load: Load) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish those under way; ``load`` loads a model
    from its folder or file.

    Raises KaizenError, before anything is answered, where the model, the port or the folder of the
    collection cannot be used.
    """
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    # A line for each bad form; its client is told.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    found = find_model(serving.model)
    if serving.follow and (not serving.model.is_dir() or serving.model == found.path):
        raise KaizenError(
            f"--follow: {serving.model} is one model; name the folder where its steps appear, "
            "results/models/<run>"
        )
    listening = _listen(serving.host, serving.port)
    with listening:
        collection = None
        if serving.collect is not None:
            collection = Collection(serving.collect, serving.bounds)
        first = _first(serving, found, load)
        if serving.rules.places and not look_at_places(serving.rules, first.model):
            tell(
                f"--check: no image of a class that {first.found.name} knows; until there is one, "
                "the accuracy of newer steps is not compared"
            )
        deployment = Deployment(first)
        follower = Follower(
            deployment,
            serving.model,
            load,
            serving.rules,
            serving.limits.batch_size,
            serving.poll,
        )
        _answer(serving, deployment, collection, listening, follower if serving.follow else None)


def _first(serving: Serving, found: Found, load: Load) -> Served:
    """The model to begin with, ``found`` or, of steps that are followed, the newest that can be
    loaded: a server that is started again beside a broken step answers as it did before.
    """
    earlier = find_steps(serving.model)[:-1] if serving.follow else []
    first: KaizenError | None = None
    for step in (found, *reversed(earlier)):
        try:
            model = load(step.path)
            warm_up(model, serving.limits.batch_size)
        except KaizenError as error:
            first = first or error
            if earlier:
                tell(f"{step.name} cannot be served: {error}")
        else:
            return Served(model, step, content(step.path))
    raise first or KaizenError(f"{serving.model} holds no model")


def _answer(
    serving: Serving,
    deployment: Deployment,
    collection: Collection | None,
    listening: socket.socket,
    follower: Follower | None,
) -> None:
    """Answer requests until a signal comes."""
    figures = Figures(deployment)
    following = None if follower is None else follower.following
    info = Informed(deployment, serving.limits, following, collection)
    service = Service(deployment, serving.limits, figures, info, collection)
    # A page of another site may give this machine a name of its own and ask it by that.
    own = {"localhost", "127.0.0.1", "::1", serving.host}
    guard = Guard(
        make_app(service),
        serving.limits,
        figures,
        PATHS,
        own if is_loopback(serving.host) else None,
    )
    config = uvicorn.Config(
        guard,
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(serving.limits.timeout)),
    )
    server = _Server(config)
    try:
        if follower is not None:
            follower.start()
        _greet(serving, deployment, listening, collection)
        server.run(sockets=[listening])
    finally:
        if follower is not None:
            follower.stop()
        service.close()
    tell("ended; all that was under way is answered")
    if follower is not None and not follower.ended():
        # In the middle of a load: torch's threads cannot outlive Python's end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Server(uvicorn.Server):
    """uvicorn's server, for which a signal is the way to end, not an error."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGINT and SIGTERM; on a second one without waiting."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises KaizenError where the address cannot be had."""
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # asyncio sends short answers at once (TCP_NODELAY) on sockets that name TCP, and no others:
        # without it each waits 40 ms for the client's acknowledgement.
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        # A name with a part that is blank, or too long, is not even looked up.
        why = getattr(error, "strerror", None) or "it is no name of a host"
        raise KaizenError(f"--host: {printable(host)[:80]} is no address here ({why})") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except OSError as error:
        found.close()
        raise KaizenError(
            f"--port: {port} of {printable(host)[:80]} cannot be used ({error.strerror}); name "
            "another, or 0 for any free one"
        ) from error
    return found


def _greet(
    serving: Serving,
    deployment: Deployment,
    listening: socket.socket,
    collection: Collection | None,
) -> None:
    """Say what answers where."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    current = deployment.current
    known = len(current.model.classes)
    tell(
        f"{current.found.name} (key {current.model.key[:12]}) knows {known} "
        f"class{'' if known == 1 else 'es'}"
    )
    if serving.follow:
        tell(f"newer steps in {serving.model} take over as they are published")
    if collection is not None:
        tell(f"images that are given with feedback are kept in {collection.folder}")
    if not is_loopback(host):
        tell("anybody who reaches this address may ask; there is no password")
    print(f"serving on http://{shown}:{port}/ (Ctrl-C ends it)", flush=True)
