"""The openai SDK: an answer, a stream, the models and the gateway's own headers.

pip install openai
GATEWAY_KEY=sk-gw-... python examples/chat.py
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "any-key"),
)
model = os.environ.get("MODEL", "demo/echo")

answer = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": "Hello, gateway!"}]
)
print("answer:", answer.choices[0].message.content)

stream = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": "Hello, stream!"}], stream=True
)
print("stream:", "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))

print("models:", ", ".join(listed.id for listed in client.models.list()))

raw = client.chat.completions.with_raw_response.create(
    model=model, messages=[{"role": "user", "content": "Who answered?"}]
)
print("provider:", raw.headers["x-gateway-provider"], "request:", raw.headers["x-request-id"])
