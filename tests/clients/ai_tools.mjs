// A tool-calling round trip with the npm package ai: one line of JSON for each of MODELS.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const { GATEWAY_URL, GATEWAY_KEY, MODELS, MARK } = process.env;
const gateway = createOpenAICompatible({ name: "gateway", baseURL: `${GATEWAY_URL}/v1`, apiKey: GATEWAY_KEY });

for (const model of MODELS.split(",")) {
  let city;
  const tools = {
    weather: tool({
      description: "Return the weather of a city.",
      inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
      execute: async (given) => {
        city = given.city;
        return `${MARK}-sunny in ${city}`;
      },
    }),
  };
  const asking = { model: gateway(model), maxRetries: 0, tools, stopWhen: stepCountIs(3), prompt: `${MARK}-asked: how is the weather?` };
  const { text } = await generateText(asking);
  const stream = streamText({ ...asking, onError: ({ error }) => { throw error; } });
  if ((await stream.text) !== text) throw new Error("the stream says something else than the answer");
  console.log(JSON.stringify({ model, city, answer: text }));
}
