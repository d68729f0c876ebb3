"use strict";
// Asks the server for the state of the grid every two seconds, and shows it. Texts are put in as
// text, never as HTML. What has the focus stays, as elements are changed, not made anew.
(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const DASH = "\u2013", BETWEEN = 2000, AFTER_A_FAILURE = 4000;
  // A curve in its own units; the picture is as wide as its card.
  const HEIGHT = 150, LEFT = 52, RIGHT = 12, TOP = 8, BOTTOM = 22;

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") element.className = value; else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }
  function draw(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }
  // Writes only what differs, so that a screen reader and a selection are left alone.
  function say(element, text) { if (element.textContent !== text) element.textContent = text; }
  const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

  // -- curves ----------------------------------------------------------------------------------
  let chosen = "L";
  const isShare = () => chosen === "accuracy";
  function shown(value) {
    if (value === null || value === undefined) return DASH;
    if (isShare()) return `${Number((100 * value).toFixed(1))} %`;
    if (chosen === "images/s") return String(Math.round(value));
    return Math.abs(value) >= 1000 || (value !== 0 && Math.abs(value) < 0.001)
      ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  }
  function ticks(low, high, most) {
    const rough = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((one) => one >= rough);
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(at);
    return found;
  }

  class Curve {
    constructor(place, title) {
      this.title = title;
      this.at = null;
      this.box = make("div", { class: "curve", tabindex: "0", role: "slider", "aria-orientation": "horizontal" });
      this.box.addEventListener("keydown", (event) => this.key(event));
      this.box.addEventListener("pointermove", (event) => this.point(event));
      this.box.addEventListener("pointerleave", () => { if (document.activeElement !== this.box) this.move(null); });
      this.box.addEventListener("blur", () => this.move(null));
      this.said = make("p", { class: "soft" });
      place.append(this.box, this.said);
    }
    show(curves) {
      this.curves = curves;
      const values = curves.values && curves.values[chosen];
      this.box.hidden = this.said.hidden = !values;
      if (!values) return;
      this.points = curves.epoch.map((epoch, place) => [epoch, values[place]]).filter((point) => point[1] !== null);
      this.box.hidden = !this.points.length;
      if (this.points.length) this.paint();
    }
    paint() {
      const width = Math.max(200, this.box.clientWidth || 400), { points, curves } = this;
      let low = Math.min(...points.map((point) => point[1])), high = Math.max(...points.map((point) => point[1]));
      if (isShare() || chosen === "images/s") low = 0;
      if (isShare()) high = 1;
      if (high - low < 1e-9 * Math.max(1, Math.abs(high))) { low -= Math.abs(low) / 10 || 0.5; high += Math.abs(high) / 10 || 0.5; }
      const last = Math.max(2, curves.epochs);
      this.x = (epoch) => LEFT + (epoch - 1) / (last - 1) * (width - LEFT - RIGHT);
      this.y = (value) => TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
      const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
      for (const tick of ticks(low, high, 4)) {
        const y = this.y(tick);
        svg.append(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
        svg.append(draw("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, shown(tick)));
      }
      svg.append(draw("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
      const marks = [1, ...ticks(1, last, 5).filter((tick) => Number.isInteger(tick) && tick > 1 && last - tick > last / 12), last];
      for (const mark of new Set(marks)) {
        svg.append(draw("text", { x: this.x(mark), y: HEIGHT - 6, "text-anchor": mark === last ? "end" : "middle" }, String(mark)));
      }
      svg.append(draw("path", { class: "line", d: points.map(([epoch, value], place) => `${place ? "L" : "M"}${this.x(epoch).toFixed(1)} ${this.y(value).toFixed(1)}`).join("") }));
      this.line = draw("line", { class: "at", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
      this.dot = draw("circle", { class: "dot", r: 4 });
      svg.append(this.line, this.dot);
      this.box.replaceChildren(svg);
      this.width = width;
      this.tell();
    }
    // The place of the epoch that is read: the last one, unless another is chosen.
    place() {
      if (this.at === null) return this.points.length - 1;
      const found = this.points.findIndex((point) => point[0] >= this.at);
      return found < 0 ? this.points.length - 1 : found;
    }
    tell() {
      const [epoch, value] = this.points[this.place()], one = this.at !== null;
      this.line.setAttribute("visibility", one ? "visible" : "hidden");
      this.line.setAttribute("x1", this.x(epoch)); this.line.setAttribute("x2", this.x(epoch));
      this.dot.setAttribute("cx", this.x(epoch)); this.dot.setAttribute("cy", this.y(value));
      const text = `epoch ${epoch} of ${this.curves.epochs}: ${chosen} ${shown(value)}`;
      say(this.said, text);
      for (const [name, what] of [["label", `${chosen} of ${this.title}`], ["valuemin", this.points[0][0]], ["valuemax", this.points[this.points.length - 1][0]], ["valuenow", epoch], ["valuetext", text]]) {
        this.box.setAttribute(`aria-${name}`, what);
      }
    }
    move(place) {
      if (!this.points || !this.points.length) return;
      const at = place === null ? null : this.points[Math.max(0, Math.min(this.points.length - 1, place))][0];
      if (at !== this.at) { this.at = at; this.tell(); }
    }
    key(event) {
      if (!this.points || !this.points.length) return;
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }, ends = { Home: 0, End: this.points.length - 1 };
      if (event.key === "Escape") this.move(null);
      else if (event.key in steps) this.move(this.place() + steps[event.key]);
      else if (event.key in ends) this.move(ends[event.key]);
      else return;
      event.preventDefault();
    }
    point(event) {
      if (!this.points || !this.points.length) return;
      const box = this.box.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * this.width;
      let best = 0;
      this.points.forEach((point, place) => { if (Math.abs(this.x(point[0]) - x) < Math.abs(this.x(this.points[best][0]) - x)) best = place; });
      this.move(best);
    }
  }

  // -- cards: one for each node, kept from state to state -----------------------------------------
  class Card {
    constructor(one) {
      this.key = one.key;
      this.title = make("h3");
      this.facts = make("p");
      this.bar = make("progress", { max: "1", "aria-label": `progress of ${one.title}` });
      this.root = make("article", { class: "card" }, this.title, this.facts, this.bar);
      this.curve = new Curve(this.root, one.title);
      this.where = make("p", { class: "soft" });
      this.root.append(this.where);
    }
    show(one) {
      say(this.title, one.title);
      const facts = [];
      if (one.took !== undefined) facts.push(one.took ? `took ${one.took}` : "done");
      if (one.total) facts.push(one.what === "epoch" ? `epoch ${one.done} of ${one.total}` : `${one.done} of ${one.total} ${one.what}`);
      if (one.left) facts.push(`${one.left}${one.range}`);
      if (one.speed) facts.push(`${Math.round(one.speed).toLocaleString("en")} images/s`);
      say(this.facts, facts.join(" · "));
      this.bar.hidden = !one.total;
      if (one.total) this.bar.value = one.done / one.total;
      say(this.where, one.where || "");
      this.where.hidden = !one.where;
      this.curve.show(one.curves);
    }
  }
  const cards = { cards: new Map(), ended: new Map() };
  function keep(name, list) {
    const known = cards[name], place = $(name), keys = new Set(list.map((one) => one.key));
    for (const [key, card] of known) if (!keys.has(key)) { card.root.remove(); known.delete(key); }
    list.forEach((one, at) => {
      let card = known.get(one.key);
      if (!card) known.set(one.key, (card = new Card(one)));
      if (place.children[at] !== card.root) place.insertBefore(card.root, place.children[at] || null);
      card.show(one);
    });
  }

  // -- tables ------------------------------------------------------------------------------------
  function fill(table, rows) {
    const body = $(table).tBodies[0];
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((cells, at) => {
      const tr = body.rows[at] || body.insertRow();
      cells.forEach((text, place) => {
        const cell = tr.cells[place] || tr.appendChild(place ? make("td", { class: $(table).tHead.rows[0].cells[place].className }) : make("th", { scope: "row" }));
        say(cell, text);
      });
    });
  }

  // -- the state ---------------------------------------------------------------------------------
  let state = null, paused = false, told = null;
  function offer() {
    const names = new Set();
    for (const one of [...state.running, ...state.ended]) Object.keys(one.curves.values || {}).forEach((name) => names.add(name));
    const select = $("curve"), there = [...select.options].map((option) => option.value);
    for (const name of names) if (!there.includes(name)) select.append(make("option", { value: name }, name));
  }
  function show() {
    const { done, total } = state, percent = total ? Math.floor(100 * done / total) : 0;
    say($("name"), state.name);
    document.title = state.is_done ? `done · ${state.name}` : `${done} of ${total} · ${state.name}`;
    $("progress").value = total ? done / total : 0;
    say($("percent"), `${percent} %`);
    const parts = [`${done.toLocaleString("en")} of ${count(total, "node")} done`];
    if (!state.is_done) parts.push(`${state.running.length} running`, `${state.waiting_count} waiting`);
    if (state.failed_count) parts.push(`${state.failed_count} failed${state.blocked ? `, for which ${state.blocked} wait` : ""}`);
    say($("counts"), parts.join(", "));
    say($("left"), state.is_done ? "Nothing is left to make." : state.left);
    say($("when"), `as of ${new Date(1000 * state.at).toLocaleTimeString()}`);
    offer();
    keep("cards", state.running);
    say($("running-note"), state.running.length ? "" : state.is_done ? "All is done." : "Nobody makes a node at this moment.");
    keep("ended", state.ended);
    $("ended-part").hidden = !state.ended.length;
    $("failed-part").hidden = !state.failed_count;
    say($("failed-note"), state.failed_count > state.failed.length ? `The first ${state.failed.length}.` : "");
    const list = $("failed");
    while (list.children.length > state.failed.length) list.lastChild.remove();
    state.failed.forEach((one, at) => {
      const item = list.children[at] || list.appendChild(make("li", {}, make("b"), make("span")));
      say(item.children[0], one.title);
      say(item.children[1], `: ${one.reason}`);
    });
    const more = state.waiting_count - state.waiting.length;
    say($("waiting-note"), !state.waiting_count ? "None." : more ? `Those that are ready first; the first ${state.waiting.length}, without ${more} more.` : "Those that are ready first, in the order in which they can be made.");
    $("waiting").hidden = !state.waiting_count;
    fill("waiting", state.waiting.map((one) => [one.title, one.state, one.takes || DASH]));
    fill("kinds", state.kinds.map((one) => [one.kind, ...["done", "running", "waiting", "failed", "blocked"].map((name) => String(one[name] || 0)), one.error === null ? DASH : (1 + one.error).toFixed(1)]));
    announce();
    document.documentElement.dataset.ready = String(state.at);
  }
  function announce() {
    const now = { done: state.done, failed: state.failed_count };
    const was = told;
    told = now;
    if (!was) return;
    if (now.failed > was.failed) say($("status"), `${state.failed[0].title} failed`);
    else if (state.is_done && was.done < now.done) say($("status"), "all is done");
    else if (was.done < now.done && state.ended.length) say($("status"), `done: ${state.ended[0].title}`);
  }
  function gone(text) {
    $("gone").hidden = !text;
    say($("gone"), text);
  }
  let timer = 0;
  async function ask() {
    clearTimeout(timer);
    let wait = BETWEEN;
    try {
      const answer = await fetch("state", { cache: "no-store" });
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
      gone("");
      if (!paused) { state = found; show(); }
    } catch (error) {
      wait = AFTER_A_FAILURE;
      const since = state ? ` This is how it was at ${new Date(1000 * state.at).toLocaleTimeString()}.` : "";
      gone(error instanceof TypeError ? `The server has ended; \`kaizen watch --browser\` starts it again.${since}` : `${error.message}.${since}`);
    }
    timer = setTimeout(ask, wait);
  }

  // -- what one can choose -------------------------------------------------------------------------
  $("curve").addEventListener("change", (event) => { chosen = event.target.value; if (state) show(); });
  function pause() {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    say($("pause"), paused ? "Go on" : "Pause");
    if (!paused) ask();
  }
  $("pause").addEventListener("click", pause);
  document.addEventListener("keydown", (event) => {
    if (event.key === "p" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("select, input")) pause();
  });
  const themes = ["automatic", "light", "dark"];
  let theme = 0;
  $("theme").addEventListener("click", () => {
    theme = (theme + 1) % 3;
    if (theme) document.documentElement.dataset.theme = themes[theme]; else delete document.documentElement.dataset.theme;
    say($("theme"), `Colours: ${themes[theme]}`);
  });
  let width = innerWidth;
  addEventListener("resize", () => { if (Math.abs(innerWidth - width) > 8) { width = innerWidth; if (state) show(); } });
  // A page that nobody sees asks for nothing.
  document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else ask(); });
  ask();
})();
