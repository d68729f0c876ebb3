"use strict";
// The page on which images are dropped. What comes from the server is put in as text, never as HTML.

const drop = document.getElementById("drop");
const file = document.getElementById("file");
const answers = document.getElementById("answers");
const collects = answers.dataset.collects === "true";
let classes = [];

function element(name, text, attributes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  return made;
}

async function asJson(response) {
  const found = await response.json();
  if (!response.ok) throw new Error(found.error);
  return found;
}

function named(model) {
  return `${model.name}, key ${model.key.slice(0, 12)}`;
}

async function showModel() {
  const found = await asJson(await fetch("classes"));
  classes = found.classes;
  const word = classes.length === 1 ? "class" : "classes";
  document.getElementById("model").textContent =
    `${named(found.model)} answers. It knows ${classes.length} ${word}.`;
}

function shares(answer) {
  const table = element("table");
  table.append(element("caption", "Probability of each class"));
  answer.top.forEach((one, place) => {
    const row = table.insertRow();
    if (place === 0) row.className = "first";
    row.append(element("th", one.class, { scope: "row" }));
    const share = row.insertCell();
    share.className = "share";
    const text = `${(100 * one.probability).toFixed(1)} %`;
    // The number stands beside it.
    share.append(element("meter", undefined, { value: one.probability, "aria-hidden": "true" }));
    const number = row.insertCell();
    number.className = "number";
    number.textContent = text;
  });
  return table;
}

function feedback(answer) {
  const form = element("form");
  const label = element("label", "Its class, if you know it: ");
  const name = element("input", undefined, { type: "text", maxlength: "200", list: "classes", autocomplete: "off" });
  label.append(name);
  const said = element("p", "Then this image is kept, and the next step may learn from it.", { role: "status" });
  said.className = "quiet";
  const button = element("button", "Give this image", { type: "submit" });
  form.append(label, button, said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const body = JSON.stringify({ id: answer.id, label: name.value });
      const headers = { "Content-Type": "application/json" };
      const kept = await asJson(await fetch("feedback", { method: "POST", headers, body }));
      said.textContent = kept.label ? `Kept as ${kept.label}. Thank you.` : "Kept without a class. Thank you.";
    } catch (error) {
      said.textContent = error.message;
      button.disabled = false;
    }
  });
  return form;
}

function show(picture, found) {
  const answer = found.answers[0];
  const part = element("section");
  const percent = (100 * answer.probability).toFixed(1);
  part.append(element("h2", `${picture.name || "The image"}: ${answer.class}, ${percent} %`));
  const inside = element("div");
  inside.className = "answer";
  const image = element("img", undefined, { alt: "The image that was given" });
  image.src = URL.createObjectURL(picture);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  const words = element("div");
  words.className = "words";
  const by = element("p", `Answered by ${named(found.model)}.`);
  by.className = "quiet";
  words.append(shares(answer), by);
  if (collects) words.append(feedback(answer));
  inside.append(image, words);
  part.append(inside);
  answers.prepend(part);
}

function showError(picture, error) {
  const name = picture.name || "The image";
  const line = element("p", error.message.startsWith(name) ? error.message : `${name}: ${error.message}`);
  line.className = "error";
  answers.prepend(line);
}

async function ask(pictures) {
  for (const picture of pictures) {
    const form = new FormData();
    form.append("file", picture);
    form.append("top", "5");
    try {
      show(picture, await asJson(await fetch("predict", { method: "POST", body: form })));
    } catch (error) {
      showError(picture, error);
    }
  }
  showModel().catch(() => {});
}

file.addEventListener("change", () => {
  ask([...file.files]);
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  ask([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) ask([...event.clipboardData.files]);
});

const list = element("datalist", undefined, { id: "classes" });
document.body.append(list);
showModel()
  .then(() => list.append(...classes.slice(0, 1000).map((name) => element("option", undefined, { value: name }))))
  .catch((error) => {
    document.getElementById("model").textContent = error.message;
  });
