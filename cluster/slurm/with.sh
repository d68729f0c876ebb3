#!/usr/bin/env bash
# cluster/slurm/with.sh COMMAND…: run a command with SLURM running. One that ran before goes on running afterwards.
# Exit code 75: SLURM cannot run here.
set -uo pipefail
. "$(dirname "$0")/common.sh"
if ! alive slurmctld "$SLURM_FOLDER/pid/slurmctld"; then
    trap '"$(dirname "$0")/stop.sh"' EXIT
fi
"$(dirname "$0")/start.sh" || exit
"$@"
