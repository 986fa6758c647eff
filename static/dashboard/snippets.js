/* A request as a program that runs as it stands, with the key in GATEWAY_KEY. */
(() => {
  "use strict";

  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

  function curl(base, body) {
    return [
      `curl -N ${quoted(`${base}/v1/chat/completions`)} \\`,
      '  -H "Authorization: Bearer $GATEWAY_KEY" \\',
      '  -H "Content-Type: application/json" \\',
      `  -d ${quoted(JSON.stringify(body, null, 2))}`,
    ].join("\n");
  }

  /* Texts and numbers in lists and objects are the same in JSON and Python. */
  function python(base, body) {
    const { stream, stream_options: _, ...rest } = body;
    const named = Object.entries(rest).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`);
    return [
      "import os",
      "",
      "from openai import OpenAI",
      "",
      `client = OpenAI(base_url=${JSON.stringify(`${base}/v1`)}, api_key=os.environ["GATEWAY_KEY"])`,
      "stream = client.chat.completions.create(",
      ...named,
      "    stream=True,",
      ")",
      "for chunk in stream:",
      "    if chunk.choices:",
      '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
      "print()",
    ].join("\n");
  }

  function javascript(base, body) {
    return [
      "// Save as chat.mjs; needs no package.",
      `const response = await fetch(${JSON.stringify(`${base}/v1/chat/completions`)}, {`,
      '  method: "POST",',
      "  headers: {",
      "    Authorization: `Bearer ${process.env.GATEWAY_KEY}`,",
      '    "Content-Type": "application/json",',
      "  },",
      `  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),`,
      "});",
      "if (!response.ok) throw new Error(await response.text());",
      'let rest = "";',
      "for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {",
      '  const lines = (rest + bytes).split("\\n");',
      "  rest = lines.pop();",
      "  for (const line of lines) {",
      '    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;',
      '    process.stdout.write(JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? "");',
      "  }",
      "}",
      "console.log();",
    ].join("\n");
  }

  window.gatewaySnippets = { curl, python, javascript };
})();
