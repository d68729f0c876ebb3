"""Which replay policy and size can be: a check of `kaizen.params.checks`."""

from __future__ import annotations

from collections.abc import Iterator

from kaizen.params import VARIANTS, Params
from kaizen.params.messages import unknown
from kaizen.params.registry import REPLAY_POLICIES


def replay_policy_and_size(params: Params) -> Iterator[str]:
    """The policy is registered, and its size is given once, in one unit, where it is used."""
    policy, sizes = params.replay.policy, params.replay.sizes()
    known = {**VARIANTS, **params.variants}
    uses_replay = any(known[name].replay for name in params.grid.variants if name in known)
    if policy not in REPLAY_POLICIES:
        yield f"replay.policy: {unknown(policy, 'a replay policy', REPLAY_POLICIES)}"
    elif not REPLAY_POLICIES[policy].images:
        if sizes:
            yield (
                f"replay.{next(iter(sizes))}: the policy {policy} keeps no images and has no size; "
                "set proportion, per_class and memory to null (train.replay_batch_size says how "
                "many pseudo-features a batch has)"
            )
        if params.reference_compat.teacher_train_mode:
            yield (
                f"reference_compat.teacher_train_mode: the policy {policy} draws features of the "
                "prior encoder as it is in evaluation; set it to false"
            )
    elif len(sizes) > 1:
        yield (
            f"replay: {' and '.join(sizes)} are given, of which only one can be; set the others to "
            "null"
        )
    elif uses_replay and not any(sizes.values()):
        yield (
            "replay: a variant of the grid uses replay; give replay.proportion, as in [0.1], or "
            "replay.per_class or replay.memory, as in [20]"
        )
