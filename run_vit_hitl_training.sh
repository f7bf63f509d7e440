#!/usr/bin/env bash
# Step 2: human-in-the-loop fine-tuning from edits. Settings of Step 1 that are not set here are FIRST_STEP's.
# Change a setting here, paste a block above the last lines, or set it for one run from outside (docs/step2.md).
set -euo pipefail
cd "$(dirname "$0")"

PROJECTS_NAME="${PROJECTS_NAME:-Sigmoid_ViT_Training}"  # wandb project
FIRST_STEP="${FIRST_STEP:-result/cifar10_FT}"  # the run of Step 1 to start from
RUNS_NAME="${RUNS_NAME:-}"                     # empty: the name of FIRST_STEP with _HITL behind it
EDITS="${EDITS:-edits.sqlite}"                 # edit store, from the editor or src/import_edits.py
HITL="${HITL:-full}"                           # full, or paper (mse, last layer, class token, no injection)
EPOCHS="${EPOCHS:-}"                           # empty: as many as FIRST_STEP
LR="${LR:-}"                                   # empty: as FIRST_STEP
ATTN_LAMBDA="${ATTN_LAMBDA:-}"                 # weight of the alignment loss; 0 leaves injection alone
ATTN_LOSS="${ATTN_LOSS:-}"                     # bce, mse, kl
EDIT_LAYERS="${EDIT_LAYERS:-}"                 # all, last, or indices: 8,9,10
EDIT_QUERIES="${EDIT_QUERIES:-}"               # all, cls
INJECT="${INJECT:-}"                           # auto, true, false
UNEDITED="${UNEDITED:-}"                       # drop images without an edit, or train on them
PROPAGATE="${PROPAGATE:-}"                     # true: predict edits for unedited images; stored: as reviewed
DOUBTED="${DOUBTED:-}"                         # edits that PROPAGATE=true doubts: train on them, or drop
CONTROL="${CONTROL:-}"                         # none, no_edits, shuffled, random_cells, mean_map
WANDB="${WANDB:-false}"                        # true also logs to wandb
WANDB_KEY="${WANDB_KEY:-}"                     # reaches wandb through the environment only
IS_DATAPARALLEL="${IS_DATAPARALLEL:-false}"    # true: one process per GPU
SEED="${SEED:-}"                               # empty: as FIRST_STEP
SEEDS="${SEEDS:-}"                             # 0,1,2: a run per seed and one table; {seed} in FIRST_STEP and EDITS
RESUME="${RESUME:-false}"                      # true continues the run from its last epoch

RUNS_NAME="${RUNS_NAME:-$(basename "$FIRST_STEP")_HITL}"
source scripts/launch.sh
launch_training "$@"
