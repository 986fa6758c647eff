/* The playground: sends chats to the API from the browser, and tells what came back and what it cost.

   The key is in this tab's session storage and in the requests, nowhere else. */
(() => {
  "use strict";

  const settings = JSON.parse(document.getElementById("playground-settings").textContent);
  const at = (name) => document.getElementById(`play-${name}`);
  const SHOWN = /^(x-request-id|x-gateway-.*|x-ratelimit-.*|retry-after)$/;
  const LOOKS = 4;
  const LOOK_PAUSE_MS = 400;
  const COST_LOOKS = 20;
  const COST_PAUSE_MS = 700;
  let language = "curl";
  let stopping = null;

  const number = (value) => value.toLocaleString("en");
  const took = (ms) => (ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(0)} ms`);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  function kept() {
    try {
      return sessionStorage.getItem(settings.store) || "";
    } catch {
      return "";
    }
  }

  function keep(secret) {
    try {
      sessionStorage.setItem(settings.store, secret);
    } catch {
      /* The field has it for as long as the page is open. */
    }
  }

  function facts(list, pairs) {
    list.replaceChildren(
      ...pairs.flatMap(([name, value]) => {
        const term = document.createElement("dt");
        const text = document.createElement("dd");
        term.textContent = name;
        text.textContent = value;
        return [term, text];
      }),
    );
  }

  function call(path, options = {}) {
    const headers = { Authorization: `Bearer ${at("key").value.trim()}`, ...options.headers };
    return fetch(`${settings.calls}${path}`, { ...options, headers, credentials: "omit" });
  }

  /* What an answer that is no success says, for people. */
  async function problem(response) {
    const waits = response.headers.get("retry-after");
    const later = waits ? ` Try again in ${waits} s.` : "";
    try {
      const { error } = await response.json();
      return `${response.status} ${error.code || error.type}: ${error.message}${later}`;
    } catch {
      return `${response.status} ${response.statusText}: the answer is not one of the gateway's.${later}`;
    }
  }

  const unreachable = (error) => `The gateway at ${settings.calls} cannot be reached: ${error.message}`;

  function fail(text) {
    at("error").textContent = text;
    at("error").hidden = false;
  }

  function body() {
    const system = at("system").value.trim();
    const chat = {
      model: at("model").value,
      messages: [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: at("user").value }],
    };
    if (at("temperature").value !== "") chat.temperature = Number(at("temperature").value);
    if (at("max").value !== "") chat.max_tokens = Number(at("max").value);
    return { ...chat, stream: true, stream_options: { include_usage: true } };
  }

  function showCode() {
    const chat = body();
    if (!chat.model) chat.model = "demo/echo";
    at("code").textContent = window.gatewaySnippets[language](settings.base, chat);
  }

  /* A key that has just been made is in force within a second. */
  async function listed(secret) {
    for (let look = 0; ; look += 1) {
      const response = await call("/v1/models");
      if (response.status !== 401 || look === LOOKS || secret !== at("key").value.trim()) return response;
      await pause(LOOK_PAUSE_MS);
    }
  }

  async function loadModels() {
    const models = at("model");
    const before = models.value;
    const secret = at("key").value.trim();
    keep(secret);
    at("send").disabled = true;
    models.disabled = true;
    if (!secret) return;
    let response;
    try {
      response = await listed(secret);
    } catch (error) {
      at("key-said").textContent = unreachable(error);
      return;
    }
    if (secret !== at("key").value.trim()) return; /* another key has been typed meanwhile */
    if (!response.ok) {
      at("key-said").textContent = await problem(response);
      return;
    }
    const names = (await response.json()).data.map((each) => each.id);
    models.replaceChildren(...names.map((name) => new Option(name, name)));
    if (!names.length) {
      at("key-said").textContent = "This key may use no model that is known.";
      return;
    }
    models.value = names.includes(before) ? before : names.includes("demo/echo") ? "demo/echo" : names[0];
    models.disabled = false;
    at("send").disabled = false;
    showCode();
    await showLimits();
  }

  function limitInWords(limit) {
    const of = limit.per ? `${limit.kind} per ${limit.per}` : "requests at once";
    return [`${number(limit.amount)} ${of}, ${limit.holds_for}`, `${number(limit.left)} left`];
  }

  function budgetInWords(budget) {
    const name = budget.limit_usd === null ? "budget" : `$${budget.limit_usd} per ${budget.window}`;
    return [`${name}, ${budget.holds_for}`, `$${budget.left_usd} left`];
  }

  async function showLimits() {
    let response;
    try {
      response = await call("/v1/limits");
    } catch {
      return;
    }
    if (!response.ok) return;
    const found = await response.json();
    const pairs = [...found.limits.map(limitInWords), ...found.budgets.map(budgetInWords)];
    if (!pairs.length) {
      at("limits").textContent = "No limit or budget holds for this key.";
      return;
    }
    const list = document.createElement("dl");
    list.className = "d-facts";
    facts(list, pairs);
    at("limits").replaceChildren(list);
  }

  async function makeKey() {
    const token = document.querySelector("#play [name=csrfmiddlewaretoken]").value;
    at("make").disabled = true;
    try {
      const response = await fetch(settings.makeKey, { method: "POST", headers: { "X-CSRFToken": token } });
      const made = await response.json();
      if (!response.ok) throw new Error(made.error);
      at("key").value = made.secret;
      at("key-said").textContent = `${made.name}: works until ${made.expires}.`;
      await loadModels();
    } catch (error) {
      at("key-said").textContent = `No key was made: ${error.message}`;
    } finally {
      at("make").disabled = false;
    }
  }

  /* Returns what the stream said at its end; writes its text as it comes. */
  async function read(response, began) {
    const seen = { usage: null, first: null, finish: "", whole: false };
    for await (const data of window.gatewayEvents(response.body)) {
      if (data === "[DONE]") {
        seen.whole = true;
        continue;
      }
      const event = JSON.parse(data);
      if (event.error) throw new Error(`${event.error.code || event.error.type}: ${event.error.message}`);
      if (event.usage) seen.usage = event.usage;
      const choice = event.choices && event.choices[0];
      if (!choice) continue;
      const text = choice.delta.content || "";
      if (text && seen.first === null) seen.first = performance.now() - began;
      at("answer").append(text);
      seen.finish = choice.finish_reason || seen.finish;
    }
    if (!seen.whole) throw new Error("The answer broke off before its end.");
    return seen;
  }

  async function send(event) {
    event.preventDefault();
    at("error").hidden = true;
    at("link").hidden = true;
    at("answer").textContent = "";
    facts(at("facts"), []);
    at("said").textContent = "Sent …";
    at("stop").hidden = false;
    at("send").disabled = true;
    stopping = new AbortController();
    const began = performance.now();
    let id = "";
    const told = [];
    try {
      const response = await call("/v1/chat/completions", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body()),
        signal: stopping.signal,
      });
      id = response.headers.get("x-request-id") || "";
      facts(at("headers"), [...response.headers].filter(([name]) => SHOWN.test(name)));
      at("headers-box").hidden = false;
      if (!response.ok) {
        at("said").textContent = "Refused.";
        fail(await problem(response));
      } else {
        at("said").textContent = "Answering …";
        const seen = await read(response, began);
        at("said").textContent = seen.finish === "length" ? "Cut at the most tokens." : "Done.";
        if (seen.first !== null) told.push(["First content after", took(seen.first)]);
        if (seen.usage) {
          const { prompt_tokens: into, completion_tokens: out } = seen.usage;
          told.push(["Tokens", `${number(into)} in, ${number(out)} out`]);
        }
      }
    } catch (error) {
      const stopped = error.name === "AbortError";
      at("said").textContent = stopped ? "Stopped: what was produced until then is billed." : "Failed.";
      if (!stopped) fail(error instanceof TypeError ? unreachable(error) : error.message);
    }
    told.push(["Whole time", took(performance.now() - began)]);
    at("stop").hidden = true;
    at("send").disabled = false;
    await showCost(id, told);
    await showLimits();
  }

  async function showCost(id, told) {
    facts(at("facts"), [...told, ["Cost", id ? "being booked …" : "none: nothing has arrived"]]);
    for (let look = 0; id && look < COST_LOOKS; look += 1) {
      const response = await fetch(`${settings.cost}?request_id=${encodeURIComponent(id)}`).catch(() => null);
      const found = response && response.ok ? await response.json() : { found: false };
      if (found.found) {
        const cost = found.cost_usd === null ? "unknown: no price is known, or nothing was used" : found.cost;
        facts(at("facts"), [...told, ["Cost", cost]]);
        at("link").href = found.url;
        at("link").hidden = false;
        return;
      }
      await pause(COST_PAUSE_MS);
    }
    if (id) facts(at("facts"), [...told, ["Cost", "not booked yet: look under Requests"]]);
  }

  document.addEventListener("DOMContentLoaded", () => {
    /* What was typed before this script came, or what the browser has restored, is the person's own. */
    at("key").value ||= kept();
    at("key").addEventListener("change", () => {
      at("key-said").textContent = "";
      loadModels();
    });
    at("make").addEventListener("click", makeKey);
    at("stop").addEventListener("click", () => stopping && stopping.abort());
    document.getElementById("play").addEventListener("submit", send);
    document.getElementById("play").addEventListener("input", showCode);
    for (const button of document.querySelectorAll("[data-snippet]")) {
      button.addEventListener("click", () => {
        language = button.dataset.snippet;
        for (const each of document.querySelectorAll("[data-snippet]")) {
          each.setAttribute("aria-pressed", String(each === button));
        }
        showCode();
      });
    }
    showCode();
    loadModels();
  });
})();
