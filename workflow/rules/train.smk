# One training step: from the prior step's checkpoint, a task shard and a replay shard to the next checkpoint.


rule step:
    """Train one task's step of a run, or a specialist; interrupted, it resumes where its state was saved."""
    input:
        kz.inputs,
    output:
        kz.pattern("step"),
    log:
        "logs/step/{key}.log",
    benchmark:
        "logs/step/{key}.tsv"
    conda:
        "../envs/kaizen.yaml"
    threads: kz.params.train.threads
    resources:
        mem_mb=kz.params.runtime.step_mem_mb,
        runtime=lambda wildcards, attempt: kz.params.runtime.step_minutes * attempt,
        gpu=int(kz.params.train.device == "cuda"),
    params:
        store=str(kz.store.root),
        spec=kz.spec,
        title=kz.title,
    message:
        "{params.title}"
    shell:
        JOB_COMMAND
