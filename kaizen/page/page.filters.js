// Filters: what is chosen, and the bar in which it is.
const unique = (values) => [...new Set(values)];
const methods = unique(D.series.map((one) => one.m));
const labels = unique(D.series.filter((one) => !one.ref).map((one) => one.label));
const tasks = [...Array(D.tasks).keys()];
const state = { methods: new Set(methods), labels: new Set(labels), tasks: new Set(tasks), reader: 0, seed: null };

// The task that a row of a figure's data is of; other figures' rows are of no single task.
const TASK_OF = {
  cells: (row) => row.k, map: (row) => row.k, losses: (row) => row.t,
  classes: (row) => D.first[row.c], confusion: (row) => D.first[row.c], confused: (row) => D.first[row.c],
};
const someTasks = () => state.tasks.size < tasks.length;

function taskFits(figure, row) {
  if (!someTasks() || !(figure.data in TASK_OF)) return true;
  return state.tasks.has(TASK_OF[figure.data](row));
}

// A task by its number and its first classes.
function taskName(task) {
  const names = Object.keys(D.first).filter((label) => D.first[label] === task).map((label) => D.classes[label]);
  const some = names.slice(0, 3).join(", ") + (names.length > 3 ? ", …" : "");
  return some && some.length < 60 ? `${task} (${some})` : String(task);
}

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
  if (tasks.length > 1) bar.append(picker("Tasks", tasks, tasks.map(taskName), state.tasks));
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
