#!/bin/sh
# Three pictures over one raw WebSocket, in JSON. Needs websocat and jq.
#
# make serve
# sh examples/websocat.sh
set -eu

SERVER=${GLIMPSE_URL:-http://localhost:8000}

# What this writes is sent, what it reads was received.
talk='
for seed in 0 1 2; do
  echo "{\"prompt\": \"a red balloon\", \"seed\": $seed}"
  read -r result
  printf "%s\n" "$result" | jq -r "\"\(.type): seed \(.seed), \(.image.url | length) characters\"" >&2
done
'
websocat --text --exit-on-eof --header="Authorization: Key ${FAL_KEY:-any}" "ws${SERVER#http}/ws" "sh-c:$talk"
