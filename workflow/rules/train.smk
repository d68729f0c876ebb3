# One training step: from the prior step's checkpoint, a task shard and a replay shard to the next checkpoint.

# The job starts the processes that share a step by torchrun: so many on each host. On several hosts it does so by
# srun, for which the SLURM executor runs it once, in an allocation of one task a host (that is what `mpi` means to it).
PROCESSES = kz.params.runtime.processes
HOSTS = kz.params.runtime.hosts
ALLOCATION = (
    dict(nodes=HOSTS, tasks=HOSTS, tasks_per_gpu=0, mpi="srun") if HOSTS > 1 else {}
)


use rule node as step with:
    """Train one task's step of a run, or a specialist; interrupted, it resumes where its state was saved."""
    output:
        pattern("step"),
    log:
        "logs/step/{key}.log",
    threads: PROCESSES * kz.params.train.threads
    resources:
        **ALLOCATION,
        mem_mb=kz.memory_mb,
        runtime=lambda wildcards, attempt: kz.params.runtime.step_minutes * attempt,
        gpu=PROCESSES * HOSTS * (kz.params.train.device == "cuda"),
