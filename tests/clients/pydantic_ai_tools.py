"""A tool-calling round trip with pydantic-ai: one line of JSON for each of MODELS."""

import json
import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=f"{os.environ['GATEWAY_URL']}/v1", api_key=os.environ["GATEWAY_KEY"])

cities = []


def weather(city: str) -> str:
    """Return the weather of a city."""
    cities.append(city)
    return f"{os.environ['MARK']}-sunny in {city}"


for model in os.environ["MODELS"].split(","):
    agent = Agent(OpenAIChatModel(model, provider=provider), tools=[weather])
    ran = agent.run_sync(f"{os.environ['MARK']}-asked: how is the weather?")
    print(json.dumps({"model": model, "city": cities[-1], "answer": ran.output}))
