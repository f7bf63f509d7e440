#!/usr/bin/env bash
# Step 1: plain fine-tuning. Change a setting here, paste a block of settings above the last lines, or set it for
# one run from outside (docs/settings.md lists them all):
#   DATASET=cub200 DATASET_PATH=data/CUB_200_2010 BATCH_SIZE=128 LR=1e-5 EPOCHS=500 bash run_vit_training.sh
set -euo pipefail
cd "$(dirname "$0")"

PROJECTS_NAME="${PROJECTS_NAME:-Sigmoid_ViT_Training}"  # wandb project
RUNS_NAME="${RUNS_NAME:-}"                     # the run's folder is result/$RUNS_NAME; empty: <dataset>_FT
DATASET="${DATASET:-cifar10}"                  # cifar10, cub200, cub200_2011, folder, digits_decoy
DATASET_PATH="${DATASET_PATH:-data}"           # folder of the data set
WANDB="${WANDB:-false}"                        # true also logs to wandb (WANDB_MODE=offline: without network)
WANDB_KEY="${WANDB_KEY:-}"                     # reaches wandb through the environment only
IS_DATAPARALLEL="${IS_DATAPARALLEL:-false}"    # true: one process per GPU (2 on a machine without)

# empty: what the data set asks for (digits_decoy has a small model and schedule of its own), else what stands here
BATCH_SIZE="${BATCH_SIZE:-}"                   # 512 images per update, over all processes
MODEL_NAME="${MODEL_NAME:-}"                   # vit_small_patch16_224
MODEL_KWARGS="${MODEL_KWARGS:-}"               # timm.create_model arguments: "patch_size=4 depth=6"
IMG_SIZE="${IMG_SIZE:-}"                       # 224
LR="${LR:-}"                                   # 1e-4
OPT="${OPT:-}"                                 # adam; or adamw, sgd
EPOCHS="${EPOCHS:-}"                           # 10
PRETRAINED="${PRETRAINED:-}"                   # models/$MODEL_NAME.pt; a weights file, or false for random weights
DATA_KWARGS="${DATA_KWARGS:-}"                 # options of the data set: "decoys=false" for digits_decoy
SEED="${SEED:-}"                               # 0
SEEDS="${SEEDS:-}"                             # 0,1,2: a run per seed, RUNS_NAME_s0, ..., and one table
RESUME="${RESUME:-false}"                      # true continues the run from its last epoch

RUNS_NAME="${RUNS_NAME:-${DATASET}_FT}"
unset FIRST_STEP EDITS HITL PROPAGATE CONTROL   # Step 2 is run_vit_hitl_training.sh
source scripts/launch.sh
launch_training "$@"
