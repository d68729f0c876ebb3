"use strict";
// What the page does: filters, figures, downloads, and where a number comes from. Texts from the
// results are put in as text, never as HTML.
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const MINUS = "\u2212", DASH = "\u2013";
  const $ = (selector, place = document) => place.querySelector(selector);
  const $$ = (selector, place = document) => [...place.querySelectorAll(selector)];

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") element.className = value;
      else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  // -- filters ---------------------------------------------------------------------------------
  const unique = (values) => [...new Set(values)];
  const methods = unique(D.series.map((one) => one.m));
  const labels = unique(D.series.filter((one) => !one.ref).map((one) => one.label));
  const state = { methods: new Set(methods), labels: new Set(labels), reader: 0, seed: null };

  function shownSeries(s) {
    const one = D.series[s];
    if (!state.methods.has(one.m)) return false;
    return one.ref !== null || state.labels.has(one.label);
  }

  function picker(title, values, names, set) {
    const summary = make("summary");
    const boxes = [];
    const say = () => {
      summary.textContent = `${title}: ${set.size === values.length ? "all" : `${set.size} of ${values.length}`}`;
    };
    const list = values.map((value, place) => {
      const box = make("input", { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", () => {
        if (box.checked) set.add(value); else set.delete(value);
        say();
        apply();
      });
      boxes.push(box);
      return make("label", {}, box, names[place]);
    });
    const all = make("button", { type: "button", onclick: () => {
      const on = set.size < values.length;
      set.clear();
      if (on) values.forEach((value) => set.add(value));
      boxes.forEach((box) => { box.checked = on; });
      say();
      apply();
    } }, "All or none");
    say();
    const details = make("details", { class: "pick" }, summary, make("div", {}, all, ...list));
    details.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { details.open = false; summary.focus(); }
    });
    return details;
  }

  function chooser(title, options, change) {
    const select = make("select", {}, ...options.map(([value, name]) => make("option", { value }, name)));
    select.addEventListener("change", () => { change(select.value); apply(); });
    return make("label", {}, make("span", {}, title), select);
  }

  function buildFilters() {
    const bar = $(".filters");
    const names = methods.map((m) => D.series.find((one) => one.m === m).method);
    bar.append(picker("Methods", methods, names, state.methods));
    bar.append(picker("Variants", labels, labels, state.labels));
    const present = unique(D.rows.metrics.rows.map((row) => row[1])).sort((a, b) => a - b);
    bar.append(chooser("Read by", present.map((r) => [r, D.readers[r]]), (value) => { state.reader = Number(value); }));
    if (D.seeds.length > 1) {
      const options = [["", `mean of ${D.seeds.length}`], ...D.seeds.map((seed) => [seed, String(seed)])];
      bar.append(chooser("Seed", options, (value) => { state.seed = value === "" ? null : Number(value); }));
    }
    document.addEventListener("click", (event) => {
      $$(".pick[open]").forEach((one) => { if (!one.contains(event.target)) one.open = false; });
    });
  }

  // -- rows ------------------------------------------------------------------------------------
  function rowsOf(figure) {
    const { columns, rows } = D.rows[figure.data];
    const place = Object.fromEntries(columns.map((name, at) => [name, at]));
    const found = [];
    for (const values of rows) {
      const row = {};
      columns.forEach((name, at) => { row[name] = values[at]; });
      if (figure.plain) { found.push(row); continue; }
      const one = D.series[row.s];
      if (!shownSeries(row.s) || ("o" in row && !shownSeries(row.o))) continue;
      if (figure.reader && "r" in place && row.r !== state.reader) continue;
      if ("metric" in figure && row.x !== figure.metric) continue;
      if (figure.headline && !D.headline.includes(row.x)) continue;
      if (figure.rivals && one.ref) continue;
      if (figure.replayed && one.size === null) continue;
      if (figure.seeds && "e" in place && !seedFits(row, one)) continue;
      found.push(expand(figure, row, one));
    }
    return figure.spread ? spread(found) : found;
  }

  // With a seed chosen, what has no values of single seeds (a reference row) stays as it is.
  function seedFits(row, one) {
    if (state.seed === null || D.seeds.length < 2 || one.ref) return row.e === null;
    return row.e === state.seed;
  }

  // kaizen/page/tables.py has the same.
  function expand(figure, row, one) {
    const factor = figure.data === "losses" ? 1 : 100;
    row.value = factor * row.v;
    row.half = row.i === null || row.i === undefined ? null : 100 * row.i;
    row.low = row.value - (row.half || 0);
    row.high = row.value + (row.half || 0);
    if (figure.data === "seen") { row.low = Math.max(0, row.low); row.high = Math.min(100, row.high); }
    row.method = one.method;
    row.series = one.label;
    row.panel = many() && !one.ref ? `${one.method}: ${one.label}` : one.ref && !many() ? one.ref : one.label;
    row.seed = row.e === null || row.e === undefined ? (row.n > 1 ? `mean of ${row.n}` : one.runs.length ? String(one.runs[0][0]) : DASH) : String(row.e);
    if (one.size !== null) {
      row.size = one.unit === "proportion" ? 100 * one.size : one.size;
      if (figure.replayed) row.series = variantOf(one);
    }
    if ("r" in row) row.reader = D.readers[row.r];
    if ("x" in row) row.metric = D.metrics[row.x];
    if (figure.replayed) row.both = (many() ? `${one.method}: ${row.metric}` : row.metric) + ((figure.units || {})[one.unit] || "");
    if ("o" in row) {
      const other = D.series[row.o];
      row.difference = `${one.label} ${MINUS} ${other.label}`;
      row.pair = many() ? `${one.method}: ${row.difference}` : row.difference;
      row.first = one.label;
      row.series = other.label;
      row.clear = row.half !== null && Math.abs(row.value) > row.half;
    }
    if ("c" in row) {
      row.class = D.classes[row.c];
      row.task = D.first[row.c];
      row.place = rank(row.c);
    }
    if ("p" in row) { row.predicted = D.classes[row.p]; row.q = rank(row.p); }
    if ("term" in row) {
      row.term_place = methods.indexOf(one.m) * D.terms.length + row.term;
      row.term = D.terms[row.term];
      row.term_panel = many() ? `${one.method}: ${row.term}` : row.term;
    }
    return row;
  }

  const ranks = (() => {
    const found = {};
    Object.keys(D.first).map(Number).sort((a, b) => D.first[a] - D.first[b] || a - b)
      .forEach((label, at) => { found[label] = at; });
    return found;
  })();
  const rank = (label) => (label in ranks ? ranks[label] : 1e6 + label);
  const many = () => methods.filter((m) => m !== "reference").length > 1;

  // A panel per method: the reference rows belong into each that they are of.
  function spread(rows) {
    const panels = unique(rows.filter((row) => !D.series[row.s].ref).map((row) => D.series[row.s].m));
    if (!panels.length) return rows;
    return rows.flatMap((row) => {
      const one = D.series[row.s];
      if (!one.ref) return [row];
      return panels.filter((m) => one.of === null || one.of === m).map((m) => {
        const like = D.series.find((other) => other.m === m);
        return { ...row, method: like.method, series: one.ref };
      });
    });
  }

  // A variant without its replay size; the largest size has the variant's own colour.
  const variantOf = (one) => (one.size === null ? one.label : one.label.split(",")[0]);

  function write(value, kind) {
    if (value === null || value === undefined || Number.isNaN(value)) return DASH;
    const minus = (text) => text.replace("-", MINUS);
    if (kind === "percent" || kind === "half") return minus(Math.abs(value) < 0.05 ? "0.0" : value.toFixed(1));
    if (kind === "points") return (value < 0 ? "" : "+") + minus(value.toFixed(1));
    if (kind === "number") return minus(String(Number(value.toPrecision(4))));
    return String(value);
  }

  // -- figures ---------------------------------------------------------------------------------
  const DARK = { "#332288": "#9a8fe8", "#882255": "#d977a8", "#117733": "#5bbd7a", "#000000": "#ffffff", "#0072B2": "#4ba3dc", "#4D4D4D": "#a9a9a9" };
  const isDark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark");
  const colourOf = (one, dark) => (dark && DARK[one.colour]) || one.colour;

  function lookOf(rows, dark) {
    const found = new Map();
    for (const row of rows) {
      if (found.has(row.series)) continue;
      const like = D.series.find((one) => (one.ref || one.label) === row.series || one.label === row.series)
        || D.series.findLast((one) => variantOf(one) === row.series);
      if (like) found.set(row.series, { colour: colourOf(like, dark), shape: like.shape, dash: like.dash });
    }
    const domain = [...found.keys()], looks = [...found.values()];
    return {
      "@colour": { domain, range: looks.map((one) => one.colour) },
      "@shape": { domain, range: looks.map((one) => one.shape) },
      "@dash": { domain, range: looks.map((one) => one.dash) },
    };
  }

  function specOf(figure, rows, width, forFile) {
    const looks = lookOf(rows, !forFile && isDark());
    const wide = Math.max(220, width);
    const legend = figure.legend === false ? null : { title: null, orient: "bottom", columns: Math.max(1, Math.floor(wide / 210)), labelLimit: 190, symbolSize: 90 };
    const values = rows.map((row) => row.value).filter((value) => typeof value === "number");
    const log = values.length && Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
    const tooltip = figure.columns.map(([field, title, kind]) => ({
      field, title, type: kind === "text" ? "nominal" : "quantitative",
      ...(kind === "text" ? {} : { format: kind === "points" ? "+.1f" : kind === "count" ? "d" : kind === "number" ? ".4~g" : ".1f" }),
    })).filter((one) => rows.some((row) => row[one.field] !== null && row[one.field] !== undefined));
    const put = (value) => {
      if (Array.isArray(value)) return value.map(put);
      if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, put(v)]));
      if (typeof value !== "string" || value[0] !== "@") return value;
      if (value in looks) return looks[value];
      const [name, number] = value.split(":");
      if (name === "@columns") return Math.max(1, Math.floor((wide + 20) / Number(number)));
      if (name === "@panel") return Math.max(120, Math.min(Number(number), wide - 150));
      return { "@labels": Math.min(240, Math.round(wide * 0.38)), "@log_title": `mean of the epoch${log ? " (log axis)" : ""}`, "@legend": legend, "@tooltip": tooltip, "@log": log ? { type: "log" } : { type: "linear", zero: false } }[name];
    };
    const ink = forFile ? "#222222" : "currentColor";
    const grid = forFile ? "#dddddd" : "var(--grid)";
    const font = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif";
    return {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      ...put(figure.spec),
      ...(forFile ? { title: { text: figure.title, subtitle: [`${D.title}: ${filtersText()}`, D.note], anchor: "start" } } : {}),
      data: { values: rows },
      config: {
        background: forFile ? "#ffffff" : "transparent", font, aria: false,
        view: { stroke: null },
        axis: { labelColor: ink, titleColor: ink, domainColor: ink, tickColor: ink, gridColor: grid, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
        legend: { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12 },
        header: { labelColor: ink, titleColor: ink, labelFontSize: 12.5 },
        title: { color: ink, subtitleColor: ink },
        facet: { spacing: 18 },
      },
    };
  }

  function filtersText() {
    const parts = [`read by ${D.readers[state.reader]}`];
    if (D.seeds.length > 1) parts.push(state.seed === null ? `mean of ${D.seeds.length} seeds` : `seed ${state.seed}`);
    if (state.methods.size < methods.length) parts.push("some methods");
    if (state.labels.size < labels.length) parts.push("some variants");
    return parts.join(", ");
  }

  const drawn = new Map();
  function draw(figure, section) {
    const chart = $(".chart", section);
    const rows = rowsOf(figure);
    const turn = (drawn.get(figure.id)?.turn || 0) + 1;
    drawn.set(figure.id, { turn, rows });
    const without = [];
    if (state.seed !== null && !figure.seeds) without.push("seed");
    if (state.reader !== 0 && !figure.reader && !figure.plain) without.push("reader");
    const idle = without.length ? ` The filter of the ${without.join(" and of the ")} does not act here.` : "";
    $(".basis", section).textContent = `${figure.plain || figure.data === "losses" ? "" : `${D.note}.`}${idle}`;
    fillTable(figure, section, rows);
    if (!rows.length) {
      chart.replaceChildren(make("p", {}, "Nothing to show with these filters."));
      return Promise.resolve();
    }
    // The chart's own name and the table speak for it: its hundreds of marks would not.
    const target = make("div", { "aria-hidden": "true" });
    const spec = specOf(figure, rows, chart.clientWidth, false);
    return vegaEmbed(target, spec, { actions: false, renderer: "svg", tooltip: { theme: "custom" } }).then((result) => {
      const now = drawn.get(figure.id);
      if (now.turn !== turn) { result.finalize(); return; }
      now.view?.finalize();
      now.view = result.view;
      result.view.addEventListener("click", (event, item) => {
        if (item && item.datum && item.datum.s !== undefined) explainRow(figure, item.datum);
        else if (item && item.datum && item.datum.key) showNode(item.datum.key);
      });
      chart.replaceChildren(target);
      chart.dataset.drawn = String(turn);
    }).catch((error) => {
      console.error(error);
      chart.replaceChildren(make("p", {}, "This figure could not be drawn; the table has its numbers."));
    });
  }

  const MOST = 1000;
  function fillTable(figure, section, rows) {
    const details = $("details", section);
    const fill = () => {
      const body = $("tbody", details);
      const lines = rows.slice(0, MOST).map((row) => make("tr", {}, ...figure.columns.map(([field, , kind]) => {
        const text = write(row[field], kind);
        if (kind === "text") {
          if (field === "title" && row.key) return make("td", {}, make("button", { class: "n", type: "button", onclick: () => showNode(row.key) }, text));
          return make("td", {}, text);
        }
        const linked = field === "value" && text !== DASH;
        return make("td", { class: "r" }, linked ? make("button", { class: "n", type: "button", onclick: () => explainRow(figure, row) }, text) : text);
      })));
      body.replaceChildren(...lines);
      $$("p", details).forEach((p) => p.remove());
      if (rows.length > MOST) $(".scroll", details).append(make("p", {}, `${rows.length - MOST} more rows are in the CSV.`));
    };
    details.ontoggle = () => { if (details.open) fill(); };
    if (details.open) fill();
  }

  // -- downloads -------------------------------------------------------------------------------
  function save(name, content, type) {
    const url = URL.createObjectURL(new Blob([content], { type }));
    const link = make("a", { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 30000);
  }

  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };

  // Fractions with all their digits, under the names that the summary's own CSV files have.
  function csv(figure, rows) {
    if (figure.plain) return table(["key", "title", "kind", "seconds", "speed"], rows);
    const names = { s: null, r: null, e: "seed", x: null, t: "step", k: "task", v: "value", i: "interval", o: null, c: null, p: null, term: null };
    const raw = D.rows[figure.data].columns;
    const texts = figure.columns.filter(([, , kind]) => kind === "text").map(([field]) => field).filter((field) => field !== "seed");
    const plain = raw.filter((name) => names[name] !== null);
    const head = [...texts, ...plain.map((name) => names[name] || name)];
    return [head, ...rows.map((row) => [...texts.map((f) => row[f]), ...plain.map((f) => row[f])])]
      .map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  }
  const table = (head, rows) => [head, ...rows.map((row) => head.map((name) => row[name]))].map((line) => line.map(quoted).join(",")).join("\n") + "\n";

  async function picture(figure, kind) {
    const { rows } = drawn.get(figure.id);
    const spec = specOf(figure, rows, 900, true);
    const { view, finalize } = await vegaEmbed(make("div"), spec, { actions: false, renderer: "svg" });
    if (kind === "svg") save(`${figure.id}.svg`, await view.toSVG(), "image/svg+xml");
    else {
      const canvas = await view.toCanvas(3);
      const blob = await new Promise((done) => { canvas.toBlob(done); });
      save(`${figure.id}.png`, blob, "image/png");
    }
    finalize();
  }

  function tools(figure, section) {
    const button = (name, act) => make("button", { type: "button", "aria-label": `${name} of: ${figure.title}`, onclick: act }, name);
    $(".tools", section).append(
      button("SVG", () => picture(figure, "svg")),
      button("PNG", () => picture(figure, "png")),
      button("CSV", () => save(`${figure.id}.csv`, csv(figure, drawn.get(figure.id).rows), "text/csv")),
    );
  }

  // -- where a number comes from ---------------------------------------------------------------
  const dialog = $("#origin"), history = [];
  function open(title, content) {
    history.push([title, content]);
    render();
    if (!dialog.open) dialog.showModal();
  }
  function render() {
    const [title, content] = history[history.length - 1];
    $("#origin-title").textContent = title;
    $("#origin-body").replaceChildren(...content().filter((one) => one !== null));
    $("#back").hidden = history.length < 2;
    dialog.scrollTop = 0;
  }

  function command(text) {
    const button = make("button", { type: "button" }, "Copy");
    const pre = make("pre", { tabindex: "0" }, text);
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); } catch {
        const range = document.createRange();
        range.selectNodeContents(pre);
        const selection = getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    return make("div", { class: "copy" }, pre, button);
  }

  function lines(pairs) {
    return make("dl", { class: "lines" }, ...pairs.flatMap(([label, text, style]) => [
      make("dt", {}, label), make("dd", style ? { class: style.replace("bold ", "") } : {}, ...[text].flat()),
    ]));
  }

  function nodeLink(key, name) {
    const node = D.made.nodes[key];
    if (!node) return document.createTextNode(name || key);
    return make("button", { class: "n", type: "button", onclick: () => showNode(key) }, name || node.title);
  }

  function nodeBody(key) {
    const node = D.made.nodes[key];
    if (!node) return [make("p", {}, "What this was made from is not in this page.")];
    const parts = [];
    const again = [make("h3", {}, "Make it again"), ...(node.again || []).map(command)];
    if (node.note) again.push(make("p", {}, node.note));
    if (node.again?.length || node.note) parts.push(...again);
    if (node.lines) parts.push(lines(node.lines.map((at) => D.made.texts[at])));
    else parts.push(make("p", {}, "There are too many nodes to explain each here; this command does:"), command(`kaizen explain ${node.kind}/${key}`));
    if (node.parents?.length) {
      parts.push(make("h3", {}, "Made from"), make("ul", {}, ...node.parents.map(([role, parent]) => make("li", {}, `${role}: `, nodeLink(parent)))));
    }
    return parts;
  }

  function showNode(key) {
    const node = D.made.nodes[key];
    open(node ? node.title : key, () => nodeBody(key));
  }

  function seedsOf(figure, row) {
    const { columns, rows } = D.rows[figure.data];
    const at = columns.indexOf("e");
    if (at < 0) return {};
    const same = columns.map((name, place) => [name, place]).filter(([name]) => !["e", "v", "i", "n"].includes(name));
    const found = {};
    for (const values of rows) {
      if (values[at] !== null && same.every(([name, place]) => values[place] === row[name])) found[values[at]] = values[columns.indexOf("v")];
    }
    return found;
  }

  const WHERE = { metrics: "results/summary/metrics_full.json", seen: "results/summary/figures/accuracy_over_steps.csv", cells: "results/summary/accuracy.csv", differences: "results/summary/differences.csv", classes: "results/summary/per_class.csv", confusion: "results/summary/figures/confusion_matrix.csv", losses: "results/summary/figures/loss_terms.csv" };

  function explainRow(figure, row) {
    const one = D.series[row.s];
    const facts = figure.columns.filter(([, , kind]) => kind === "text").map(([field]) => row[field]).filter(Boolean);
    const places = [];
    if (row.t !== undefined) places.push(`after step ${row.t}`);
    if (row.k !== undefined) places.push(`on task ${row.k}`);
    const title = [...facts, ...places].join(" · ");
    open(title, () => numberBody(figure, row, one));
  }

  function numberBody(figure, row, one) {
    const mean = row.e === null || row.e === undefined;
    const unit = figure.data === "losses" ? "" : figure.data === "differences" ? " percentage points" : " %";
    const parts = [make("p", { class: "big" }, write(row.value, figure.data === "losses" ? "number" : "percent") + unit + (row.half === null || row.half === undefined ? "" : ` ± ${write(row.half, "half")}`))];
    const facts = [["number", `${row.v}`, ""]];
    const metric = figure.data === "metrics" ? D.metric_ids[row.x] : null;
    const path = `${one.m}.${one.k}.${D.reader_ids[row.r ?? 0]}`;
    if (metric && mean) {
      facts.push(["", `${D.metrics[row.x]}, ${D.readers[row.r]}: mean over the seeds; a fraction`, ""]);
      facts.push(["in", `${WHERE.metrics}:${path}.${metric}.mean`, ""]);
    } else facts.push(["in", WHERE[figure.data], ""]);
    facts.push(["seeds", mean ? String(row.n) : `seed ${row.e}`, ""], ["", D.note, ""]);
    const each = seedsOf(figure, row);
    const runs = one.runs.filter(([seed]) => mean || seed === row.e);
    for (const [seed, name, key, reference] of runs) {
      const value = seed in each ? `${each[seed]} ` : runs.length === 1 ? `${row.v} ` : "";
      const against = reference && metric && metric.startsWith("forward_transfer") ? [", against ", nodeLink(reference, `reference/${reference.slice(0, 12)}`)] : [];
      facts.push(["", [`${value}from `, nodeLink(key, `evaluation/${key.slice(0, 12)}`), ` of ${name}`, ...against], ""]);
    }
    if (row.o !== undefined) {
      for (const [, name, key] of D.series[row.o].runs) facts.push(["minus", ["what comes from ", nodeLink(key, `evaluation/${key.slice(0, 12)}`), ` of ${name}`], ""]);
    }
    if (one.ref) D.references.forEach((key) => facts.push(["", ["from ", nodeLink(key)], ""]));
    if (metric && mean && !one.ref) {
      const wrong = D.wrong.includes(path);
      facts.push(["", wrong ? "THEY DO NOT LEAD TO THIS NUMBER" : "they lead to this number", wrong ? "red" : ""]);
    }
    parts.push(lines(facts));
    if (metric && mean) parts.push(command(`kaizen explain ${WHERE.metrics}:${path}.${metric}.mean`));
    parts.push(make("h3", {}, "The node that holds it"), ...nodeBody(D.summary));
    return parts;
  }

  function headlineClick(event) {
    const button = event.target.closest("#headline .n");
    if (!button) return;
    const tr = button.closest("tr"), td = button.closest("td");
    const th = $$("#headline thead th")[td.cellIndex];
    const wanted = { s: Number(tr.dataset.s), r: Number(tr.dataset.r), e: tr.dataset.e === "" ? null : Number(tr.dataset.e), x: Number(th.dataset.x) };
    const { columns, rows } = D.rows.metrics;
    const found = rows.find((values) => values[0] === wanted.s && values[1] === wanted.r && values[2] === wanted.e && values[3] === wanted.x);
    const figure = { id: "metrics", data: "metrics", columns: [["method", "", "text"], ["series", "", "text"], ["reader", "", "text"], ["metric", "", "text"]] };
    if (!found) return;
    const row = {};
    columns.forEach((name, at) => { row[name] = found[at]; });
    explainRow(figure, expand(figure, row, D.series[row.s]));
  }

  // -- all together ----------------------------------------------------------------------------
  const sections = D.figures.map((figure) => [figure, document.getElementById(figure.id)]);
  let waiting = Promise.resolve(), round = 0;

  function apply() {
    let shown = 0;
    for (const tr of $$("#headline tbody tr")) {
      const one = D.series[tr.dataset.s];
      const e = tr.dataset.e === "" ? null : Number(tr.dataset.e);
      tr.hidden = !(shownSeries(tr.dataset.s) && Number(tr.dataset.r) === state.reader && seedFits({ e }, one));
      if (!tr.hidden) shown += 1;
    }
    hideEmptyColumns();
    $("#status").textContent = `${shown} rows: ${filtersText()}`;
    $("#results .basis").textContent = `${D.note}. Shown: ${filtersText()}.`;
    const mine = ++round;
    for (const [figure, section] of sections) {
      waiting = waiting.then(() => (mine === round ? draw(figure, section) : null));
    }
    waiting.then(() => { if (mine === round) document.documentElement.dataset.ready = String(mine); });
  }

  // A metric that the chosen reader does not have is no column.
  function hideEmptyColumns() {
    const rows = $$("#headline tbody tr").filter((tr) => !tr.hidden);
    $$("#headline thead th").forEach((th, at) => {
      const empty = th.dataset.x !== undefined && rows.every((tr) => !$(".n", tr.cells[at]));
      for (const tr of $$("#headline tr")) tr.cells[at].hidden = empty && rows.length > 0;
    });
  }

  const themes = ["automatic", "light", "dark"];
  function theme(name, redraw) {
    if (name === "automatic") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    $("#theme").textContent = `Colours: ${name}`;
    if (redraw) apply();
  }
  let chosen = 0;
  $("#theme").addEventListener("click", () => { chosen = (chosen + 1) % 3; theme(themes[chosen], true); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (!chosen) apply(); });
  $("#close").addEventListener("click", () => dialog.close());
  $("#back").addEventListener("click", () => { history.pop(); render(); });
  dialog.addEventListener("close", () => { history.length = 0; });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.addEventListener("click", headlineClick);
  let width = innerWidth;
  addEventListener("resize", () => { if (Math.abs(innerWidth - width) > 40) { width = innerWidth; apply(); } });
  $(".tools[data-table]").append(make("button", { type: "button", onclick: () => {
    const figure = { data: "metrics", reader: true, seeds: true, columns: [["method", "", "text"], ["series", "", "text"], ["reader", "", "text"], ["metric", "", "text"]] };
    save("results.csv", csv(figure, rowsOf(figure)), "text/csv");
  } }, "CSV"));

  buildFilters();
  sections.forEach(([figure, section]) => tools(figure, section));
  apply();
})();
