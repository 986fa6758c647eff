// A tool-calling round trip with the npm package openai: one line of JSON for each of MODELS.
import OpenAI from "openai";

const { GATEWAY_URL, GATEWAY_KEY, MODELS, MARK } = process.env;
const client = new OpenAI({ baseURL: `${GATEWAY_URL}/v1`, apiKey: GATEWAY_KEY, maxRetries: 0 });

for (const model of MODELS.split(",")) {
  let city;
  const runner = client.chat.completions.runTools({
    model,
    stream: true,
    messages: [{ role: "user", content: `${MARK}-asked: how is the weather?` }],
    tools: [
      {
        type: "function",
        function: {
          name: "weather",
          description: "Return the weather of a city.",
          parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
          parse: JSON.parse,
          function: (given) => {
            city = given.city;
            return `${MARK}-sunny in ${city}`;
          },
        },
      },
    ],
  });
  const answer = await runner.finalContent();
  console.log(JSON.stringify({ model, city, answer }));
}
