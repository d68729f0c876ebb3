// Figures: from rows to a specification of Vega-Lite, the drawing, the table behind it.
const DARK = { "#332288": "#9a8fe8", "#882255": "#d977a8", "#117733": "#5bbd7a", "#000000": "#ffffff", "#0072B2": "#4ba3dc", "#4D4D4D": "#a9a9a9" };
const isDark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark");
const colourOf = (one, dark) => (dark && DARK[one.colour]) || one.colour;

// Eight colours and seven marks: fifty-six tasks that look different.
const TASK_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#AA4499", "#B8860B", "#332288", "#882255", "#4D4D4D"];
const TASK_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right"];

function looksOfTasks(dark) {
  const domain = tasks.map((task) => `task ${task}`);
  return {
    "@task_colour": { domain, range: tasks.map((task) => TASK_COLOURS[task % 8]).map((colour) => (dark && DARK[colour]) || colour) },
    "@task_shape": { domain, range: tasks.map((task) => TASK_SHAPES[task % 7]) },
  };
}

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
  const dark = !forFile && isDark();
  const looks = { ...lookOf(rows, dark), ...looksOfTasks(dark) };
  const wide = Math.max(220, width);
  // As wide as the longest name: cut short, several could look alike.
  const entry = Math.min(wide, 50 + 6.5 * Math.max(16, ...rows.map((row) => String(row.series || "").length)));
  const legend = figure.legend === false ? null : { title: null, orient: "bottom", columns: Math.max(1, Math.floor(wide / entry)), labelLimit: Math.round(entry) - 20, symbolSize: 90 };
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
    const [name, number, wanted] = value.split(":");
    const fit = Math.max(1, Math.floor((wide + 20) / Number(number)));
    // So many in a row, or, where there is no room, as many as fit.
    if (name === "@abreast") return Math.min(fit, Number(wanted));
    if (name === "@columns") return fit;
    if (name === "@panel") return Math.max(120, Math.min(Number(number), wide - 150));
    return { "@labels": 0, "@log_title": `mean of the epoch${log ? " (log axis)" : ""}`, "@legend": legend, "@task_legend": { ...legend, columns: Math.max(1, Math.floor(wide / 90)) }, "@tooltip": tooltip, "@log": log ? { type: "log" } : { type: "linear", zero: false } }[name];
  };
  const ink = forFile ? "#222222" : "currentColor";
  const grid = forFile ? "#dddddd" : "var(--grid)";
  const font = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif";
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    ...withNames(put(figure.spec), rows, Math.min(240, Math.round(wide * 0.38))),
    ...(forFile ? { title: { text: figure.title, subtitle: [`${D.title}: ${filtersText(figure)}`, figure.basis || D.note], anchor: "start" } } : {}),
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

// The names of a figure's rows whole, in as many lines as they take: cut short, several could look alike.
function withNames(spec, rows, wide) {
  const inner = spec.spec || spec, y = inner.encoding && inner.encoding.y;
  if (!y || y.type !== "nominal" || !y.axis || y.axis.labelLimit !== 0) return spec;
  const names = unique(rows.map((row) => row[y.field]));
  const inLines = names.map((name) => linesOf(String(name), Math.max(8, Math.floor(wide / 6.5))));
  y.axis.labelExpr = `(${JSON.stringify(inLines)})[indexof(${JSON.stringify(names)}, datum.value)]`;
  const most = Math.max(...inLines.map((lines) => lines.length));
  if (inner.height.step) inner.height.step = Math.max(inner.height.step, 14 * most + 6);
  return spec;
}

// Broken between words; within one that is longer than a line.
function linesOf(text, letters) {
  const lines = [""];
  for (const word of text.split(" ").flatMap((one) => one.match(new RegExp(`.{1,${letters}}`, "gsu")) || [])) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (longer.length <= letters) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

// What is shown: of a figure, where one is given, else of the table of results.
function filtersText(figure) {
  const parts = [`read by ${D.readers[state.reader]}`];
  if (D.seeds.length > 1) parts.push(state.seed === null ? `mean of ${D.seeds.length} seeds` : `seed ${state.seed}`);
  if (state.methods.size < methods.length) parts.push("some methods");
  if (state.labels.size < labels.length) parts.push("some variants");
  if (someTasks() && figure && figure.data in TASK_OF) parts.push(`${state.tasks.size} of ${tasks.length} tasks`);
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
  if (someTasks() && !(figure.data in TASK_OF) && !figure.plain) without.push("tasks");
  const idle = without.length ? ` The filter of the ${without.join(" and of the ")} does not act here.` : "";
  $(".basis", section).textContent = `${figure.plain || figure.data === "losses" ? "" : `${figure.basis || D.note}.`}${idle}`;
  fillTable(figure, section, rows);
  if (!rows.length) {
    chart.replaceChildren(make("p", {}, "Nothing to show with these filters."));
    return Promise.resolve();
  }
  if (figure.pictures) {
    chart.replaceChildren(...pairs(figure, rows));
    chart.dataset.drawn = String(turn);
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

// Confused classes with their images: elements, as these have texts of their own.
function pairs(figure, rows) {
  const groups = unique(rows.map((row) => row.s)).map((s) => rows.filter((row) => row.s === s));
  return groups.map((of) => make("section", { class: "pairs" },
    make("h3", {}, many() ? `${of[0].method}: ${of[0].series}` : of[0].series),
    make("ul", {}, ...of.map((row) => make("li", {},
      make("span", {}, make("b", {}, row.class), " taken for ", make("b", {}, row.predicted), ": ",
        make("button", { class: "n", type: "button", onclick: () => explainRow(figure, row) }, `${write(row.value, "percent")} %`), ` (${row.count} image${row.count === 1 ? "" : "s"})`),
      make("span", { class: "row" }, ...row.pictures.map(([place, task, at, sure]) => make("img", {
        onload: (event) => event.target.classList.toggle("few", event.target.naturalWidth < 48), src: D.pictures[place], title: `confidence ${sure.toFixed(2)}; image ${at} of task ${task}`,
        alt: `Test image of ${row.class}, taken for ${row.predicted} with confidence ${sure.toFixed(2)}`,
      }))))))));
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
      const linked = (field === "value" || (figure.of_run && field === "px")) && text !== DASH;
      return make("td", { class: "r" }, linked ? make("button", { class: "n", type: "button", onclick: () => explainRow(figure, row) }, text) : text);
    })));
    body.replaceChildren(...lines);
    $$("p", details).forEach((p) => p.remove());
    if (rows.length > MOST) $(".scroll", details).append(make("p", {}, `${rows.length - MOST} more rows are in the CSV.`));
  };
  details.ontoggle = () => { if (details.open) fill(); };
  if (details.open) fill();
}
