/* The live feed: shows requests as /ws/live/ tells of them (analytics/live/), newest first. */
(() => {
  "use strict";

  const MOST_ROWS = 200;
  const RATE_OVER_MS = 5000;
  const SUMMARY_EVERY_MS = 15000;
  const SILENT_AFTER_MS = 25000; /* the server says something every ten seconds at least */
  const FIRST_RETRY_MS = 1000;
  const LAST_RETRY_MS = 15000;
  const STOPS = {
    4401: "You are signed out. Sign in again, then reload this page.",
    4403: "You may not watch requests.",
  };

  const number = (value) => value.toLocaleString("en");

  function duration(value) {
    if (value === null) return "-";
    return value >= 1000 ? `${(value / 1000).toFixed(2)}\u00a0s` : `${value.toFixed(1)}\u00a0ms`;
  }

  function dollars(text) {
    if (text === null) return "-";
    const [whole, decimals = ""] = text.split(".");
    return `$${whole}.${decimals.padEnd(2, "0")}`;
  }

  function cell(label, ...parts) {
    const td = document.createElement("td");
    td.dataset.label = label;
    td.append(...parts);
    return td;
  }

  function span(text, classes) {
    const element = document.createElement("span");
    element.textContent = text;
    if (classes) element.className = classes;
    return element;
  }

  class Feed {
    constructor(root) {
      this.root = root;
      this.body = root.querySelector("tbody");
      this.counts = [];
      this.left = { sampled: 0, slow: 0, missed: 0 };
      this.since = { seen: 0, failed: 0 };
      this.paused = false;
      this.retryMs = FIRST_RETRY_MS;
      this.heardAt = 0;
      this.form = this.part("filter");
      this.part("pause").addEventListener("click", () => this.pause(!this.paused));
      this.part("clear").addEventListener("click", () => this.clear());
      this.form.addEventListener("input", () => this.filterSoon());
      this.form.addEventListener("submit", (event) => event.preventDefault());
      document.addEventListener("keydown", (event) => this.key(event));
      setInterval(() => this.each(), 500);
      setInterval(() => this.summarise(), SUMMARY_EVERY_MS);
      this.connect();
    }

    part(name) {
      return this.root.querySelector(`[data-live-${name}]`);
    }

    connect() {
      this.state("connecting", "Connecting");
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      const socket = new WebSocket(`${scheme}://${location.host}/ws/live/`);
      this.socket = socket;
      this.heardAt = Date.now();
      socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
      socket.addEventListener("close", (event) => {
        if (socket === this.socket) this.closed(event.code);
      });
    }

    closed(code) {
      this.socket = null;
      if (STOPS[code]) {
        this.state("stopped", "Stopped");
        this.problem(STOPS[code]);
        return;
      }
      this.state("away", "Reconnecting");
      setTimeout(() => this.connect(), this.retryMs * (0.5 + Math.random()));
      this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
    }

    say(message) {
      if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
    }

    hear(message) {
      this.heardAt = Date.now();
      if (message.type === "hello") {
        this.retryMs = FIRST_RETRY_MS;
        this.state(this.paused ? "paused" : "open", this.paused ? "Paused" : "Connected");
        this.problem("");
        this.filter();
        if (this.paused) this.say({ pause: true });
      } else if (message.type === "error") {
        this.problem(message.message);
      } else if (message.type === "batch") {
        this.take(message);
        this.say({ confirm: message.number });
      }
    }

    take(batch) {
      this.counts.push([Date.now(), batch.seen, batch.failed]);
      this.since.seen += batch.seen;
      this.since.failed += batch.failed;
      for (const name of Object.keys(this.left)) this.left[name] += batch[name];
      this.showLeft();
      if (!batch.events.length) return;
      const rows = document.createDocumentFragment();
      /* A sample has its failures first. */
      batch.events.sort((one, other) => one.at - other.at);
      for (const event of batch.events) rows.prepend(this.row(event));
      this.body.prepend(rows);
      while (this.body.rows.length > MOST_ROWS) this.body.lastElementChild.remove();
      this.filled();
    }

    row(event) {
      const row = document.createElement("tr");
      const at = new Date(event.at * 1000).toISOString().slice(11, 19);
      const good = event.outcome === "ok";
      const word = event.error_code || (good ? "" : event.outcome);
      const by = event.provider ? `${event.provider}/${event.model}` : "-";
      const extra = [event.stream && "stream", event.cache === "hit" && "cache", event.attempts > 1 && `${event.attempts} attempts`];
      const notes = extra.filter(Boolean).join(", ");
      const known = event.prompt_tokens !== null || event.completion_tokens !== null;
      row.append(
        cell("At", this.link(event, at)),
        cell("Answer", span(`${event.status} ${word}`.trim(), good ? "gw-good" : "gw-bad")),
        cell("Model, by", span(event.requested_model || "-"), document.createElement("br"), span(notes ? `${by} (${notes})` : by, "gw-faint")),
        cell("Key", span(event.key_name || event.key || "none"), document.createElement("br"), span(event.tenant_name, "gw-faint")),
        cell("Tokens", known ? `${number(event.prompt_tokens || 0)} \u2192 ${number(event.completion_tokens || 0)}` : "-"),
        cell("Cost", dollars(event.cost_usd)),
        cell("Took", duration(event.latency_ms)),
      );
      return row;
    }

    link(event, text) {
      const url = this.root.dataset.requestUrl;
      if (!url) return span(text, "gw-nowrap");
      const link = document.createElement("a");
      link.href = url.replace("COMPLETION", encodeURIComponent(event.id));
      link.className = "gw-link gw-nowrap";
      link.textContent = text;
      return link;
    }

    pause(paused) {
      this.paused = paused;
      this.say({ pause: paused });
      const button = this.part("pause");
      button.textContent = paused ? "Go on" : "Pause";
      button.setAttribute("aria-pressed", String(paused));
      if (!paused) this.left.missed = 0;
      this.showLeft();
      if (this.socket && this.socket.readyState === WebSocket.OPEN) {
        this.state(paused ? "paused" : "open", paused ? "Paused" : "Connected");
      }
    }

    clear() {
      this.body.replaceChildren();
      this.left = { sampled: 0, slow: 0, missed: 0 };
      this.showLeft();
      this.filled();
    }

    /* The space key pauses, unless it is somebody's who has the focus. */
    key(event) {
      const taken = event.target.closest("input, textarea, select, button, a, summary, [contenteditable], dialog");
      if (event.key !== " " || taken || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.pause(!this.paused);
    }

    filterSoon() {
      clearTimeout(this.filtering);
      this.filtering = setTimeout(() => {
        this.body.replaceChildren();
        this.filled();
        this.filter();
      }, 300);
    }

    filter() {
      if (!this.form.checkValidity()) {
        this.problem('Status: a status or a class of them, as "429" or "5xx".');
        return;
      }
      this.problem("");
      const fields = this.form.elements;
      this.say({
        filter: {
          provider: fields.provider.value,
          model: fields.model.value,
          key: fields.key.value,
          status: fields.status.value,
          errors: fields.errors.checked,
        },
      });
    }

    each() {
      const now = Date.now();
      this.counts = this.counts.filter(([at]) => now - at < RATE_OVER_MS);
      const perSecond = (index) => {
        const sum = this.counts.reduce((total, each) => total + each[index], 0);
        return number(Math.round((sum / RATE_OVER_MS) * 10000) / 10);
      };
      this.part("rate").textContent = perSecond(1);
      this.part("failed").textContent = perSecond(2);
      if (this.socket && now - this.heardAt > SILENT_AFTER_MS) {
        const silent = this.socket;
        this.closed(0);
        silent.close();
      }
    }

    summarise() {
      if (!this.since.seen) return;
      const { seen, failed } = this.since;
      this.part("summary").textContent = `${number(seen)} requests in the last seconds, ${number(failed)} failed.`;
      this.since = { seen: 0, failed: 0 };
    }

    showLeft() {
      const { sampled, slow, missed } = this.left;
      const parts = [];
      if (sampled) parts.push(`${number(sampled)} counted, not shown: too many at once`);
      if (slow) parts.push(`${number(slow)} dropped: this browser was too slow`);
      if (missed && this.paused) parts.push(`${number(missed)} came while paused`);
      this.part("counts").textContent = parts.join(" \u00b7 ");
    }

    filled() {
      const some = this.body.rows.length > 0;
      this.root.querySelector("table").hidden = !some;
      this.part("empty").hidden = some;
    }

    problem(text) {
      const place = this.part("problem");
      place.textContent = text;
      place.hidden = !text;
    }

    state(name, text) {
      const place = this.root.querySelector(".gw-live-state");
      place.dataset.state = name;
      if (place.textContent !== text) place.textContent = text;
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const root of document.querySelectorAll("[data-live]")) new Feed(root);
  });
})();
