// From the page's data to a figure's rows, by the filters that are set.
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
    if (!taskFits(figure, row)) continue;
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

// Losses, ranks and the like are numbers; all else is a fraction, shown in percent.
const factorOf = (figure) => (figure.data === "losses" ? 1 : figure.factor || 100);

// kaizen/report/figures/expand.py has the same.
function expand(figure, row, one) {
  const factor = factorOf(figure);
  if ("v" in row) row.value = factor * row.v;
  row.half = row.i === null || row.i === undefined ? null : (figure.factor || 100) * row.i;
  row.low = row.value - (row.half || 0);
  row.high = row.value + (row.half || 0);
  // No accuracy is above 100 %: an interval ends there, or at the value where that is beyond.
  const [least, most] = (figure.within_by ? figure.within[row[figure.within_by]] : figure.within) || [null, null];
  if (least !== null) row.low = Math.min(row.value, Math.max(least, row.low));
  if (most !== null) row.high = Math.max(row.value, Math.min(most, row.high));
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
  if ("sure" in row) row.confidence = 100 * row.sure;
  if ("m" in row) row.measure = D.measures[row.m];
  if ("px" in row) {
    row.task_name = `task ${row.k}`;
    row.map_panel = `step ${row.t}, ${row.panel}`; // the step first: a long name is cut
    row.map_place = row.s * 1000 + row.t;
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
