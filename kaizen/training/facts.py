"""What a step really trained with, besides what its parameters asked for: `step.json`.

Imports no torch, so that reports can read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kaizen.data.names import FACTS_FILE
from kaizen.errors import KaizenError, names_text
from kaizen.files import read_json, write_json
from kaizen.params.typed import from_dict


@dataclass(frozen=True)
class StepFacts:
    """Task images that are trained on, of how many, and how many of them have a label; the same of
    replay; images per batch; batches per epoch; the base learning rate after scaling; the names of
    the earlier tasks' classes of which no labelled image is replayed; and the classes learnt so
    far, label -> name.
    """

    rows: int
    of_rows: int
    labelled: int
    replay_rows: int
    replay_labelled: int
    batch_size: int
    replay_batch_size: int
    batches: int
    lr: float
    replay_lacks: list[str] = field(default_factory=list)
    classes: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """One line for log and card."""
        share = "" if self.rows == self.of_rows else f" of {self.of_rows}"
        replay = (
            f", {self.replay_rows} of replay ({self.replay_labelled} labelled)"
            if self.replay_rows
            else ""
        )
        batch = f"{self.batch_size} + {self.replay_batch_size}" if replay else f"{self.batch_size}"
        return (
            f"{self.rows}{share} images ({self.labelled} labelled){replay}; batches of {batch}, "
            f"{self.batches} per epoch; learning rate {self.lr:.4g}"
        )

    def warnings(self, batch_size: int, replay_batch_size: int) -> list[str]:
        """What is otherwise than the parameters say, each as a sentence: the sizes of batches that
        were asked for, of replay 0 where a step replays nothing.
        """
        found = []
        if not self.batches:
            found.append(
                "fewer than two images of the task have a label, and a supervised step trains on "
                "nothing else: it leaves the model as it was"
            )
        elif self.batch_size < batch_size:
            found.append(
                f"batches have {self.batch_size} task images, all there are, not "
                f"train.batch_size {batch_size}, and the learning rate is scaled for so many"
            )
        if self.replay_rows and self.replay_batch_size < replay_batch_size:
            found.append(
                f"batches have {self.replay_batch_size} replay images, all there are, not "
                f"train.replay_batch_size {replay_batch_size}"
            )
        if not self.batches:
            pass
        elif not self.labelled + self.replay_labelled:
            found.append("no image that is trained on has a label: the classifier learns none")
        elif self.replay_rows and not self.replay_labelled:
            found.append("no replay image has a label: the classifier learns from the task's only")
        elif self.replay_lacks:
            found.append(
                f"no labelled image of {names_text(self.replay_lacks)} is replayed: the replay "
                "size comes to none of them"
            )
        return found


def write_facts(facts: StepFacts, folder: Path) -> None:
    """Write step.json: the same bytes for the same facts."""
    write_json(folder / FACTS_FILE, dataclasses.asdict(facts))


def read_facts(path: Path) -> StepFacts:
    """Read step.json; raises KaizenError where it is not one."""
    content = read_json(path)
    try:
        if isinstance(content, dict):
            return from_dict(StepFacts, content)
    except TypeError:
        pass
    raise KaizenError(
        f"{path} does not hold a step's facts; delete its node's folder and run again"
    )
