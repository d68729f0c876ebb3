#!/bin/sh
# cancel.sh JOB…: Snakemake was stopped.
exec qdel "$@"
