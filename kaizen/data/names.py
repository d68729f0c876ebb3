"""The names of the files that nodes consist of."""

from __future__ import annotations

from typing import Literal

Part = Literal["train", "test"]

TASKS_FILE = "tasks.json"
REPLAY_FILE = "replay.parquet"
# Of a stream that grows: what the next replay shard must know of the tasks so far.
MEMORY_FILE = "memory.parquet"
CHECKPOINT = "model.safetensors"
HISTORY_FILE = "history.parquet"
FACTS_FILE = "step.json"
# Beside a checkpoint: what the model is, and how an image is brought to it.
CONFIG_FILE = "config.json"
PREPROCESSING_FILE = "preprocessor_config.json"
# Beside a model, the analytic heads of its step, where one of them answers.
HEADS_FILE = "heads.safetensors"
ACCURACY_FILE = "accuracy.json"
CONFUSION_FILE = "confusion.parquet"


def head_file(step: int) -> str:
    """The file of a step's analytic heads, as in "step-03.safetensors"."""
    return f"step-{step:02d}.safetensors"


def head_facts_file(step: int) -> str:
    """What the heads of a step were made from, as in "step-03.json"."""
    return f"step-{step:02d}.json"


def shard_file(task: int, part: str) -> str:
    """The file of a task's shard, as in "task-00.train.parquet"."""
    return f"task-{task:02d}.{part}.parquet"
