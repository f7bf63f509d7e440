# Sourced by the training scripts: turns their settings into the command line of src/train.py.
# A setting left empty takes src/train.py's default (python3 src/train.py --help).

launch_training() {
    local args=() name value
    for name in PROJECTS_NAME RUNS_NAME DATASET DATASET_PATH BATCH_SIZE MODEL_NAME IMG_SIZE LR OPT EPOCHS WANDB \
        PRETRAINED SEED RESUME FIRST_STEP EDITS HITL ATTN_LAMBDA ATTN_LOSS EDIT_LAYERS EDIT_QUERIES INJECT UNEDITED \
        CONTROL PROPAGATE DOUBTED SEEDS; do
        value="${!name:-}"
        [ -z "$value" ] || args+=("--$(printf %s "$name" | tr '[:upper:]' '[:lower:]')" "$value")
    done
    # shellcheck disable=SC2206  # several words on purpose
    [ -z "${MODEL_KWARGS:-}" ] || args+=(--model_kwargs $MODEL_KWARGS)
    # shellcheck disable=SC2206
    [ -z "${DATA_KWARGS:-}" ] || args+=(--data_kwargs $DATA_KWARGS)
    [ -z "${WANDB_KEY:-}" ] || export WANDB_API_KEY="$WANDB_KEY"
    unset WANDB_KEY

    # the active Python if it has the packages, else the one that run_demo.sh prepared
    local python=python3 have='import importlib.util as u, sys; sys.exit(not (u.find_spec("torch") and u.find_spec("timm")))'
    python3 -c "$have" 2>/dev/null || [ ! -x .venv/bin/python ] || python=.venv/bin/python
    case "$IS_DATAPARALLEL" in
        false) exec "$python" src/train.py "${args[@]}" "$@" ;;
        true) ;;
        *) echo "error: IS_DATAPARALLEL is '$IS_DATAPARALLEL'; it must be true or false" >&2; exit 1 ;;
    esac
    # LAUNCH_ARGS adds accelerate's own options, such as those for several machines (see the README)
    local processes
    processes=$("$python" -c 'import torch; print(torch.cuda.device_count() or 2)')
    # shellcheck disable=SC2086
    exec "$python" -m accelerate.commands.launch --multi_gpu --num_machines 1 --num_processes "$processes" \
        --mixed_precision no --dynamo_backend no ${LAUNCH_ARGS:-} src/train.py "${args[@]}" "$@"
}
