#!/bin/sh
# The device check on a machine with a GPU and without a network: docs/device.md says what it needs.
#   COMFYUI_PATH=/path/to/ComfyUI [PYTHON=/path/to/python] sh devtools/device_check.sh [FILE] [arguments of bench device]
# Exit status: 0 all is right, 1 something is not (FILE tells what), 2 the machine lacks something (said below).
set -u
cd "$(dirname "$0")/.." || exit 2
file=${1:-${OUT:-out}/device.json}
[ $# -gt 0 ] && shift
case $file in /*) ;; *) file=$PWD/$file ;; esac
mkdir -p "$(dirname "$file")" || exit 2

if [ -z "${COMFYUI_PATH:-}" ] || [ ! -f "$COMFYUI_PATH/main.py" ]; then
    echo "COMFYUI_PATH must name a folder of ComfyUI 0.3.75 or later; it is '${COMFYUI_PATH:-}'." >&2
    exit 2
fi
found=
for python in "${PYTHON:-}" "$COMFYUI_PATH/venv/bin/python" "$COMFYUI_PATH/../venv/bin/python" python3 python; do
    [ -n "$python" ] || continue
    if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        found=$python
        break
    fi
done
if [ -z "$found" ]; then
    echo "No Python here has a torch that sees a CUDA device. Set PYTHON to the one that runs ComfyUI." >&2
    exit 2
fi
missing=$("$found" - <<'PYTHON'
import importlib.util

modules = "aiohttp einops numpy PIL psutil safetensors scipy torch torchsde tqdm transformers yaml".split()
print(" ".join(module for module in modules if importlib.util.find_spec(module) is None))
PYTHON
)
if [ -n "$missing" ]; then
    echo "$found lacks what ComfyUI imports: $missing. Install its requirements.txt into that Python." >&2
    exit 2
fi
echo "ComfyUI in $COMFYUI_PATH, run by $found; results go to $file"
exec env COMFYUI_PATH="$COMFYUI_PATH" "$found" dev.py bench device --json "$file" "$@"
