"""The anthropic SDK: a message, a stream, and how many tokens a prompt has, whichever vendor answers.

pip install anthropic
GATEWAY_KEY=sk-gw-... python examples/messages.py
"""

import os

from anthropic import Anthropic

client = Anthropic(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080"),  # without /v1: the SDK adds it
    api_key=os.environ.get("GATEWAY_KEY", "any-key"),
)
model = os.environ.get("MODEL", "demo/echo")

message = client.messages.create(
    model=model, max_tokens=100, messages=[{"role": "user", "content": "Hello, gateway!"}]
)
print("answer:", "".join(block.text for block in message.content if block.type == "text"))

with client.messages.stream(
    model=model, max_tokens=100, messages=[{"role": "user", "content": "Hello, stream!"}]
) as stream:
    print("stream:", "".join(stream.text_stream))

counted = client.messages.with_raw_response.count_tokens(
    model=model, messages=[{"role": "user", "content": "How long is this?"}]
)
guessed = counted.headers.get("x-gateway-estimated") == "true"
print("tokens:", counted.parse().input_tokens, "(estimated)" if guessed else "(counted)")
print("provider:", counted.headers["x-gateway-provider"], "request:", counted.headers["request-id"])
