"use strict";
// Every text from the server goes in by textContent or as an attribute's value, never as markup.

// Okabe and Ito's colours, which stay apart for colour-blind readers; the same as in the final figures.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31"];
const DASHES = ["", "5 2", "1 1.2", "5 1.5 1 1.5"]; // in widths of the line
const GREY = { color: "#222222", dash: "" };
const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";

const COLUMNS = [
  ["In flight", (tenant) => number(tenant.in_flight, 0)],
  ["Waiting", (tenant) => number(tenant.waiting, 0)],
  ["Asked (1/s)", (tenant, figures) => number(figures.asked_per_s, 2)],
  ["Offered (1/s)", (tenant, figures) => number(figures.offered_per_s, 2)],
  ["Achieved (1/s)", (tenant, figures) => number(figures.requests_per_s, 2)],
  ["Output tokens/s", (tenant, figures) => number(figures.output_tokens_per_s, 0)],
  ["TTFT p50 (ms)", (tenant, figures) => number(figures.ttft_ms?.p50, 0)],
  ["TTFT p99 (ms)", (tenant, figures) => number(figures.ttft_ms?.p99, 0)],
  ["TTFT count", (tenant, figures) => number(figures.ttft_ms?.count, 0)],
  ["TPOT p50 (ms)", (tenant, figures) => number(figures.tpot_ms?.p50, 1)],
  ["E2E p99 (ms)", (tenant, figures) => number(figures.e2e_ms?.p99, 0)],
  ["SLO attainment (ratio)", (tenant, figures) => number(figures.slo_attainment, 3)],
  ["Failed", (tenant, figures) => failures(figures.failed)],
];

const CHARTS = [
  { title: "Output tokens/s by tenant", of: "output_tokens_per_s", from: 0 },
  { title: "TTFT p99 by tenant (ms, log axis)", of: "ttft_p99_ms", log: true },
  { title: "Fairness: Jain index of throughput (1 = even)", series: "jain_throughput", from: 0, to: 1 },
  { title: "KV cache in use (ratio)", series: "kv_cache_usage", from: 0, to: 1 },
  { title: "GPU utilization (ratio)", series: "gpu_utilization_ratio", from: 0, to: 1 },
];

