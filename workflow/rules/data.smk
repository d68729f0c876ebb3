# Raw data -> task shards -> replay shards.
from kaizen.params.registry import REPLAY_POLICIES

REPLAY_LOOKS_AT_FEATURES = REPLAY_POLICIES[kz.params.replay.policy].features


use rule node as shards with:
    """Split the dataset into one train and one test shard per task."""
    output:
        pattern("shards"),
    log:
        "logs/shards/{key}.log",
    threads: kz.params.runtime.ingest_workers
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,


use rule node as replay with:
    """Choose the replay rows of one step from the earlier tasks' shards, by the steps' features if need be."""
    output:
        pattern("replay"),
    log:
        "logs/replay/{key}.log",
    # A replay shard that needs steps' features stands between them: in one job with others it would wait for itself.
    group:
        None if REPLAY_LOOKS_AT_FEATURES else "replays"
    threads: kz.params.train.threads if REPLAY_LOOKS_AT_FEATURES else 1
    resources:
        mem_mb=kz.memory_mb if REPLAY_LOOKS_AT_FEATURES else 1000,
        runtime=lambda wildcards, attempt: (60 if REPLAY_LOOKS_AT_FEATURES else 30)
        * attempt,
        gpu=int(REPLAY_LOOKS_AT_FEATURES and kz.params.train.device == "cuda"),
        one_at_a_time=1,
