# What the rules of all nodes have in common. Each of them names its files and what its jobs ask of the machine.


rule node:
    """Make one node of the plan; the base of the other rules, which itself makes none."""
    input:
        kz.inputs,
    output:
        pattern("node"),
    log:
        "logs/node/{key}.log",
    conda:
        ENVIRONMENT
    params:
        store=store_root(kz),
        spec=kz.spec,
        title=kz.title,
        quiet=QUIET,
    message:
        "{params.title}"
    shell:
        JOB_COMMAND
