"""An extraction with instructor, which makes the model call a tool: one line of JSON for each of MODELS."""

import json
import os

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather of a city."""

    city: str


client = instructor.from_openai(
    OpenAI(base_url=f"{os.environ['GATEWAY_URL']}/v1", api_key=os.environ["GATEWAY_KEY"], max_retries=0),
    mode=instructor.Mode.TOOLS,
)

for model in os.environ["MODELS"].split(","):
    found, answer = client.chat.completions.create_with_completion(
        model=model,
        response_model=Weather,
        max_retries=0,
        messages=[{"role": "user", "content": f"{os.environ['MARK']}-asked: how is the weather?"}],
    )
    print(json.dumps({"model": model, "city": found.city, "answer": answer.choices[0].finish_reason}))
