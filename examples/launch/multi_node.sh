#!/bin/bash
# Train on several machines; on each of them, with the same arguments:
#   HEAD=10.0.0.1 NODES=2 NODE=0 examples/launch/multi_node.sh pretrain CONFIG --out RUN     # NODE=1 on the second
# HEAD: the first machine's address; PORT: a free one there [29500]. NODES: how many machines, NODE: which this is, from 0.
# PROCESSES: of this machine, one a GPU [all GPUs]; on CPUs give it, and --device cpu among the arguments.
# Code, configuration, data and RUN lie under the same paths on all of them; the first process alone writes RUN.
set -eu
processes=${PROCESSES:-$(nvidia-smi --list-gpus | wc -l)}
exec python -m torch.distributed.run --nnodes "$NODES" --node_rank "$NODE" --nproc_per_node "$processes" \
    --master_addr "$HEAD" --master_port "${PORT:-29500}" -m signet_train "$@"
