# Tables and figures, and the published tree.


use rule node as summary with:
    """Metrics, tables and figures of the whole grid."""
    output:
        pattern("summary"),
    log:
        "logs/summary/{key}.log",
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,


rule publish:
    """Link the plan's files to data/ and results/."""
    input:
        kz.targets(),
    output:
        local(marker("{mark}")),
    log:
        "logs/publish/{mark}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        values=values(kz, Path.cwd()),
    message:
        "publish data/ and results/"
    shell:
        "exec python -m kaizen publish --quiet --marker {output:q} --values {params.values:q} 2>&1 | tee {log:q}"
