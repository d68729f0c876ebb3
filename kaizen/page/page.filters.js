// Filters: what is chosen, and the bar in which it is.
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
