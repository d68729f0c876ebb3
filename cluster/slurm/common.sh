# Sourced by start.sh and stop.sh: where things are, and how to talk about processes.
SLURM_FOLDER=${KAIZEN_SLURM:-/tmp/kaizen-slurm}
ETC_FILES="slurm.conf gres.conf cgroup.conf slurmdbd.conf"
# "cannot be done here", as opposed to "failed": not root, or no Debian packages.
EXIT_CANNOT=75

say() { printf 'slurm: %s\n' "$*"; }

fail() {
    printf 'slurm: %s\n' "$*" >&2
    exit 1
}

cannot() {
    printf 'slurm: cannot run here: %s\n' "$*" >&2
    exit $EXIT_CANNOT
}

# alive PROGRAM PIDFILE: whether the process that the file names still is that program.
alive() {
    local pid
    pid=$(cat "$2" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}

# wait_for SECONDS COMMAND…: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

# stop_process PROGRAM PIDFILE: TERM, then KILL after 15 seconds; only if it still is that program.
stop_process() {
    local pid
    if alive "$1" "$2"; then
        pid=$(cat "$2")
        kill "$pid"
        wait_for 15 sh -c "! kill -0 $pid" || kill -KILL "$pid"
        say "stopped $1 ($pid)"
    fi
    rm -f "$2"
}
