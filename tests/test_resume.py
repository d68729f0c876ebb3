from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kaizen.errors import KaizenError
from kaizen.training.resume import FILE, Progress, load_resume, save_resume, save_tensors

COMPUTE = {"device": "cpu", "precision": "float32", "threads": 1}
TENSORS = {
    "encoder.conv.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1)),
    "channels_last": torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2)).to(
        memory_format=torch.channels_last
    ),
    "transposed": torch.arange(6, dtype=torch.float64).view(2, 3).t(),
    "bfloat16": torch.tensor([1.5, -0.0, float("inf"), 3.25], dtype=torch.bfloat16),
    "float16": torch.tensor([[1.0, 65504.0]], dtype=torch.float16),
    "special": torch.tensor([float("nan"), -0.0, 1e-45, float("-inf")]),
    "batches_tracked": torch.tensor(2**40 + 1),
    "scalar": torch.tensor(0.1, dtype=torch.float64),
    "bool": torch.tensor([True, False, True]),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "empty": torch.empty(0, 7),
}
PROGRESS = Progress(
    epoch=3,
    batch=17,
    sums=[0.1 + 0.2, 1e-300, 5.0, 0.0],
    history=[{"epoch": 0.0, "L": 1 / 3}, {"epoch": 1.0, "L": 2 / 3}],
    seconds=12.75,
)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        assert (one[name].dtype, one[name].shape) == (two[name].dtype, two[name].shape), name
        assert bits(one[name]) == bits(two[name]), name


def assert_refused(folder: Path, why: str, compute: dict[str, Any] = COMPUTE) -> None:
    """The state is not used, the message says why, the file is kept aside, and the next start has
    nothing.
    """
    content = (folder / FILE).read_bytes()
    tensors, progress, message = load_resume(folder, compute)
    assert (tensors, progress) == ({}, Progress())
    aside = folder / f"{FILE}.refused"
    assert message.startswith(f"{folder / FILE} cannot be used (")
    assert why in message
    assert f"kept as {aside}; the step starts from its beginning" in message
    assert aside.read_bytes() == content
    assert load_resume(folder, compute) == ({}, Progress(), "")


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_resume(tmp_path / "new", TENSORS, PROGRESS, COMPUTE)
    tensors, progress, message = load_resume(tmp_path / "new", dict(COMPUTE))
    assert message == ""
    assert_same(tensors, TENSORS)
    assert progress == PROGRESS
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]


def test_a_state_can_be_loaded_again_and_replaced(tmp_path: Path) -> None:
    save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
    load_resume(tmp_path, COMPUTE)
    assert load_resume(tmp_path, COMPUTE)[1] == PROGRESS
    save_resume(tmp_path, {"a": torch.ones(2)}, Progress(epoch=4), COMPUTE)
    tensors, progress, _ = load_resume(tmp_path, COMPUTE)
    assert_same(tensors, {"a": torch.ones(2)})
    assert progress == Progress(epoch=4)


def test_what_is_saved_is_what_the_tensors_were(tmp_path: Path) -> None:
    """Neither a gradient nor a later change of a tensor shows in the state."""
    weight = torch.nn.Parameter(torch.ones(3))
    save_resume(tmp_path, {"weight": weight}, Progress(), COMPUTE)
    with torch.no_grad():
        weight.add_(1)
    tensors = load_resume(tmp_path, COMPUTE)[0]
    assert_same(tensors, {"weight": torch.ones(3)})
    assert not tensors["weight"].requires_grad


def test_nothing_saved_is_a_fresh_start_without_a_word(tmp_path: Path) -> None:
    assert load_resume(tmp_path, COMPUTE) == ({}, Progress(), "")
    assert load_resume(tmp_path / "absent", COMPUTE) == ({}, Progress(), "")


def test_a_truncated_state_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
    content = (tmp_path / FILE).read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        (tmp_path / FILE).write_bytes(content[:length])
        assert_refused(tmp_path, "")