const byId = (id) => document.getElementById(id);
let last = null;
let lostAt = null;
let shownReport = null;

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  return filled(node, attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

function number(value, places) {
  if (!Number.isFinite(value)) return "–"; // undefined is not 0
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

function clock(seconds) {
  const whole = Math.floor(Math.abs(seconds));
  const sign = seconds < 0 ? "−" : "";
  return `${sign}${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function failures(byOutcome) {
  if (!byOutcome) return "–";
  const named = Object.entries(byOutcome).filter(([, count]) => count > 0);
  const total = named.reduce((sum, [, count]) => sum + count, 0);
  return named.length ? `${total} (${named.map(([outcome, count]) => `${outcome} ${count}`).join(", ")})` : "0";
}

function look(index) {
  return { color: COLOURS[index % COLOURS.length], dash: DASHES[Math.floor(index / COLOURS.length) % DASHES.length] };
}

function stroke({ color, dash }, width = 1.6) {
  const dashes = dash.split(" ").filter(Boolean).map((part) => part * width).join(" ");
  return { stroke: color, "stroke-width": width, fill: "none", "stroke-linejoin": "round", ...(dashes && { "stroke-dasharray": dashes }) };
}

function swatch(tenant) {
  const line = svg("line", { x1: 0, y1: 5, x2: 24, y2: 5, ...stroke(look(tenant.color_index), 2.5) });
  return svg("svg", { width: 24, height: 10, "aria-hidden": "true" }, line);
}

// --- the table

function table(live) {
  const head = element("tr", {}, element("th", { scope: "col" }, "Tenant"));
  for (const [title] of COLUMNS) head.append(element("th", { scope: "col" }, title));
  byId("tenants").replaceChildren(
    element("thead", {}, head), body(live, "window", "Last 10 s"), body(live, "whole", "Whole run"));
}

function body(live, span, title) {
  const heading = element("tr", {}, element("th", { scope: "rowgroup" }, title), element("td", { colspan: COLUMNS.length }));
  const rows = live.tenants.map((tenant) => row(tenant, tenant[span] ?? {}, swatch(tenant), tenant.id));
  const total = row(live.total, live.total?.[span] ?? {}, "", "All tenants");
  total.className = "total";
  return element("tbody", { "data-span": span }, heading, ...rows, total);
}

function row(tenant, figures, mark, name) {
  const cells = COLUMNS.map(([, text]) => element("td", {}, text(tenant ?? {}, figures)));
  return element("tr", {}, element("th", { scope: "row", title: name }, mark, name), ...cells);
}

function summary(live) {
  const parts = [];
  const add = (title, value, places, unit = "") => {
    if (Number.isFinite(value)) parts.push(`${title} ${number(value, places)}${unit}`);
  };
  add("Jain index", live.fairness?.jain_throughput, 3);
  add("highest over lowest throughput", live.fairness?.max_min_ratio, 2);
  add("client event-loop lag p99", live.health?.event_loop_lag_ms_p99, 1, " ms");
  add("client CPU p95", live.health?.cpu_share_p95, 2, " of a core");
  add("KV cache", live.telemetry?.kv_cache_usage, 2);
  add("requests waiting at the server", live.telemetry?.requests_waiting, 0);
  for (const [gpu, values] of Object.entries(live.telemetry?.gpu ?? {})) {
    add(`GPU ${gpu} utilization`, values.gpu_utilization_ratio, 2);
    add("memory", values.memory_used_bytes / 2 ** 30, 1, " GiB");
    add("power", values.power_w, 0, " W");
  }
  byId("summary").textContent = parts.join(" · ");
}

// --- the charts

function charts(live) {
  byId("legend").replaceChildren(...live.tenants.map((tenant) => element("span", {}, swatch(tenant), tenant.id)));
  const box = byId("charts");
  while (box.children.length < CHARTS.length) {
    const title = element("h3", {}, CHARTS[box.children.length].title);
    box.append(element("figure", {}, title, svg("svg", { role: "img" })));
  }
  CHARTS.forEach((chart, index) => draw(box.children[index].querySelector("svg"), chart, live));
}

function linesOf(chart, live) {
  if (chart.series) return [{ name: "", values: live.series?.[chart.series] ?? [], ...GREY }];
  return live.tenants.map((tenant) => ({
    name: tenant.id, values: live.series?.tenants?.[tenant.id]?.[chart.of] ?? [], ...look(tenant.color_index),
  }));
}

function draw(canvas, chart, live) {
  const width = canvas.clientWidth || 600;
  const height = canvas.clientHeight || 200;
  const frame = { left: 52, right: width - 20, top: 8, bottom: height - 22 };
  const times = live.series?.t_s ?? [];
  const lines = linesOf(chart, live);
  const values = lines.flatMap((line) => line.values).filter((value) => usable(value, chart));
  canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
  canvas.setAttribute("aria-label", `${chart.title}. ${lines.map((line) => `${line.name} ${number(line.values.at(-1), 2)}`).join(", ")}`);
  if (!times.length || !values.length) {
    canvas.replaceChildren(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no data"));
    return;
  }
  const across = scale(times[0], Math.max(times.at(-1), times[0] + 10), frame.left, frame.right, (value) => value);
  const { low, high, ticks } = chart.log ? logAxis(values) : evenAxis(values, chart);
  const up = scale(low, high, frame.bottom, frame.top, chart.log ? Math.log : (value) => value);
  const parts = ticks.map((tick) => horizontal(tick, up(tick), frame));
  for (const tick of evenTicks(times[0], Math.max(times.at(-1), times[0] + 10), Math.max(2, Math.floor(width / 110)), [1, 2, 3, 6])) {
    parts.push(svg("text", { x: across(tick), y: height - 6, "text-anchor": "middle" }, clock(tick)));
  }
  for (const line of lines) {
    const d = path(times, line.values, across, up, chart);
    if (d) parts.push(svg("path", { d, "data-line": line.name, ...stroke(line), "stroke-linecap": "round" }));
  }
  canvas.replaceChildren(...parts);
}

function usable(value, chart) {
  return typeof value === "number" && (!chart.log || value > 0);
}

function scale(low, high, from, to, shape) {
  const span = shape(high) - shape(low) || 1;
  return (value) => from + ((shape(value) - shape(low)) / span) * (to - from);
}

function evenAxis(values, chart) {
  const low = chart.from ?? Math.min(...values);
  const high = Math.max(chart.to ?? 0, values.reduce((most, value) => Math.max(most, value), low)) || 1;
  const ticks = evenTicks(low, high, 4, [1, 2, 5]);
  return { low, high, ticks };
}

function evenTicks(low, high, count, steps) {
  const raw = (high - low) / count || 1;
  // Times step by 10 s, 20 s, 30 s, 1 min and so on; figures by 1, 2, 5 and their tens.
  const tens = steps.includes(6) ? [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400]
    : steps.flatMap((step) => [10 ** Math.floor(Math.log10(raw)) * step, 10 ** (Math.floor(Math.log10(raw)) + 1) * step]);
  const step = tens.sort((a, b) => a - b).find((candidate) => candidate >= raw) ?? raw;
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high * (1 + 1e-9); index += 1) ticks.push(index * step);
  return ticks;
}

function logAxis(values) {
  let least = Infinity;
  let most = 0;
  for (const value of values) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const low = 10 ** Math.floor(Math.log10(least));
  const high = Math.max(10 ** Math.ceil(Math.log10(most)), low * 10);
  const decades = Math.round(Math.log10(high / low));
  const ticks = [];
  for (let decade = 0; decade <= decades; decade += 1) {
    for (const step of decades <= 2 && decade < decades ? [1, 2, 5] : [1]) ticks.push(low * 10 ** decade * step);
  }
  return { low, high, ticks };
}

function horizontal(tick, y, frame) {
  const [unit, suffix] = tick >= 1e6 ? [1e6, "M"] : tick >= 1e3 ? [1e3, "k"] : [1, ""];
  const label = `${Number((tick / unit).toPrecision(3))}${suffix}`;
  return svg("g", {},
    svg("line", { x1: frame.left, x2: frame.right, y1: y, y2: y, stroke: "#dddddd", "stroke-width": 0.6 }),
    svg("text", { x: frame.left - 6, y: y + 4, "text-anchor": "end" }, label));
}

function path(times, values, across, up, chart) {
  const points = [];
  let joined = false;
  values.forEach((value, index) => {
    if (!usable(value, chart)) {
      joined = false; // a gap: nothing is drawn where nothing is known
      return;
    }
    const point = `${across(times[index]).toFixed(1)},${up(value).toFixed(1)}`;
    points.push(joined ? `L${point}` : `M${point}h0`);
    joined = true;
  });
  return points.join("");
}

// --- the rest of the page

function header(live) {
  byId("run").textContent = live.run ?? "No run yet";
  const parts = [live.state, live.phase && `phase ${live.phase}`, typeof live.t_s === "number" && `${clock(live.t_s)} since the load began`];
  byId("state").textContent = parts.filter(Boolean).join(" · ");
  byId("simulated").hidden = live.simulated !== true;
  document.title = `${live.run ?? "Tenants"}, live`;
}

function notes(live) {
  const texts = live.notes ?? [];
  byId("notes").hidden = texts.length === 0;
  byId("notes").replaceChildren(...texts.map((text) => element("li", {}, text)));
}

function runs(live) {
  const known = live.runs ?? [];
  byId("files").hidden = known.length === 0;
  byId("runs").replaceChildren(...[...known].reverse().map((run) => element("div", {},
    element("h3", {}, run.verdict ? `${run.name}: ${run.verdict.status}` : run.name),
    ...run.files.map((file) => element("a", { href: file.href, target: "_blank", rel: "noopener" }, file.name)))));
  final(known.find((run) => run.name === live.run));
}

function final(run) {
  const verdict = run?.verdict;
  byId("verdict").hidden = !verdict;
  byId("verdict").className = verdict?.status === "valid" ? "verdict" : "verdict suspect";
  byId("verdict").querySelector("strong").textContent = verdict ? `Verdict: ${verdict.status}` : "";
  byId("verdict").querySelector("ul").replaceChildren(...(verdict?.reasons ?? []).map((text) => element("li", {}, text)));
  const report = run?.report ?? null;
  byId("final").hidden = !report;
  if (report === shownReport) return; // loading it anew each second would scroll it back
  shownReport = report;
  if (report) {
    byId("report").src = report;
    byId("report-link").href = report;
  } else {
    byId("report").removeAttribute("src");
  }
}

function show(live) {
  last = live;
  if (live.tenants) {
    byId("live").hidden = false;
    header(live);
    notes(live);
    table(live);
    summary(live);
    charts(live);
  }
  runs(live);
}

function lost(reason) {
  lostAt ??= new Date();
  byId("offline").hidden = false;
  byId("offline").textContent = `${reason} since ${lostAt.toLocaleTimeString()}; the figures are the last that came.`;
}

async function ask() {
  let answer;
  try {
    answer = await fetch("fairshare/live.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    return lost("The server can't be reached");
  }
  const json = answer.headers.get("content-type")?.startsWith("application/json");
  if (answer.redirected || answer.status === 401) return lost("The server wants a login: open Locust's page and log in; no figures");
  if (!answer.ok || !json) return lost(`The server answers ${answer.status} without figures`);
  let live;
  try {
    live = await answer.json();
  } catch {
    return lost("The server's answer broke off");
  }
  lostAt = null;
  byId("offline").hidden = true;
  show(live);
}

async function follow() {
  const began = performance.now();
  try {
    await ask();
  } finally {
    setTimeout(follow, Math.max(100, EVERY_MS - (performance.now() - began)));
  }
}

addEventListener("resize", () => last?.tenants && charts(last));
follow();
