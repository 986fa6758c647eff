#!/bin/sh
# The simple chat: one message in, one answer out, by the default model. Without a key while the gateway
# listens on this machine alone (SIMPLE_CHAT); with one anywhere else.
set -eu

curl --silent --show-error --fail-with-body "${GATEWAY_URL:-http://127.0.0.1:8080}/api/chat" \
  --header "Authorization: Bearer ${GATEWAY_KEY:-any-key}" \
  --header "Content-Type: application/json" \
  --data '{"message": "Hello, gateway!"}'
echo

curl --silent --show-error --fail-with-body --no-buffer --get "${GATEWAY_URL:-http://127.0.0.1:8080}/api/chat/stream" \
  --header "Authorization: Bearer ${GATEWAY_KEY:-any-key}" \
  --data-urlencode "prompt=Hello, stream!"
