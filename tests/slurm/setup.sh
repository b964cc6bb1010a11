#!/bin/sh
# A one-node SLURM cluster on this machine, for the slow tests of hydra/launcher=submitit_slurm. Debian, as root:
#   sh tests/slurm/setup.sh          install, configure, start; does nothing where a cluster answers already
#   sh tests/slurm/setup.sh stop     stop the daemons that it started
set -eu

CONF=/etc/slurm/slurm.conf
STATE=/var/spool/slurm-jepa

stop() {
    for name in slurmctld slurmd; do
        [ -f "$STATE/$name.pid" ] && kill "$(cat "$STATE/$name.pid")" 2>/dev/null || true
    done
}

start_munge() {
    [ -f /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none; }
    chown munge:munge /etc/munge/munge.key && chmod 400 /etc/munge/munge.key
    mkdir -p /run/munge && chown munge:munge /run/munge
    munge -n >/dev/null 2>&1 || su -s /bin/sh munge -c /usr/sbin/munged
}

configure() {
    host=$(hostname -s)
    cores=$(nproc)
    memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
    mkdir -p /etc/slurm "$STATE/ctld" "$STATE/d"
    cat > "$CONF" <<END
ClusterName=jepa
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/d
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=1
MinJobAge=60
KillWait=30
NodeName=$host CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
}

if [ "${1:-start}" = stop ]; then
    stop
    exit 0
fi
# submitit asks sacct how a job ended; without an accounting database Debian's answers nothing.
[ -d "$STATE" ] && cp "$(dirname "$0")/sacct" /usr/local/bin/sacct && chmod 755 /usr/local/bin/sacct
if command -v sinfo >/dev/null && timeout 10 sinfo -h -o %T 2>/dev/null | grep -Eq 'idle|mixed|alloc'; then
    exit 0
fi
if ! command -v slurmctld >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi
start_munge
mkdir -p "$STATE" && cp "$(dirname "$0")/sacct" /usr/local/bin/sacct && chmod 755 /usr/local/bin/sacct
[ -f "$CONF" ] && grep -q ClusterName=jepa "$CONF" || configure
slurmctld
slurmd
for _ in $(seq 60); do
    sinfo -h -o %T 2>/dev/null | grep -q idle && exit 0
    sleep 1
done
echo "the node did not become idle; see $STATE/*.log" >&2
exit 1