def test_a_longer_state_is_refused(tmp_path: Path) -> None:
    save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
    with open(tmp_path / FILE, "ab") as file:
        file.write(b"\0")
    assert_refused(tmp_path, "")


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save_resume(
        tmp_path, {"a": torch.ones(2), "b": torch.tensor(3)}, Progress(epoch=1), {"device": "cpu"}
    )
    content = (tmp_path / FILE).read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        (tmp_path / FILE).write_bytes(bytes(flipped))
        tensors, progress, message = load_resume(tmp_path, {"device": "cpu"})
        assert (tensors, progress) == ({}, Progress()), position
        assert "cannot be used" in message, position


def rewrite(
    change: Callable[[dict[str, Tensor], dict[str, str]], object],
) -> Callable[[Path], None]:
    """Change tensors and metadata of a state, leaving a well-formed file."""

    def edit(folder: Path) -> None:
        import safetensors

        with safetensors.safe_open(folder / FILE, "pt") as file:
            metadata = dict(file.metadata())
        tensors = load_file(folder / FILE)
        change(tensors, metadata)
        save_file(tensors, folder / FILE, metadata)

    return edit


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (rewrite(lambda tensors, metadata: tensors["special"].add_(1)), "does not match its hash"),
        (rewrite(lambda tensors, metadata: tensors.pop("scalar")), "does not match its hash"),
        (
            rewrite(lambda tensors, metadata: tensors.update(more=torch.ones(1))),
            "does not match its hash",
        ),
        (
            rewrite(lambda tensors, metadata: tensors.update(uint8=tensors["bool"].clone())),
            "does not match its hash",
        ),
        (
            rewrite(
                lambda tensors, metadata: tensors.update(uint8=tensors["uint8"].view(torch.int8))
            ),
            "does not match its hash",
        ),
        (
            rewrite(
                lambda tensors, metadata: tensors.update(float16=tensors["float16"].view(2, 1))
            ),
            "does not match its hash",
        ),
        (
            rewrite(
                lambda tensors, metadata: metadata.update(
                    state=metadata["state"].replace('"epoch": 3', '"epoch": 4')
                )
            ),
            "does not match its hash",
        ),
        (rewrite(lambda tensors, metadata: metadata.pop("sha256")), "lacks 'sha256'"),
        (rewrite(lambda tensors, metadata: metadata.clear()), "lacks 'state'"),
        (lambda folder: (folder / FILE).write_text("hello, this is not a safetensors file"), ""),
        (
            lambda folder: (folder / FILE).write_bytes(
                b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00."
            ),
            "",
        ),
    ],
)
def test_a_state_that_was_altered_is_refused(
    edit: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
    edit(tmp_path)
    assert_refused(tmp_path, why)


@pytest.mark.parametrize(
    "other", [{"device": "cuda"}, {"precision": "bfloat16"}, {"threads": 2}, {"more": 1}]
)
def test_a_state_from_another_device_or_precision_is_refused(
    other: dict[str, Any], tmp_path: Path
) -> None:
    save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
    assert_refused(tmp_path, "another device or precision", COMPUTE | other)


def test_a_refused_state_does_not_hinder_the_next(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / FILE).write_text("broken")
        assert_refused(tmp_path, "")
        save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
        assert load_resume(tmp_path, COMPUTE)[1] == PROGRESS
        (tmp_path / FILE).unlink()


def test_a_state_is_no_pickle(tmp_path: Path) -> None:
    save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
    content = (tmp_path / FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header.keys() == {*TENSORS, "__metadata__"}
    assert_same(load_file(tmp_path / FILE), TENSORS)


def test_a_write_that_fails_leaves_the_state_before_it(tmp_path: Path) -> None:
    save_resume(tmp_path, TENSORS, PROGRESS, COMPUTE)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises((TypeError, ValueError)):
        save_resume(tmp_path, TENSORS, Progress(), {"device": torch.device("cpu")})
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    (tmp_path / "file").write_text("")
    with pytest.raises(KaizenError, match="cannot write"):
        save_tensors(tmp_path / "file" / FILE, TENSORS)
