# Analytic heads and accuracy matrices: one job per run, and one per set of specialists.


use rule node as head with:
    """Solve the analytic heads of a run's steps from statistics of their features; nothing is trained."""
    output:
        pattern("head"),
    log:
        "logs/head/{key}.log",
    # Statistics of pseudo-features stand between steps: in one job with others they would wait for themselves.
    group:
        "heads" if REPLAY_POLICIES[kz.params.replay.policy].images else None
    threads: kz.params.train.threads
    resources:
        mem_mb=kz.memory_mb,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=int(kz.params.train.device == "cuda"),
        one_at_a_time=1,


use rule node as evaluation with:
    """Accuracy on every task after every step of a run: classifier, linear probes, kNN; confusion, calibration, features."""
    output:
        pattern("evaluation"),
    log:
        "logs/evaluation/{key}.log",
    group:
        "evaluations"
    threads: kz.params.train.threads
    resources:
        mem_mb=kz.memory_mb,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=int(kz.params.train.device == "cuda"),
        one_at_a_time=1,


use rule evaluation as reference with:
    """The specialists' accuracies and a random network's, which forward transfer compares with."""
    output:
        pattern("reference"),
    log:
        "logs/reference/{key}.log",
