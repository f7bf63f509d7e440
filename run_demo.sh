#!/usr/bin/env bash
# Prepares .venv, then trains the network on the embedded digits and looks at where it looks. A few minutes.
# The digits carry a grey square whose shade tells the label in training and lies in the test: the network
# learns the square, as its attention shows.
set -euo pipefail
source "$(dirname "$0")/setup_env.sh"

RUN="${RUN:-demo}"
python local_model_test.py --random --model_name vit_tiny_patch16_224
if [ -e "result/$RUN/evaluation/metrics.json" ]; then
    echo "result/$RUN is there already; remove it, or set RUN to another name, to train again."
else
    DATASET=digits_decoy RUNS_NAME="$RUN" bash run_vit_training.sh
fi
for part in test_train_like test_clean test; do
    python src/evaluate.py --run "result/$RUN" --split "$part"
done
