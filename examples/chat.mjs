// Node 18 or newer, nothing to install: fetch, an answer and a stream.
//
//     GATEWAY_KEY=sk-gw-... node examples/chat.mjs

const url = (process.env.GATEWAY_URL ?? "http://127.0.0.1:8080") + "/v1/chat/completions";
const model = process.env.MODEL ?? "demo/echo";

async function ask(content, options = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: {
      "Authorization": `Bearer ${process.env.GATEWAY_KEY ?? "any-key"}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({ model, messages: [{ role: "user", content }], ...options }),
  });
  if (!response.ok) throw new Error(`${response.status}: ${(await response.json()).error.message}`);
  return response;
}

const answer = await (await ask("Hello, gateway!")).json();
console.log("answer:", answer.choices[0].message.content);

// An event may be cut anywhere between two reads: keep what follows the last blank line.
let text = "";
let rest = "";
const decoder = new TextDecoder();
reading: for await (const bytes of (await ask("Hello, stream!", { stream: true })).body) {
  rest += decoder.decode(bytes, { stream: true });
  const events = rest.split("\n\n");
  rest = events.pop();
  for (const event of events) {
    if (!event.startsWith("data: ")) continue; // a keep-alive comment
    const data = event.slice("data: ".length);
    if (data === "[DONE]") break reading;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    text += chunk.choices[0]?.delta.content ?? "";
  }
}
console.log("stream:", text);
