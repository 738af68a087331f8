#!/usr/bin/env bash
# A SLURM cluster of two nodes on this host does an experiment through profiles/slurm, while a node
# is lost, a job is killed, a job runs out of memory, and files are truncated. What depends on none
# of these goes on; a second call does the rest; and every number is that of one machine, to the bit.
#
#     tests/slurm/cluster.sh [EXPERIMENT]         default: cnn2_mnist3s7_4pc, a small subset
#
# PYTHON (default .venv/bin/python) has the packages of req.txt and profiles/slurm/requirements.txt.
# Installs slurm-wlm and munge where that is allowed; where not, says SKIPPED and ends with 0.
# Everything is written below a temporary folder; only processes that were started here are ended.
set -euo pipefail
cd "$(dirname "$0")/../.."

experiment=${1:-cnn2_mnist3s7_4pc}
declare -A process_of
damaged='' truncated='' killed='' what_was_killed='' lost=''
slow=${SLOW:-1} # how often as long as on two free cores anything may take
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
work=$(mktemp -d -t tda-cluster.XXXXXX)
export TDA_CLUSTER=$work # in the environment of all that is started: how it is found again
export SLURM_CONF=$work/slurm.conf PYTHONPATH=$PWD PATH=$PATH:/usr/sbin

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

fail() {
    say "FAILED: $*"
    exit 1
}

skip() {
    echo "SKIPPED: $*"
    exit 0
}

