#!/bin/sh
# One message in Anthropic's format, whole and as its events, with curl alone; any model of the gateway answers.
set -eu

ask() {
  curl --silent --show-error --fail-with-body --no-buffer "${GATEWAY_URL:-http://127.0.0.1:8080}/v1/messages" \
    --header "x-api-key: ${GATEWAY_KEY:-any-key}" \
    --header "anthropic-version: 2023-06-01" \
    --header "Content-Type: application/json" \
    --data '{
      "model": "'"${MODEL:-demo/echo}"'",
      "max_tokens": 100,
      "messages": [{"role": "user", "content": "Hello, gateway!"}],
      "stream": '"$1"'
    }'
}

ask false
echo
ask true
