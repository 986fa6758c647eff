/* Draws each <canvas data-chart="ID"> from the JSON of the element with that id (analytics/charts.py makes both).

   It needs Chart.js before it. Charts that a page gets later are drawn after htmx has put them there, or by
   gatewayCharts.draw(element). Colours follow html.dark, also when it changes. */
(() => {
  "use strict";

  const TONES = {
    light: { good: "#15803d", bad: "#b91c1c", warn: "#b45309", accent: "#7c3aed" },
    dark: { good: "#4ade80", bad: "#f87171", warn: "#fbbf24", accent: "#a78bfa" },
  };
  const OTHERS = {
    light: ["#2563eb", "#c2410c", "#0f766e", "#9333ea", "#be185d", "#0369a1", "#4d7c0f", "#64748b"],
    dark: ["#60a5fa", "#fb923c", "#2dd4bf", "#c084fc", "#f472b6", "#38bdf8", "#a3e635", "#94a3b8"],
  };
  const LINES = {
    light: { text: "#475569", grid: "rgb(100 116 139 / .2)", back: "#fff", border: "#cbd5e1" },
    dark: { text: "#cbd5e1", grid: "rgb(148 163 184 / .2)", back: "#1f2937", border: "#475569" },
  };
  const charts = new Map();
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  const mode = () => (document.documentElement.classList.contains("dark") ? "dark" : "light");

  const number = (value, digits) =>
    value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });

  const compact = (value) =>
    value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });

  function dollars(value, short) {
    const size = Math.abs(value);
    if (short && size >= 1000) return `$${compact(value)}`;
    const digits = size === 0 || size >= 1 ? 2 : Math.min(9, 2 - Math.floor(Math.log10(size)));
    const least = size === 0 && short ? 0 : Math.min(digits, 2);
    return `$${value.toLocaleString("en", { minimumFractionDigits: least, maximumFractionDigits: digits })}`;
  }

  function milliseconds(value) {
    if (Math.abs(value) >= 60000) return `${number(value / 60000, 1)} min`;
    return Math.abs(value) >= 1000 ? `${number(value / 1000, 2)} s` : `${number(value, 1)} ms`;
  }

  /* `short`: beside an axis, where digits are in the way. */
  function inWords(value, unit, short) {
    if (value === null || value === undefined) return "none";
    if (unit === "usd") return dollars(value, short);
    if (unit === "ms") return milliseconds(value);
    if (unit === "percent") return `${number(value, 1)} %`;
    return short ? compact(value) : number(value, 2);
  }

  function datasets(drawing) {
    const tones = TONES[mode()];
    const others = OTHERS[mode()];
    let next = 0;
    return drawing.series.map((series) => {
      const colour = tones[series.tone] || others[next++ % others.length];
      const common = { label: series.label, data: series.values, borderColor: colour };
      if (drawing.kind === "bar") {
        return { ...common, backgroundColor: colour, borderWidth: 0, borderRadius: 2, maxBarThickness: 40 };
      }
      const lonely = series.values.filter((value) => value !== null).length < 3;
      return {
        ...common,
        backgroundColor: colour,
        borderWidth: 2,
        pointRadius: lonely ? 3 : 0,
        pointHoverRadius: 4,
        tension: 0.25,
        spanGaps: false,
        fill: false,
      };
    });
  }

  function options(drawing) {
    const lines = LINES[mode()];
    const ticks = { color: lines.text, font: { size: 11 } };
    return {
      responsive: true,
      maintainAspectRatio: false,
      animation: calm.matches ? false : { duration: 250 },
      interaction: { mode: "index", intersect: false },
      scales: {
        x: {
          stacked: drawing.stacked,
          ticks: { ...ticks, maxRotation: 0, autoSkipPadding: 16 },
          grid: { display: false },
          border: { color: lines.grid },
        },
        y: {
          stacked: drawing.stacked,
          beginAtZero: true,
          suggestedMax: drawing.unit === "percent" ? 100 : undefined,
          ticks: {
            ...ticks,
            maxTicksLimit: 6,
            precision: drawing.unit === "count" || drawing.unit === "tokens" ? 0 : undefined,
            callback: (value) => inWords(value, drawing.unit, true),
          },
          grid: { color: lines.grid },
          border: { display: false },
        },
      },
      plugins: {
        legend: {
          display: drawing.series.length > 1,
          position: "bottom",
          labels: { color: lines.text, boxWidth: 10, boxHeight: 10, font: { size: 12 } },
        },
        tooltip: {
          backgroundColor: lines.back,
          titleColor: lines.text,
          bodyColor: lines.text,
          borderColor: lines.border,
          borderWidth: 1,
          callbacks: {
            label: (item) => ` ${item.dataset.label}: ${inWords(item.raw, drawing.unit, false)}`,
          },
        },
      },
    };
  }

  function drawOne(canvas, still) {
    const source = document.getElementById(canvas.dataset.chart);
    if (!source) return;
    const drawing = JSON.parse(source.textContent);
    const old = charts.get(canvas);
    if (old) old.chart.destroy();
    const settings = options(drawing);
    if (still) settings.animation = false;
    const chart = new Chart(canvas, {
      type: drawing.kind,
      data: { labels: drawing.labels, datasets: datasets(drawing) },
      options: settings,
    });
    charts.set(canvas, { chart, drawing });
  }

  function forget() {
    for (const [canvas, { chart }] of charts) {
      if (!canvas.isConnected) {
        chart.destroy();
        charts.delete(canvas);
      }
    }
  }

  function draw(root, still) {
    forget();
    for (const canvas of (root || document).querySelectorAll("canvas[data-chart]")) drawOne(canvas, still);
  }

  function recolour() {
    for (const { chart, drawing } of charts.values()) {
      chart.data.datasets = datasets(drawing);
      chart.options = { ...options(drawing), animation: false };
      chart.update("none");
    }
  }

  new MutationObserver(recolour).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["class"],
  });
  document.addEventListener("DOMContentLoaded", () => draw(document, false));
  /* What is there again is drawn at once: a chart that grows anew with each refresh is a distraction. */
  document.addEventListener("htmx:afterSwap", (event) => draw(event.target, true));
  window.gatewayCharts = { draw, inWords };
})();
