#!/usr/bin/env bash
# A real SLURM on this one machine, for tests: Debian's packages, two nodes, accounting, fake GPUs, preemption.
#
#   cluster/slurm/start.sh        installs what is missing and starts what does not run; as often as one likes
#   cluster/slurm/stop.sh         stops what this started, puts /etc/slurm back and removes the folder
#
# Everything is in one folder, /tmp/kaizen-slurm unless KAIZEN_SLURM says otherwise; logs in its log/. Outside it there
# are only symbolic links in /etc/slurm (SLURM's clients inside a job look there and nowhere else).
# NODES, CPUS and GPUS change the size. Exit code 75: it cannot run here (not root, or packages cannot be had).
set -euo pipefail
. "$(dirname "$0")/common.sh"
NODES=${NODES:-2} CPUS=${CPUS:-4} GPUS=${GPUS:-2} MEMORY=${MEMORY:-8000}
HOST=$(hostname -s)
F=$SLURM_FOLDER

install_packages() {
    local wanted="munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins slurmdbd mariadb-server" missing="" policy=""
    command -v apt-get >/dev/null || cannot "it needs Debian's packages, and there is no apt-get"
    for package in $wanted; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing$missing (log: $F/log/apt.log)"
    # The packages' own services must not start.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    apt-get update -q >"$F/log/apt.log" 2>&1 || true
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >>"$F/log/apt.log" 2>&1; then
        [ -z "$policy" ] || rm -f "$policy"
        tail -n 3 "$F/log/apt.log" >&2
        cannot "Debian's packages could not be installed, see $F/log/apt.log"
    fi
    [ -z "$policy" ] || rm -f "$policy"
}

write_configuration() {
    local node gpu
    for gpu in $(seq 0 $((GPUS - 1))); do
        # A GPU is a character device to SLURM: this one is a second /dev/null.
        [ -c "$F/gpu/$gpu" ] || mknod "$F/gpu/$gpu" c 1 3
    done
    cat >"$F/etc/slurm.conf" <<CONF
ClusterName=kaizen
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits for cred_expire seconds (120 by default).
AuthInfo=socket=$F/munge/socket,cred_expire=15
CredType=cred/munge
SlurmctldPort=26817
SlurmctldPidFile=$F/pid/slurmctld
SlurmdPidFile=$F/pid/slurmd.%n
StateSaveLocation=$F/state
SlurmdSpoolDir=$F/spool/%n
SlurmctldLogFile=$F/log/slurmctld.log
SlurmdLogFile=$F/log/slurmd.%n.log
# One host, no systemd: no cgroups, so memory is counted but not enforced.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=1
# Jobs of the partition "high" take nodes from those of the others, which are put back into the queue.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
# Short, as this is a test bed: a dead node is noticed after SlurmdTimeout.
SlurmctldTimeout=30
SlurmdTimeout=15
KillWait=10
InactiveLimit=0
Waittime=0
BatchStartTimeout=30
ReturnToService=2
MinJobAge=300
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=26819
# Where accounting finds munge: AuthInfo does not hold for it.
AccountingStoragePass=$F/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits
AccountingStoreFlags=job_comment
CONF
    for node in $(seq "$NODES"); do
        echo "NodeName=node$node NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((26820 + node)) CPUs=$CPUS RealMemory=$MEMORY Gres=gpu:fake:$GPUS"
    done >>"$F/etc/slurm.conf"
    cat >>"$F/etc/slurm.conf" <<CONF
PartitionName=normal Nodes=ALL LLN=YES Default=YES MaxTime=1-0 DefaultTime=10 PriorityTier=1 GraceTime=10
PartitionName=scavenge Nodes=ALL MaxTime=1-0 DefaultTime=10 PriorityTier=1 GraceTime=0
PartitionName=high Nodes=ALL MaxTime=1-0 DefaultTime=10 PriorityTier=10 PreemptMode=OFF
CONF
    echo "NodeName=node[1-$NODES] Name=gpu Type=fake File=$F/gpu/[0-$((GPUS - 1))]" >"$F/etc/gres.conf"
    echo "CgroupAutomount=no" >"$F/etc/cgroup.conf"
    (
        umask 077
        cat >"$F/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$F/munge/socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=26819
SlurmUser=root
LogFile=$F/log/slurmdbd.log
PidFile=$F/pid/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=kaizen
StorageLoc=slurm_acct_db
CONF
    )
}

