# Raw data -> task shards -> replay shards.


rule shards:
    """Split the dataset into one train and one test shard per task."""
    input:
        kz.inputs,
    output:
        kz.pattern("shards"),
    log:
        "logs/shards/{key}.log",
    benchmark:
        "logs/shards/{key}.tsv"
    conda:
        "../envs/kaizen.yaml"
    threads: kz.params.runtime.ingest_workers
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        spec=kz.spec,
        title=kz.title,
    message:
        "{params.title}"
    shell:
        JOB_COMMAND


rule replay:
    """Choose the replay rows of one step from the earlier tasks' shards."""
    input:
        kz.inputs,
    output:
        kz.pattern("replay"),
    log:
        "logs/replay/{key}.log",
    benchmark:
        "logs/replay/{key}.tsv"
    conda:
        "../envs/kaizen.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        spec=kz.spec,
        title=kz.title,
    message:
        "{params.title}"
    shell:
        JOB_COMMAND
