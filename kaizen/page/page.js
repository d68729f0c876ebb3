// The page's script, first of its parts (kaizen.page.build puts them into one function, in the order
// of SCRIPTS): the data, elements, small helpers. Texts from the results are put in as text, never as
// HTML.
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
