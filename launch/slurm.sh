#!/usr/bin/env bash
# A job over SLURM nodes, one process per node: sbatch launch/slurm.sh configs/NAME.py [--field value ...]
# Processes find each other from SLURM's variables. 120 s before its time is up the job is sent SIGTERM,
# saves, and queues itself again; after preemption or the failure of a node SLURM does that. It resumes
# by itself. Any other failure, and scancel, end it for good.
#SBATCH --job-name=tttlrm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: sbatch launch/slurm.sh configs/NAME.py [--field value ...]" >&2; exit 2; }
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}
export TTTLRM_UNFINISHED_EXIT=75
# srun ends with the largest code of all processes. If one ends, the others get 60 s to end by
# themselves: at the first code other than 0 they may still be saving.
code=0
srun --kill-on-bad-exit=0 --wait=60 .venv/bin/python train.py "$@" || code=$?
if [ "$code" -eq "$TTTLRM_UNFINISHED_EXIT" ]; then
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
