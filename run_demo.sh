#!/usr/bin/env bash
# Prepares .venv, then trains a network on the embedded digits and shows where it looks. A few minutes.
# The digits carry a grey square whose shade tells the label in training and lies in the test.
set -euo pipefail
source "$(dirname "$0")/setup_env.sh"

export DATASET=digits_decoy RUNS_NAME="${RUNS_NAME:-demo}"
run="result/$RUNS_NAME"
if [ -e "$run/config.json" ]; then
    echo "$run is there already; going on with it (remove it to start anew)."
    export RESUME=true
fi
bash run_vit_training.sh
for part in test_train_like test_clean test; do
    python src/evaluate.py --run "$run" --split "$part"
done
echo
echo "With squares as in training the network is right (test_train_like). With the squares drawn at random (test)"
echo "or left out (test_clean) it is wrong nearly always: it has learned the square, not the digit."
echo "Where it looks: $run/evaluation/errors.png"
