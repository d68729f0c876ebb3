// Where a number comes from: the dialog.
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
  const same = columns.map((name, place) => [name, place]).filter(([name]) => !["e", "v", "i", "n", ...(figure.loose || [])].includes(name));
  const found = {};
  for (const values of rows) {
    if (values[at] !== null && same.every(([name, place]) => values[place] === row[name])) found[values[at]] = values[columns.indexOf("v")];
  }
  return found;
}

const WHERE = { metrics: "results/summary/metrics_full.json", seen: "results/summary/figures/accuracy_over_steps.csv", cells: "results/summary/accuracy.csv", differences: "results/summary/differences.csv", classes: "results/summary/per_class.csv", confusion: "results/summary/figures/confusion_matrix.csv", losses: "results/summary/figures/loss_terms.csv" };

function explainRow(figure, row) {
  const one = D.series[row.s];
  if (figure.of_run) { showNode(one.runs.find(([seed]) => seed === row.e)[2]); return; }
  const facts = figure.columns.filter(([, , kind]) => kind === "text").map(([field]) => row[field]).filter(Boolean);
  const places = [];
  if (row.t !== undefined) places.push(`after step ${row.t}`);
  if (row.k !== undefined) places.push(`on task ${row.k}`);
  const title = [...facts, ...places].join(" · ");
  open(title, () => numberBody(figure, row, one));
}

function numberBody(figure, row, one) {
  const mean = row.e === null || row.e === undefined;
  const whole = factorOf(figure) === 1;
  const unit = whole ? "" : figure.data === "differences" ? " percentage points" : " %";
  const parts = [make("p", { class: "big" }, write(row.value, whole ? "number" : "percent") + unit + (row.half === null || row.half === undefined ? "" : ` ± ${write(row.half, whole ? "number" : "half")}`))];
  const facts = [["number", `${row.v}`, ""]];
  const metric = figure.data === "metrics" ? D.metric_ids[row.x] : null;
  const path = `${one.m}.${one.k}.${D.reader_ids[row.r ?? 0]}`;
  if (metric && mean) {
    facts.push(["", `${D.metrics[row.x]}, ${D.readers[row.r]}: mean over the seeds; a fraction`, ""]);
    facts.push(["in", `${WHERE.metrics}:${path}.${metric}.mean`, ""]);
  } else facts.push(["in", figure.file ? one.runs.filter(([seed]) => seed === row.e).map(([, name]) => `results/evaluations/${name}/${figure.file}`).join() : figure.where || WHERE[figure.data], ""]);
  facts.push(["seeds", mean ? String(row.n) : `seed ${row.e}`, ""], ["", figure.basis || D.note, ""]);
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
