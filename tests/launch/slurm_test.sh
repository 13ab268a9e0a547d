#!/usr/bin/env bash
# Real Slurm on this machine: one controller, four nodes that are processes (no munge, no cgroups). A run on two nodes is
# signalled, checkpoints, is queued again and resumes; one on four nodes trains; an array of four shares one sweep.
# Needs root and Debian's slurm-wlm; exit code 77 (skipped) without them.
set -uo pipefail
[ "$(id -u)" = 0 ] && command -v slurmctld slurmd srun >/dev/null || { echo "skipped: needs root and slurm-wlm"; exit 77; }
carillon=$(readlink -f "${CARILLON:?the built program}")
T=$(mktemp -d)
pids=""
cleanup() {
  scancel -u root 2>/dev/null; sleep 3  # before the daemons, or the step managers outlive them
  # shellcheck disable=SC2086
  kill $pids 2>/dev/null; wait 2>/dev/null
  rm -rf "$T"
}
trap cleanup EXIT
fail() { echo "FAILED: $*"; for f in "$T"/*.log "$T"/*.out; do echo "== $f"; tail -n 25 "$f"; done; exit 1; }
mkdir -p "$T"/state "$T"/tmp.n{1,2,3,4}
cat >"$T/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmctldPort=16817
SlurmctldPidFile=$T/slurmctld.pid
SlurmdPidFile=$T/slurmd.%n.pid
SlurmctldLogFile=$T/slurmctld.log
SlurmdLogFile=$T/slurmd.%n.log
StateSaveLocation=$T/state
SlurmdSpoolDir=$T/spool.%n
TmpFS=$T/tmp.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=1
SlurmdParameters=config_overrides
MpiDefault=pmix
ReturnToService=2
KillWait=5
SwitchType=switch/none
NodeName=n[1-4] NodeHostname=n[1-4] NodeAddr=127.0.0.1 Port=[16821-16824] CPUs=1 Boards=1 SocketsPerBoard=1 CoresPerSocket=1 ThreadsPerCore=1 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$T/slurm.conf OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 CARILLON=$carillon
export OMPI_MCA_mpi_yield_when_idle=1  # four ranks on two cores
unset OMPI_MCA_pml HWLOC_PLUGINS_PATH  # here MPI starts as it does by itself
slurmctld -D -f "$T/slurm.conf" >"$T/ctld.out" 2>&1 </dev/null & pids=$!
for n in n1 n2 n3 n4; do slurmd -D -N $n -f "$T/slurm.conf" >"$T/$n.out" 2>&1 </dev/null & pids="$pids $!"; done
for _ in $(seq 240); do [ "$(sinfo -h -o '%D %t' 2>/dev/null)" = "4 idle" ] && break; sleep 0.5; done
[ "$(sinfo -h -o '%D %t')" = "4 idle" ] || fail "the nodes do not come up"
cd "$T"
"$carillon" posgen train.jsonl task=recursive length=32 count=64 seed=1 || fail posgen
cat >run.yaml <<YAML
model: {vocab_size: 22, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, num_attention_heads: 4,
        num_key_value_heads: 2, head_dim: 8, tie_word_embeddings: true, max_position_embeddings: 64, initializer_range: 0.1}
data: {train: [{path: $T/train.jsonl}], sequence_length: 33, packing: false}
train: {max_steps: 20000, micro_batch_size: 4, learning_rate: 3e-3, lr_scheduler: constant}
parallel: {context: 2}
runtime: {dtype: float64}
checkpoint: {every_steps: 100000}
output: $T/run
YAML
steps() { [ -f "$1/metrics.jsonl" ] && wc -l <"$1/metrics.jsonl" || echo 0; }
wait_for() { for _ in $(seq $((10 * $1))); do eval "$2" && return 0; sleep 0.1; done; return 1; }

echo "== a run on two nodes is signalled, queued again and resumes"
"$carillon" slurm run.yaml slurm.nodes=2 slurm.cpus_per_task=1 slurm.time=10m >train.sbatch || fail script
job=$(sbatch --parsable --output="$T/job-%j.log" train.sbatch) || fail sbatch
wait_for 120 '[ "$(steps run)" -ge 50 ]' || fail "no step within two minutes"
scancel --batch --signal=USR1 "$job"
wait_for 120 'ls run/checkpoints/step-* >/dev/null 2>&1' || fail "no checkpoint after the signal"
stopped=$(basename "$(ls -d run/checkpoints/step-* | tail -n 1)")
wait_for 120 'grep -q "resuming from .*$stopped" run/log.txt' || fail "not resumed"
grep -q "start 1," "job-$job.log" || fail "the job was not started again"
scancel --batch --signal=USR1 "$job"; sleep 3; scancel "$job"
wait_for 120 '[ -z "$(squeue -h)" ]' || fail "the job does not leave"

echo "== four nodes"
"$carillon" slurm run.yaml slurm.nodes=4 slurm.cpus_per_task=1 slurm.time=10m parallel.tensor=2 train.max_steps=30 output="$T/four" >four.sbatch
sbatch -W --output="$T/four-%j.log" four.sbatch >/dev/null || fail "four nodes"
[ "$(steps four)" = 30 ] || fail "$(steps four) steps on four nodes"

echo "== an array of four shares one sweep"
cat >sweep.yaml <<YAML
models: [$T/four]
lengths: [8, 12, 16, 20, 24, 28]
rope: {own: {}, yarn: {type: yarn, factor: 2}}
tasks: [{task: posgen, train_length: 16, count: 400}]
runtime: {dtype: float64}
output: $T/sweep
YAML
"$carillon" slurm sweep.yaml slurm.array=4 slurm.cpus_per_task=1 slurm.time=10m >array.sbatch || fail "array script"
sbatch -W --output="$T/array-%A_%a.log" array.sbatch >/dev/null || fail array
[ "$(wc -l <sweep/evals.jsonl)" = 12 ] || fail "$(wc -l <sweep/evals.jsonl) records of 12 points"
[ "$(grep -o '"point":"[0-9a-f]*"' sweep/evals.jsonl | sort -u | wc -l)" = 12 ] || fail "points done twice"
echo "passed"
