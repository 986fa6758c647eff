#!/bin/sh
# One answer as JSON, with curl alone.
# GATEWAY_KEY is the demo key that the first start prints, or any text where ALLOW_ANONYMOUS=true.
set -eu

curl --silent --show-error --fail-with-body "${GATEWAY_URL:-http://127.0.0.1:8080}/v1/chat/completions" \
  --header "Authorization: Bearer ${GATEWAY_KEY:-any-key}" \
  --header "Content-Type: application/json" \
  --data '{
    "model": "'"${MODEL:-demo/echo}"'",
    "messages": [{"role": "user", "content": "Hello, gateway!"}]
  }'
echo
