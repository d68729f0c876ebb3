# Accuracy matrices: one job per run, one per set of specialists.


rule evaluation:
    """Accuracy on every task after every step of a run: classifier, linear probes, kNN; the classifier's confusion."""
    input:
        kz.inputs,
    output:
        kz.pattern("evaluation"),
    log:
        "logs/evaluation/{key}.log",
    benchmark:
        "logs/evaluation/{key}.tsv"
    group:
        "evaluations"
    conda:
        "../envs/kaizen.yaml"
    threads: kz.params.train.threads
    resources:
        mem_mb=kz.params.runtime.step_mem_mb,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=int(kz.params.train.device == "cuda"),
        one_at_a_time=1,
    params:
        store=kz.store_root,
        spec=kz.spec,
        title=kz.title,
    message:
        "{params.title}"
    shell:
        JOB_COMMAND


rule reference:
    """The specialists' accuracies and a random network's, which forward transfer compares with."""
    input:
        kz.inputs,
    output:
        kz.pattern("reference"),
    log:
        "logs/reference/{key}.log",
    benchmark:
        "logs/reference/{key}.tsv"
    group:
        "evaluations"
    conda:
        "../envs/kaizen.yaml"
    threads: kz.params.train.threads
    resources:
        mem_mb=kz.params.runtime.step_mem_mb,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=int(kz.params.train.device == "cuda"),
        one_at_a_time=1,
    params:
        store=kz.store_root,
        spec=kz.spec,
        title=kz.title,
    message:
        "{params.title}"
    shell:
        JOB_COMMAND
