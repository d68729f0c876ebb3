#!/bin/sh
# submit.sh RULE THREADS MEMORY_MB MINUTES GPUS JOBSCRIPT: submits the script to PBS and prints the job's id.
# PBS sends SIGTERM at the end of the walltime and SIGKILL kill_delay seconds later (ask for 60): the step saves.
# Grid Engine: qsub -terse -V -cwd -notify -N "kaizen-$1" -pe smp "$2" -l "h_vmem=$3M,s_rt=0:$4:0" …
set -eu
mkdir -p logs/cluster
gpus=""
[ "$5" = 0 ] || gpus=":ngpus=$5"
exec qsub -V -j oe -o logs/cluster -N "kaizen-$1" -l "select=1:ncpus=$2:mem=$3mb$gpus" \
    -l "walltime=$(printf '%d:%02d:00' $(($4 / 60)) $(($4 % 60)))" "$6"
