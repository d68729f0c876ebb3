"""Where a step's curves also go as it trains (`runtime.live`): TensorBoard, DVCLive, through their
own libraries. Neither is imported before the first epoch has ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaizen.training.traces import Board, Row

# Below the checkout, a folder for each step.
FOLDER = Path("logs")


class TensorBoard:
    """Event files for `tensorboard --logdir logs/tensorboard`."""

    def __init__(self, folder: Path, first: int) -> None:
        """Begin a file; what earlier files in ``folder`` say of epochs from ``first`` on counts no
        more.
        """
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter
        self._writer = writer(str(folder), purge_step=first)

    def add(self, row: Row) -> None:
        """See `Board.add`."""
        for name, value in _curves(row).items():
            self._writer.add_scalar(name, value, row.epoch, walltime=row.at)
        self._writer.flush()

    def close(self) -> None:
        """See `Board.close`."""
        self._writer.close()


class DVCLive:
    """Files of DVCLive, for `dvc plots` and the extension of VS Code; no experiment of DVC's."""

    def __init__(self, folder: Path, first: int) -> None:
        """Begin anew in ``folder``."""
        from dvclive import Live

        self._live = Live(
            str(folder), report=None, save_dvc_exp=False, dvcyaml=None, monitor_system=False
        )

    def add(self, row: Row) -> None:
        """See `Board.add`."""
        self._live.step = row.epoch
        for name, value in _curves(row).items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def close(self) -> None:
        """See `Board.close`."""
        self._live.end()


def open_board(kind: str, name: str, first: int) -> Board:
    """The board of a step, in a folder ``name``; it begins with the epoch ``first``."""
    boards: dict[str, type[TensorBoard] | type[DVCLive]] = {
        "tensorboard": TensorBoard,
        "dvclive": DVCLive,
    }
    return boards[kind](FOLDER / kind / name, first)


def _curves(row: Row) -> dict[str, float]:
    others = {"lr": row.lr, "images_per_second": row.images_per_second}
    if row.accuracy is not None:
        others["accuracy"] = row.accuracy
    return {f"loss/{name}": value for name, value in row.terms.items()} | others
