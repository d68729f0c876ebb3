// All together: what happens when the page is opened, and when a filter changes.
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
  $("#status").textContent = `${shown} rows: ${filtersText()}${someTasks() ? `; figures of ${state.tasks.size} of ${tasks.length} tasks` : ""}`;
  $("#results .basis").textContent = `${D.note}. Shown: ${filtersText()}.${someTasks() ? " The filter of the tasks does not act here." : ""}`;
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