ours() { # process ids of everything that was started from here
    local environment
    for environment in /proc/[0-9]*/environ; do
        if grep -qsz "^TDA_CLUSTER=$work\$" "$environment"; then
            environment=${environment#/proc/}
            echo "${environment%/environ}"
        fi
    done | grep -vx "$$" || true
}

watchers() { # of processes on standard input: the daemons that started them, one for a job's step
    { xargs -r ps -o ppid= -p | sort -u | xargs -r ps -o pid=,comm= -p || true; } |
        awk '$2 == "slurmstepd" {print $1}'
}

tear_down() {
    local status=$? process
    trap - EXIT
    scancel --quiet --full --signal=KILL --state=RUNNING 2>/dev/null || true
    for signal in TERM KILL; do
        for process in $(ours | watchers) $(ours); do
            kill -s "$signal" "$process" 2>/dev/null || true
        done
        sleep 1
    done
    if [ "$status" = 0 ]; then
        rm -rf "$work"
    else
        echo "what was written is kept: $work"
    fi
    exit "$status"
}

wait_for() { # SECONDS, WHAT, COMMAND...: until the command succeeds
    local until=$((SECONDS + slow * $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || fail "$what: not in time"
        sleep 0.5
    done
}

install() {
    "$python" -c 'import snakemake_executor_plugin_slurm' 2>/dev/null ||
        skip "$python lacks the packages of profiles/slurm/requirements.txt"
    if ! command -v slurmctld slurmd munged >/dev/null; then
        command -v apt-get >/dev/null || skip "SLURM is not installed, and there is no apt-get"
        [ "$(id -u)" = 0 ] || skip "SLURM is not installed, and only root may install it"
        say "installing slurm-wlm and munge"
        # RUNLEVEL: services of the packages are not started
        { apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
            --no-install-recommends slurm-wlm munge; } >"$work/apt.log" 2>&1 ||
            skip "SLURM cannot be installed: $(tail -n 1 "$work/apt.log")"
    fi
}

configure() {
    local host port
    host=$(hostname -s)
    port=$((20000 + $$ % 10000))
    mkdir -p "$work"/{state,spool.a,spool.b,munge,log,bin}
    chmod 755 "$work"
    head -c 128 /dev/urandom >"$work/munge/key"
    chmod 600 "$work/munge/key"
    cat >"$SLURM_CONF" <<CONF
ClusterName=tda
SlurmctldHost=$host(localhost)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool.%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SlurmdTimeout=10
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=a NodeHostname=$host NodeAddr=localhost Port=$((port + 1)) CPUs=1 RealMemory=5000
NodeName=b NodeHostname=$host NodeAddr=localhost Port=$((port + 2)) CPUs=1 RealMemory=5000
PartitionName=main Nodes=a,b Default=YES MaxTime=INFINITE State=UP
CONF
    # The executor takes all SLURM_* from the environment of srun.
    printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$work/bin/srun"
    chmod +x "$work/bin/srun"
    export PATH=$work/bin:$PATH
}

start() { # NAME, COMMAND...: in the background
    local name=$1
    shift
    "$@" >>"$work/log/$name" 2>&1 &
    process_of[$name]=$!
    disown $!
}

node_is() { [ "$(sinfo -h -n "$1" -o %t | tr -d '*~#')" = "$2" ]; }

start_cluster() {
    local own=(--socket="$work/munge/socket" --key-file="$work/munge/key" --pid-file="$work/munge/pid"
        --seed-file="$work/munge/seed" --log-file="$work/munge/log")
    start munged munged --foreground "${own[@]}"
    wait_for 20 "munged" test -S "$work/munge/socket"
    start slurmctld slurmctld -D
    start slurmd_a slurmd -D -N a
    start slurmd_b slurmd -D -N b
    wait_for 60 "node a" node_is a idle
    wait_for 60 "node b" node_is b idle
}

data() { # ROOT: what the experiment reads, where it does not come with the project
    local subset
    subset=$(sed -nE 's/.*_mnist3s([0-9]+)_([0-9]+)pc.*/\1 \2/p' <<<"$experiment")
    [ -z "$subset" ] || TDA_ROOT=$1 "$python" data/prepare.py --task mnist3 --source data/mnist3 \
        --new_subset "${subset% *}" --num_per_class "${subset#* }" --num_test_per_class 10
}

on_cluster() { # FLAGS...: the experiment through the profile; polls more often than it says
    TDA_ROOT=$work/many "$python" -m snakemake --profile profiles/slurm --latency-wait 20 \
        --slurm-init-seconds-before-status-checks 5 --slurm-logdir "$work/log/jobs" "$@" \
        --config split=2 "experiment=$experiment" -- "$experiment"
}

have() { # NUMBER, FOLDER: as many files of runs
    [ "$(find "$work/many/results/$experiment/$2" -maxdepth 1 -name '[!.]*.nc' 2>/dev/null | wc -l)" -ge "$1" ]
}

missing() { # FOLDER: runs that have no file
    local run
    while read -r run; do
        [ -e "$work/many/results/$experiment/$1/$run.nc" ] || printf '%s ' "$run"
    done <seeds.txt
}

running() { # NODE, WORD: a job there whose comment, which names rule and wildcards, has the word
    squeue -h -t R -w "$1" -o '%i %k' | awk -v word="$2" 'index($2, word) {print $1; exit}'
}

damage_a_run() { # the last checkpoint of the first run that is trained
    [ -z "$damaged" ] && have 1 predictions || return 0
    truncated=$(basename "$(find "$work/many/results/$experiment/predictions" -maxdepth 1 -name '[!.]*.nc' | head -n 1)" .nc)
    damaged=$(find "$work/many/models" -path "*/$truncated/*" -name '*.safetensors' | sort | tail -n 1)
    truncate --size=1000 "$damaged"
}

kill_a_share() { # the first share of leave-one-out that runs on node a
    [ -z "$killed" ] || return 0
    killed=$(running a _share_)
    [ -n "$killed" ] || return 0
    what_was_killed=$(squeue -h -j "$killed" -o %k)
    scancel --full --signal=KILL "$killed"
}

damaged_and_killed() { # whichever comes first: neither waits for the other
    damage_a_run
    kill_a_share
    [ -n "$damaged" ] && [ -n "$killed" ]
}

of_job() { # ID: its processes
    local process
    for process in $(ours); do
        ! grep -qsz "^SLURM_JOB_ID=$1\$" "/proc/$process/environ" || echo "$process"
    done
}

works_on_b() { # sets lost to a job that runs there
    lost=$(squeue -h -t R -w b -o %i)
    [ -n "$lost" ] && [ "$(of_job "$lost" | wc -l)" -ge 4 ]
}

lose_node_b() { # JOB: as when its power is cut
    local processes watching
    mapfile -t processes < <(of_job "$1")
    mapfile -t watching < <(printf '%s\n' "${processes[@]}" | watchers)
    # Who watches goes first, and tells nobody; some of the rest may just have ended.
    kill -KILL "${process_of[slurmd_b]}" "${watching[@]}" "${processes[@]}" 2>/dev/null || true
}

requeued() { grep -q "requeue job JobId=$1 due to failure of node b" "$work/log/slurmctld"; }

more_is_done() { [ "$(grep -c '_job_complete.*done' "$work/log/slurmctld")" -gt "$(($1 + 2))" ]; }

with_faults() {
    local starved done_before
    starved=$(sed -n 3p seeds.txt)
    on_cluster --retries 0 --set-resources \
        "ats_$experiment:mem_mb=(250 if wildcards.run == '$starved' else 4000)" \
        >"$work/log/first" 2>&1 &
    local snakemake=$!
    say "faults: the job of ats, run $starved, gets 250 MB"

    wait_for 900 "a trained run, and a share of leave-one-out on node a" damaged_and_killed
    say "faults: checkpoint of run $truncated truncated"
    say "faults: killed job $killed, $what_was_killed"

    wait_for 300 "work on node b" works_on_b
    lose_node_b "$lost"
    say "faults: node b lost, with job $lost"
    wait_for 120 "node b down" node_is b down
    wait_for 60 "job $lost queued again" requeued "$lost"
    done_before=$(grep -c '_job_complete.*done' "$work/log/slurmctld")
    wait_for 300 "work without node b" more_is_done "$done_before"
    start slurmd_b slurmd -D -N b
    say "node b is back; node a went on without it"

    if wait "$snakemake"; then
        fail "no job failed"
    fi
    say "the first call ended; without scores: ats $(missing scores/ats)- influence" \
        "$(missing scores/influence)- loo $(missing scores/loo)"
    [ "$(missing scores/ats | tr ' ' '\n' | sort | xargs)" = "$(printf '%s\n' "$starved" "$truncated" | sort -u | xargs)" ] ||
        fail "other runs of ats than $starved, out of memory, and $truncated, truncated"
    [ "$(missing scores/influence)" = "$truncated " ] || fail "other runs of influence than $truncated"
    [ "$(missing scores/loo | wc -w)" -le 2 ] || fail "more runs of loo than the killed job's"
}

on_one_machine() {
    TDA_ROOT=$work/one "$python" -m snakemake --cores all \
        --config "experiment=$experiment" -- "$experiment" >"$work/log/one" 2>&1 ||
        fail "one machine: $(tail -n 3 "$work/log/one")"
}

trap tear_down EXIT
trap 'exit 130' INT TERM
install
configure
start_cluster
say "two nodes; $(slurmctld -V)"
data "$work/many" >/dev/null
data "$work/one" >/dev/null

with_faults
grep -rqs "exceeded memory limit" "$work/log/jobs" || fail "no job ran out of memory"
grep -rhs "is damaged" "$work/log/jobs" | grep -F "$damaged" >/dev/null ||
    fail "no log names the damaged file"
rm "$damaged" # as the message says
say "the truncated file is deleted, as the job's message says; second call"
on_cluster >"$work/log/second" 2>&1 || fail "second call: $(tail -n 5 "$work/log/second")"
on_cluster >"$work/log/third" 2>&1 || fail "third call: $(tail -n 5 "$work/log/third")"
grep -q "Nothing to be done" "$work/log/third" || fail "the third call had something to do"

jobs=$(cat "$work/log/first" "$work/log/second" | grep -c "has been submitted with SLURM jobid")
on_a=$(grep -c "Allocate JobId=.* NodeList=a" "$work/log/slurmctld")
on_b=$(grep -c "Allocate JobId=.* NodeList=b" "$work/log/slurmctld")
say "$jobs jobs; started $on_a times on node a, $on_b times on node b"
if [ "$jobs" -lt 40 ] || [ "$on_a" -lt 10 ] || [ "$on_b" -lt 10 ]; then
    fail "too few jobs"
fi

say "the same on one machine"
on_one_machine
"$python" tests/slurm/compare.py "$work/one" "$work/many" "$experiment" || fail "results differ"
say "passed"
