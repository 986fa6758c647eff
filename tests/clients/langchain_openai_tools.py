"""A tool-calling round trip with langchain-openai: one line of JSON for each of MODELS."""

import json
import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"{os.environ['MARK']}-sunny in {city}"


for model in os.environ["MODELS"].split(","):
    llm = ChatOpenAI(
        model=model,
        base_url=f"{os.environ['GATEWAY_URL']}/v1",
        api_key=os.environ["GATEWAY_KEY"],
        max_retries=0,
    ).bind_tools([weather])
    messages = [HumanMessage(f"{os.environ['MARK']}-asked: how is the weather?")]
    asked = llm.invoke(messages)
    (call,) = asked.tool_calls
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    streamed = None
    for piece in llm.stream([*messages, asked, result]):
        streamed = piece if streamed is None else streamed + piece
    print(json.dumps({"model": model, "city": call["args"]["city"], "answer": streamed.text}))
