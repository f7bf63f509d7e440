#!/usr/bin/env bash
# Step 1: plain fine-tuning. Change a setting here, or for one run from outside:
#   DATASET=cub200 DATASET_PATH=data/CUB_200_2010 BATCH_SIZE=128 LR=1e-5 EPOCHS=500 bash run_vit_training.sh
set -euo pipefail
cd "$(dirname "$0")"

PROJECTS_NAME="${PROJECTS_NAME:-Sigmoid_ViT_Training}"  # wandb project
DATASET="${DATASET:-cifar10}"                  # cifar10, cub200, cub200_2011, folder, digits_decoy
RUNS_NAME="${RUNS_NAME:-${DATASET}_FT}"        # the run's folder is result/$RUNS_NAME
DATASET_PATH="${DATASET_PATH:-data}"           # folder of the data set
WANDB="${WANDB:-false}"                        # true also logs to wandb (WANDB_MODE=offline: without network)
WANDB_KEY="${WANDB_KEY:-}"                     # reaches wandb through the environment only
IS_DATAPARALLEL="${IS_DATAPARALLEL:-false}"    # true: one process per GPU (2 on a machine without)
if [ "$DATASET" != digits_decoy ]; then        # the embedded data set brings its own small model and schedule
    BATCH_SIZE="${BATCH_SIZE:-512}"            # images per update, over all processes
    MODEL_NAME="${MODEL_NAME:-vit_small_patch16_224}"
    IMG_SIZE="${IMG_SIZE:-224}"
    LR="${LR:-1e-4}"
    OPT="${OPT:-adam}"                         # adam, adamw, sgd
    EPOCHS="${EPOCHS:-10}"
fi
PRETRAINED="${PRETRAINED:-}"                   # weights file; empty: models/$MODEL_NAME.pt; false: random weights
DATA_KWARGS="${DATA_KWARGS:-}"                 # options of the data set: "decoys=false" for digits_decoy
MODEL_KWARGS="${MODEL_KWARGS:-}"               # timm.create_model arguments: "patch_size=4 depth=6"
SEED="${SEED:-0}"
SEEDS="${SEEDS:-}"                             # 0,1,2: a run per seed, RUNS_NAME_s0, ..., and one table
RESUME="${RESUME:-false}"                      # true continues the run from its last epoch

unset FIRST_STEP EDITS HITL PROPAGATE CONTROL   # Step 2 is run_vit_hitl_training.sh
source scripts/launch.sh
launch_training "$@"
