#!/usr/bin/env bash
# A job over SLURM nodes, one process per node: sbatch launch/slurm.sh configs/NAME.py [--field value ...]
# Processes find each other from SLURM's variables. Preempted or out of time, the job is sent SIGTERM
# 120 s ahead, saves, and is queued again; it resumes by itself.
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
# If one process ends, srun ends the others instead of letting them wait.
exec srun --kill-on-bad-exit=1 --wait=60 .venv/bin/python train.py "$@"
