#!/bin/bash
# Trains the runs of a prepared row, a job for each seed. In the repository, its environment in .venv:
#   sbatch --array=0-4 experiments/slurm/train_seeds.sh ROW
#SBATCH --job-name=poselift --array=0-4
#SBATCH --gpus=1 --cpus-per-task=8 --time=04:00:00
#SBATCH --requeue --open-mode=append --signal=B:USR1@60
row=${1:?the name of a row}
seed=$SLURM_ARRAY_TASK_ID
source .venv/bin/activate
source experiments/slurm/requeue.sh
run_or_requeue TERM python -m pipeline train "data/prepared/$row" "data/checkpoints/$row/run$seed" --seed "$seed"
