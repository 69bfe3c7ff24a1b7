#!/bin/bash
# Train on all GPUs of one machine:
#   examples/launch/single_node.sh pretrain CONFIG --out RUN
# PROCESSES: how many, one a GPU [all GPUs]; on CPUs give it, and --device cpu among the arguments.
set -eu
processes=${PROCESSES:-$(nvidia-smi --list-gpus | wc -l)}
exec python -m torch.distributed.run --standalone --nproc_per_node "$processes" -m signet_train "$@"
