# Sourced by the training scripts. Every setting that has a value - in the script, exported, or in front of the
# command - becomes an option of src/train.py; one that is empty or not set takes its default (docs/settings.md).

setting_names() {  # as src/sigmoid_vit/runs/settings.py has them; RESULT_DIR is left out, as the notebook's word
    sed -nE 's/^    ([a-z_]+): .* = option\(.*/\1/p' src/sigmoid_vit/runs/settings.py | grep -v '^result_dir$'
}

warn_of_misspelt_settings() {  # a variable that is close to a setting's name and is none
    python3 -c '
import difflib, sys
names = [name.upper() for name in sys.argv[1:]]
for given in sorted(set(sys.stdin.read().split()) - {*names}):
    if close := difflib.get_close_matches(given, names, n=1, cutoff=0.85):
        print(f"warning: {given} is no setting and has no effect; did you mean {close[0]}?", file=sys.stderr)
' $(setting_names) result_dir seeds is_dataparallel launch_args wandb_key <<<"$(compgen -A variable)"
}

of_caller() {  # a relative path as the folder has it that the script was called from, if it is there
    case "$1" in
        /* | data) printf %s "$1" ;;  # data: the default
        *) if [ -e "${OLDPWD:-.}/$1" ]; then printf %s "${OLDPWD:-.}/$1"; else printf %s "$1"; fi ;;
    esac
}

launch_training() {
    local args=() name variable
    warn_of_misspelt_settings
    for name in $(setting_names) seeds; do
        variable=$(printf %s "$name" | tr '[:lower:]' '[:upper:]')
        case "${!variable:+set}$name" in
            setmodel_kwargs | setdata_kwargs) # shellcheck disable=SC2206  # several words on purpose
                args+=("--$name" ${!variable}) ;;
            setdataset_path | setpretrained | setfirst_step | setedits) args+=("--$name" "$(of_caller "${!variable}")") ;;
            set*) args+=("--$name" "${!variable}") ;;
        esac
    done
    [ -z "${WANDB_KEY:-}" ] || export WANDB_API_KEY="$WANDB_KEY"
    unset WANDB_KEY

    # the active Python if it has the packages, else the one that run_demo.sh prepared
    local python=python3 have='import importlib.util as u, sys; sys.exit(not (u.find_spec("torch") and u.find_spec("timm")))'
    python3 -c "$have" 2>/dev/null || [ ! -x .venv/bin/python ] || python=.venv/bin/python
    case "$(printf %s "${IS_DATAPARALLEL:-false}" | tr '[:upper:]' '[:lower:]')" in
        false) exec "$python" src/train.py "${args[@]}" "$@" ;;
        true) ;;
        *) echo "error: IS_DATAPARALLEL is '$IS_DATAPARALLEL'; it must be true or false" >&2; exit 1 ;;
    esac
    # LAUNCH_ARGS adds accelerate's own options, such as those for several machines (docs/step1.md)
    local processes
    processes=$("$python" -c 'import torch; print(torch.cuda.device_count() or 2)')
    # shellcheck disable=SC2086
    exec "$python" scripts/launch_processes.py --multi_gpu --num_machines 1 --num_processes "$processes" \
        --mixed_precision no --dynamo_backend no ${LAUNCH_ARGS:-} src/train.py "${args[@]}" "$@"
}
