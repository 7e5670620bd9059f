#!/bin/bash
# Trains one run of a prepared row on all GPUs of several nodes. In the repository, its environment in .venv:
#   sbatch --nodes=2 experiments/slurm/train_on_nodes.sh ROW SEED
#SBATCH --job-name=poselift --nodes=2 --ntasks-per-node=1
#SBATCH --gpus-per-node=4 --cpus-per-task=32 --time=04:00:00
#SBATCH --requeue --open-mode=append --signal=B:USR1@60
row=${1:?the name of a row}
seed=${2:?the seed of a run}
source .venv/bin/activate
source experiments/slurm/requeue.sh
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # restarted ranks must not find the addresses of the dead
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a node
run_or_requeue USR1 srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  bash -c 'source experiments/slurm/requeue.sh; run_on_node "$@"' node \
  torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$SLURM_GPUS_ON_NODE" --max-restarts=3 \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:$port" \
  -m pipeline train "data/prepared/$row" "data/checkpoints/$row/run$seed" --seed "$seed"
