#!/usr/bin/env bash
# One prediction with curl: the picture that the server answers with is saved as overlay.png.
#
#   SAM3_WEIGHTS=demo script/serve         in one terminal
#   examples/predict.sh                            in another
#   examples/predict.sh photo.jpg "person" http://127.0.0.1:5000   (no quotes inside the prompt)
set -euo pipefail
image=${1:-$(dirname "${BASH_SOURCE[0]}")/shapes.png}
prompt=${2:-red circle}
server=${3:-http://127.0.0.1:5000}

[ -f "$image" ] || { echo "there is no file $image" >&2; exit 1; }
part=$(mktemp)
trap 'rm -f "$part"' EXIT

# The image travels as a data: URL, through a pipe because it is too long for an argument.
{
  printf '{"input": {"return_zip": false, "prompt": "%s", "image": "data:;base64,' "$prompt"
  base64 <"$image" | tr -d '\n'
  printf '"}}'
} |
  curl --silent --show-error --header 'Content-Type: application/json' --data-binary @- \
    "$server/predictions" >"$part" ||
  { echo "$server cannot be reached; start one: SAM3_WEIGHTS=demo script/serve" >&2; exit 1; }
python3 - "$part" overlay.png <<'EOF'
import base64, json, sys

with open(sys.argv[1]) as file:
    answer = json.load(file)
if answer.get("status") != "succeeded":
    sys.exit(f"failed: {answer}")
with open(sys.argv[2], "wb") as file:
    file.write(base64.b64decode(answer["output"].partition(",")[2]))
EOF
echo overlay.png
