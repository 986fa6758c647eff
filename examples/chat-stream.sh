#!/bin/sh
# The same answer as server-sent events; --no-buffer prints each piece as it comes.
set -eu

curl --silent --show-error --fail-with-body --no-buffer "${GATEWAY_URL:-http://127.0.0.1:8080}/v1/chat/completions" \
  --header "Authorization: Bearer ${GATEWAY_KEY:-any-key}" \
  --header "Content-Type: application/json" \
  --data '{
    "model": "'"${MODEL:-demo/lorem}"'",
    "messages": [{"role": "user", "content": "12 words, please"}],
    "stream": true,
    "stream_options": {"include_usage": true}
  }'
