"""The folders that others' programs read: Hugging Face's layout of a model, timm's, Triton's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from kaizen.data.names import CHECKPOINT, CONFIG_FILE, HEADS_FILE
from kaizen.errors import KaizenError
from kaizen.inference.exported import INPUT, OUTPUTS
from kaizen.inference.facts import ModelFacts
from kaizen.inference.model import Model
from kaizen.models.backbone import TimmBackbone
from kaizen.models.config import preprocessing_path
from kaizen.params.registry import TIMM

CARD = "README.md"
_MOST_BATCH = 64


def hf_files(model: Model, facts: ModelFacts, folder: Path) -> dict[str, bytes]:
    """The files of a model's folder that make it a repository of Hugging Face, which `kaizen.load`
    reads as well.
    """
    preprocessing = preprocessing_path(folder)
    names = [CHECKPOINT, CONFIG_FILE, preprocessing.name]
    if model.head is not None:
        names.append(HEADS_FILE)
    files = {name: (folder / name).read_bytes() for name in names}
    card = folder / CARD
    files[CARD] = card.read_bytes() if card.is_file() else _card(facts).encode()
    return files


def _card(facts: ModelFacts) -> str:
    """A card of a model that has none; its head is what Hugging Face reads."""
    classes = ", ".join(json.dumps(name, ensure_ascii=False) for name in facts.classes[:100])
    return "\n".join(
        [
            "---",
            "library_name: kaizen-ssl",
            "pipeline_tag: image-classification",
            'tags: ["continual-learning", "image-classification", "self-supervised-learning"]',
            "---",
            "",
            "# Model card",
            "",
            f"An image classifier of {len(facts.classes)} classes, `{facts.backbone}`, which took "
            f"{len(facts.lineage)} steps before its own.",
            "",
            f"- **Classes**: {classes}",
            f"- **Key**: `{facts.key}`",
            "",
            'Load it by `kaizen.load(".")` (`pip install kaizen-ssl`).',
            "",
        ]
    )


def triton_files(data: bytes, facts: ModelFacts, name: str) -> dict[str, bytes]:
    """The files of a model in a repository of NVIDIA's Triton, whose folder is called ``name``."""
    if any("\n" in one for one in facts.classes):
        raise KaizenError(
            "--format triton: a class has a line break in its name, and Triton's labels are lines; "
            "export it by --format onnx"
        )
    sizes = {OUTPUTS[0]: len(facts.classes), OUTPUTS[1]: facts.feature_dim}
    outputs = ",\n".join(
        f'  {{ name: "{output}" data_type: TYPE_FP32 dims: [ {size} ]'
        + (' label_filename: "labels.txt" }' if output == OUTPUTS[0] else " }")
        for output, size in sizes.items()
    )
    config = (
        f"name: {json.dumps(name)}\n"
        'backend: "onnxruntime"\n'
        f"max_batch_size: {_MOST_BATCH}\n"
        "input [\n"
        f'  {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: [ {facts.image.channels}, -1, -1 ] }}\n'
        "]\n"
        f"output [\n{outputs}\n]\n"
        "dynamic_batching { }\n"
    )
    labels = "".join(f"{one}\n" for one in facts.classes)
    return {"config.pbtxt": config.encode(), "labels.txt": labels.encode(), "1/model.onnx": data}


def timm_files(model: Model, facts: ModelFacts) -> dict[str, bytes]:
    """A folder that `timm.create_model("local-dir:…")` reads: the encoder under timm's names, and
    the classifier where it is one linear layer.

    Raises KaizenError where timm has no such network.
    """
    network = model.config.network
    built_in = network.backbone in ("resnet18", "resnet50")
    if not (network.backbone.startswith(TIMM) or (built_in and network.stem == "imagenet")):
        stem = " with the stem cifar" if built_in else ""
        raise KaizenError(
            f"--format timm: timm has no equal of {network.backbone}{stem}; export it by --format "
            "hf, onnx or torch"
        )
    encoder: Any = model.encoder
    tensors = {name: value.cpu() for name, value in encoder.network.state_dict().items()}
    linear = _linear(model)
    name = network.backbone.removeprefix(TIMM)
    layer = _layer_of(encoder, name)
    count = 0
    if linear is not None and layer is not None:
        count = len(facts.classes)
        tensors |= {f"{layer}.weight": linear[0], f"{layer}.bias": linear[1]}
    image = facts.image
    sides = [image.channels, image.size, image.size]
    config: dict[str, Any] = {
        "architecture": name,
        "num_classes": count,
        "num_features": facts.feature_dim,
        "label_names": facts.classes if count else [],
        "model_args": {"in_chans": image.channels, **_sized(encoder, image.size)},
        "pretrained_cfg": {
            "input_size": sides,
            "fixed_input_size": bool(_sized(encoder, image.size)),
            "interpolation": "bicubic",
            "crop_pct": facts.preprocessing.test_crop,
            "crop_mode": "center",
            "mean": list(image.mean) * (3 // image.channels),
            "std": list(image.std) * (3 // image.channels),
            "num_classes": count,
            "classifier": layer or "fc",
            "tag": facts.key,
        },
    }
    written = {key: value.contiguous().clone() for key, value in tensors.items()}
    return {
        "model.safetensors": safetensors.torch.save(written),
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
    }


def _linear(model: Model) -> tuple[Tensor, Tensor] | None:
    """The head as one linear layer of float32: weight [K, F] and bias [K]; None where it is more
    than that.
    """
    if model.head is not None:
        places = [known.label for known in model.config.classes]
        if model.head.projection is not None or set(places) - set(model.head.labels):
            return None
        rows = [model.head.labels.index(label) for label in places]
        return model.head.weight[rows].float(), model.head.bias[rows].float()
    last = model.classifier[-1]
    if len(model.classifier) != 1 or not isinstance(last, nn.Linear):
        return None
    seen = [known.logit for known in model.config.classes]
    return last.weight.detach()[seen], last.bias.detach()[seen]


def _layer_of(encoder: nn.Module, name: str) -> str | None:
    """What timm calls the layer that classifies; None where it is not one behind the features."""
    if not isinstance(encoder, TimmBackbone):
        return "fc"
    import timm

    layer = timm.get_pretrained_cfg(name).classifier
    return layer if isinstance(layer, str) else None


def _sized(encoder: nn.Module, size: int) -> dict[str, int]:
    """The argument that tells a network of fixed size its images' side."""
    if not isinstance(encoder, TimmBackbone):
        return {}
    fixed = getattr(encoder.network, "pretrained_cfg", {}).get("fixed_input_size", False)
    return {"img_size": size} if fixed else {}
