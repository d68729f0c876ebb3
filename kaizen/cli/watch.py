"""The command that shows a grid as it is being made: watch."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kaizen.cli.common import Commands, add_store, job_count, open_store, path_argument, planned
from kaizen.errors import KaizenError

if TYPE_CHECKING:
    from kaizen.jobs.grid import Grid

_SECONDS_BETWEEN_LOOKS = 2.0


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    sub = commands.add_planned(
        "watch",
        _watch,
        "Show the experiment as it is being made, by whatever process, cluster or checkout shares "
        "the store: what is done, running, waiting, and how long it will take. Changes nothing.",
    )
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--once", action="store_true", help="show it once, and end")
    form.add_argument(
        "--browser",
        action="store_true",
        help="show it on a page with curves, which a server on this machine answers until Ctrl-C",
    )
    sub.add_argument(
        "--port", type=_port, metavar="N", help="of --browser; default: 0, any that is free"
    )
    sub.add_argument(
        "--open", action="store_true", help="with --browser: open the page in a browser"
    )
    sub.add_argument(
        "--plan", type=path_argument, metavar="FILE", help="watch a `kaizen plan --json`"
    )
    sub.add_argument(
        "-j",
        "--jobs",
        type=job_count,
        metavar="N",
        help="expect N nodes to be made at a time; default: as many as are seen, or as this "
        "machine has cores for",
    )
    add_store(sub)


def _watch(options: argparse.Namespace) -> None:
    if not options.browser and (options.open or options.port is not None):
        raise KaizenError(f"{'--open' if options.open else '--port'} goes with --browser; add it")
    # Ctrl-C is how one ends watching.
    with contextlib.suppress(KeyboardInterrupt):
        grid = _grid(options)
        if options.browser:
            _serve(grid, options.port or 0, options.open)
        else:
            _show(grid, options.once)


def _show(grid: Grid, once: bool) -> None:
    if once:
        from rich.console import Console

        from kaizen.jobs.grid_view import print_grid

        print_grid(grid.look(), Console())
    elif sys.stdout.isatty():
        from kaizen.jobs.grid_view import View

        with View(grid, sys.stdout) as view:
            _until_done(view.refresh)
    else:
        from kaizen.jobs.grid_lines import Changes, stamped

        changes = Changes(grid.took)

        def tell() -> bool:
            picture = grid.look()
            for line in changes.lines(picture):
                print(stamped(line), flush=True)
            return picture.is_done

        _until_done(tell)


def _serve(grid: Grid, port: int, open_it: bool) -> None:
    """Answer with the page until Ctrl-C."""
    from kaizen.files import tell
    from kaizen.jobs.grid_server import GridServer
    from kaizen.jobs.grid_state import States

    def show() -> None:
        import webbrowser

        if not webbrowser.open(server.url):
            tell(f"no browser was found here; open {server.url} with one")

    with GridServer(States(grid, Path.cwd().name).look, port) as server:
        print(f"{server.url}\nthis machine alone can open it; Ctrl-C ends it", flush=True)
        if open_it:
            # A browser of the terminal ends only when it is closed.
            threading.Thread(target=show, daemon=True).start()
        server.serve_forever()


def _port(text: str) -> int:
    """The value of ``--port``."""
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")


def _until_done(look: Callable[[], bool]) -> None:
    """Look every two seconds until all is done."""
    while not look():
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _grid(options: argparse.Namespace) -> Grid:
    """The grid that the options name."""
    from kaizen.jobs.grid import Grid
    from kaizen.plan.memory import images_of_tasks

    if options.plan is not None:
        from kaizen.plan.plan_file import in_order, read_plan

        store = open_store(options.store)
        jobs = in_order(read_plan(options.plan), store.has, str(options.plan))
        return Grid(jobs, store, at_once=options.jobs)
    workflow = planned(options)
    workflow.look_at_store()
    store = open_store(options.store) if options.store else workflow.store
    jobs = [node.job() for node in workflow.plan.nodes.values()]
    grid = Grid(jobs, store, images_of_tasks(workflow.plan), options.jobs)
    if store.root == workflow.store.root:
        grid.finished |= workflow.at_hand
    return grid
