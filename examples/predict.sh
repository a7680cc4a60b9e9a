#!/usr/bin/env bash
# One prediction with curl: the picture that the server answers with is saved as overlay.png.
#
#   SAM3_WEIGHTS=weights/demo script/serve         in one terminal
#   examples/predict.sh                            in another
#   examples/predict.sh photo.jpg "person" http://127.0.0.1:5000   (no quotes inside the prompt)
set -euo pipefail
image=${1:-$(dirname "${BASH_SOURCE[0]}")/shapes.png}
prompt=${2:-red circle}
server=${3:-http://127.0.0.1:5000}

# The picture travels as a data: URL, through a pipe because it is too long for an argument.
{
  printf '{"input": {"return_zip": false, "prompt": "%s", "image": "data:;base64,' "$prompt"
  base64 <"$image" | tr -d '\n'
  printf '"}}'
} |
  curl --silent --show-error --header 'Content-Type: application/json' --data-binary @- \
    "$server/predictions" |
  python3 -c '
import base64, json, sys
answer = json.load(sys.stdin)
if answer.get("status") != "succeeded":
    sys.exit(f"failed: {answer}")
sys.stdout.buffer.write(base64.b64decode(answer["output"].partition(",")[2]))
' >overlay.png
echo overlay.png
