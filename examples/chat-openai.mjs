// The openai package for JavaScript: an answer and a stream.
//
//     npm install openai
//     GATEWAY_KEY=sk-gw-... node examples/chat-openai.mjs

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: (process.env.GATEWAY_URL ?? "http://127.0.0.1:8080") + "/v1",
  apiKey: process.env.GATEWAY_KEY ?? "any-key",
});
const model = process.env.MODEL ?? "demo/echo";

const answer = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Hello, gateway!" }],
});
console.log("answer:", answer.choices[0].message.content);

const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Hello, stream!" }],
  stream: true,
});
let text = "";
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
console.log("stream:", text);
