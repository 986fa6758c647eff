/* Server-sent events of a fetch: `for await (const data of gatewayEvents(response.body))`, decoded text of each. */
(() => {
  "use strict";

  async function* events(body) {
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = done ? "" : lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(line[5] === " " ? 6 : 5);
      }
      if (done) return;
    }
  }

  window.gatewayEvents = events;
})();
