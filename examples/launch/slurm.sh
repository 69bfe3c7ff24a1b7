#!/bin/bash
#SBATCH --job-name=signet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=48:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
# Train under SLURM, from a directory that all nodes see:
#   sbatch examples/launch/slurm.sh pretrain CONFIG --out RUN
# Five minutes before the time is up every process is asked to stop, and saves; handed in again, with --resume, it goes on.
set -eu
export HEAD NODES=$SLURM_NNODES PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
here=${SLURM_SUBMIT_DIR:-.}/examples/launch
srun --kill-on-bad-exit=1 bash -c 'NODE=$SLURM_NODEID exec "$0" "$@"' "$here/multi_node.sh" "$@"