# Links in /etc/slurm; what was there is kept beside them until stop.sh.
link_configuration() {
    local name
    mkdir -p /etc/slurm
    for name in $ETC_FILES; do
        [ -L "/etc/slurm/$name" ] || [ ! -e "/etc/slurm/$name" ] || mv "/etc/slurm/$name" "/etc/slurm/$name.before-kaizen"
        ln -sfn "$F/etc/$name" "/etc/slurm/$name"
    done
}

start_munge() {
    [ -s "$F/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom >"$F/munge/key")
    alive munged "$F/pid/munged" || munged --force --socket="$F/munge/socket" --key-file="$F/munge/key" \
        --pid-file="$F/pid/munged" --log-file="$F/log/munged.log" --seed-file="$F/munge/seed" 2>/dev/null
    wait_for 10 munge --socket="$F/munge/socket" --no-input || fail "munged does not answer, see $F/log/munged.log"
}

start_accounting() {
    local sql="mariadb --no-defaults -u root -S $F/mysql/socket"
    if [ ! -d "$F/mysql/data/mysql" ]; then
        install -d -o mysql -g mysql "$F/mysql" "$F/mysql/data"
        mariadb-install-db --no-defaults --user=mysql --datadir="$F/mysql/data" --skip-test-db >"$F/log/mariadb.log" 2>&1 ||
            fail "the database could not be made, see $F/log/mariadb.log"
    fi
    alive mariadbd "$F/pid/mariadbd" || {
        setsid nohup mariadbd --no-defaults --user=mysql --datadir="$F/mysql/data" --socket="$F/mysql/socket" \
            --pid-file="$F/mysql/pid" --skip-networking --innodb-buffer-pool-size=64M \
            --innodb-lock-wait-timeout=900 >>"$F/log/mariadb.log" 2>&1 </dev/null &
        echo $! >"$F/pid/mariadbd"
    }
    wait_for 60 $sql -e 'select 1' || fail "mariadbd does not answer, see $F/log/mariadb.log"
    $sql -e "create database if not exists slurm_acct_db;
             create user if not exists slurm@localhost identified by 'kaizen';
             grant all on slurm_acct_db.* to slurm@localhost;"
    alive slurmdbd "$F/pid/slurmdbd" || MYSQL_UNIX_PORT="$F/mysql/socket" slurmdbd
    wait_for 60 sacctmgr -n list cluster || fail "slurmdbd does not answer, see $F/log/slurmdbd.log"
    sacctmgr -n list cluster format=cluster | grep -qw kaizen || sacctmgr -i add cluster kaizen >/dev/null
    sacctmgr -n list account format=account | grep -qw research || {
        sacctmgr -i add account research Cluster=kaizen Description=tests Organization=tests >/dev/null
        sacctmgr -i add user root Account=research DefaultAccount=research >/dev/null
    }
}

start_slurm() {
    local node
    alive slurmctld "$F/pid/slurmctld" || slurmctld
    wait_for 30 sh -c 'scontrol ping | grep -q "is UP"' || fail "slurmctld does not answer, see $F/log/slurmctld.log"
    for node in $(seq "$NODES"); do
        alive slurmd "$F/pid/slurmd.node$node" || slurmd -N "node$node"
    done
    wait_for 15 all_nodes_up || scontrol update nodename="node[1-$NODES]" state=resume 2>/dev/null || true
    wait_for 30 all_nodes_up || fail "the nodes are not ready, see $F/log/slurmd.*.log and: $(sinfo -h -N -p normal -o '%N %T %E')"
    srun --quiet --ntasks=1 --time=1 true || fail "a job of one command failed, see $F/log"
}

all_nodes_up() {
    [ "$(sinfo --noheader --Node --partition=normal --states=idle,alloc,mix --format=%N | sort -u | wc -l)" = "$NODES" ]
}

[ "$(id -u)" = 0 ] || cannot "it starts system daemons and must be root"
mkdir -p "$F"/{etc,log,pid,state,spool,gpu,munge,mysql}
for node in $(seq "$NODES"); do mkdir -p "$F/spool/node$node"; done
install_packages
if pgrep -x slurmctld >/dev/null && ! alive slurmctld "$F/pid/slurmctld"; then
    cannot "another slurmctld runs on this machine"
fi
# Running daemons keep the configuration they were started with.
alive slurmctld "$F/pid/slurmctld" || write_configuration
link_configuration
start_munge
start_accounting
start_slurm
say "$(slurmctld -V) is ready: $(sinfo --noheader --partition=normal --format='%D nodes, %c CPUs, %G each'), partitions normal, scavenge, high; logs in $F/log"
