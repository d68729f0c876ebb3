#!/usr/bin/env bash
# Stops what start.sh started, puts /etc/slurm back as it was, and removes the folder (KEEP=1 keeps it, for its logs).
set -euo pipefail
. "$(dirname "$0")/common.sh"
F=$SLURM_FOLDER
[ -d "$F/pid" ] || {
    say "nothing to stop in $F"
    exit 0
}

if alive slurmctld "$F/pid/slurmctld"; then
    scancel --user="$(id -un)" --full --signal=KILL || true
    scancel --user="$(id -un)" || true
    wait_for 20 sh -c '[ -z "$(squeue --noheader)" ]' || say "some jobs did not end"
fi
for pidfile in "$F"/pid/slurmd.*; do
    [ ! -e "$pidfile" ] || stop_process slurmd "$pidfile"
done
stop_process slurmctld "$F/pid/slurmctld"
stop_process slurmdbd "$F/pid/slurmdbd"
stop_process mariadbd "$F/pid/mariadbd"
stop_process munged "$F/pid/munged"
for name in $ETC_FILES; do
    [ "$(readlink "/etc/slurm/$name" 2>/dev/null)" != "$F/etc/$name" ] || rm -f "/etc/slurm/$name"
    [ ! -e "/etc/slurm/$name.before-kaizen" ] || mv "/etc/slurm/$name.before-kaizen" "/etc/slurm/$name"
done
[ "${KEEP:-0}" = 1 ] || rm -rf "$F"
