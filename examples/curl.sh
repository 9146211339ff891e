#!/bin/sh
# A picture with previews, as server-sent events; and one picture in a file. Needs curl and jq.
#
# make serve
# sh examples/curl.sh
set -eu

SERVER=${GLIMPSE_URL:-http://localhost:8000}

curl --silent --show-error --fail --no-buffer "$SERVER/stream" \
  --header "Authorization: Key ${FAL_KEY:-any}" \
  --json '{"prompt": "a red lighthouse by the sea at sunset", "seed": 7}' |
  sed -u -n 's/^data: //p' |
  jq --unbuffered -r '"\(.type) \(.step) of \(.steps)"'

curl --silent --show-error --fail "$SERVER/" \
  --header "Authorization: Key ${FAL_KEY:-any}" \
  --json '{"prompt": "a red lighthouse by the sea at sunset", "seed": 7}' |
  jq -r '.image.url' | cut -d, -f2 | base64 --decode > lighthouse.jpg
