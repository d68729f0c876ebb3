// What can be saved: CSV, SVG, PNG.
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
  const names = { s: null, r: null, e: "seed", x: null, t: "step", k: "task", v: "value", i: "interval", o: null, c: null, p: null, term: null, m: "measure", sure: "confidence", count: "images", pictures: null };
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
  const chart = [button("SVG", () => picture(figure, "svg")), button("PNG", () => picture(figure, "png"))];
  $(".tools", section).append(
    ...(figure.pictures ? [] : chart),
    button("CSV", () => save(`${figure.id}.csv`, csv(figure, drawn.get(figure.id).rows), "text/csv")),
  );
}
