#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
# Dissect the network of a run on all images of its validation set, on every device of a cluster:
#     sbatch docs/dissect_cluster.sh RUN_FOLDER [overrides]
# Without SLURM the same runs on this machine, on PROCESSES processes (2 unless set).
set -euo pipefail
run=$1
shift
if [ -n "${SLURM_JOB_ID:-}" ]; then
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    start=(srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_PER_NODE##*:}"
        --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500")
else
    start=(torchrun --standalone --nproc-per-node "${PROCESSES:-2}")
fi
exec "${start[@]}" analyze.py checkpoint="$run" plugin=dissection plugin.dissection.images=null "$@"
