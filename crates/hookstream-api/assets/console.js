// What pages do besides being pages. Without it they work, too; htmx does the rest.
"use strict";

const language = document.documentElement.lang;
const formats = {
  near: new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  far: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }),
};

// Times are shown in the zone of who looks, with UTC for who hovers.
function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    const isToday = at.toDateString() === new Date().toDateString();
    time.title = at.toISOString().replace("T", " ").replace("Z", " UTC");
    time.textContent = (isToday ? formats.near : formats.far).format(at);
  }
}

// Fields that count for one choice only are shown with it.
function choose(select) {
  const name = select.dataset.which;
  const form = select.form;
  for (const field of form.querySelectorAll("[data-when]")) {
    if ((field.dataset.of ?? "which") !== name) continue;
    field.hidden = field.dataset.when !== select.value;
  }
}

function filter(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const group of input.closest("[data-filtered]").querySelectorAll(".choices fieldset")) {
    let shown = 0;
    for (const label of group.querySelectorAll("label")) {
      const text = label.textContent.toLowerCase();
      label.hidden = !words.every((word) => text.includes(word));
      if (!label.hidden) shown += 1;
    }
    group.hidden = shown === 0;
  }
}

async function copy(button) {
  const from = document.getElementById(button.dataset.copies);
  await navigator.clipboard.writeText(from.value ?? from.textContent);
  const label = button.textContent;
  button.textContent = document.body.dataset.copied;
  setTimeout(() => { button.textContent = label; }, 2000);
}

function addRow(button) {
  const rows = button.closest("[data-rows]").querySelectorAll(".row");
  const row = rows[rows.length - 1].cloneNode(true);
  for (const input of row.querySelectorAll("input")) input.value = "";
  rows[rows.length - 1].after(row);
  row.querySelector("input").focus();
}

// Placeholders are proposed by a list that follows the typing: a "[" opens it.
const PLACEHOLDERS = ["[EventType]", "[EventId]", "[EventTime]", "[Account]", "[Data]"];

function complete(area) {
  const before = area.value.slice(0, area.selectionStart);
  const opened = before.match(/\[([\p{L}\p{N}_.$@-]*)$/u);
  const paths = document.getElementById("placeholders")?.dataset.names.split(" ").filter(Boolean) ?? [];
  const names = [...PLACEHOLDERS, ...paths.map((path) => `[${path}]`)];
  let list = area.parentElement.querySelector(".proposals");
  const fits = opened
    ? names.filter((name) => name.toLowerCase().includes(opened[1].toLowerCase(), 1) && name !== opened[0] + "]").slice(0, 30)
    : [];
  if (fits.length === 0) { list?.remove(); return; }
  if (!list) {
    list = document.createElement("span");
    list.className = "proposals";
    area.after(list);
  }
  list.replaceChildren(...fits.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      const start = area.selectionStart - opened[0].length;
      area.setRangeText(name, start, area.selectionStart, "end");
      list.remove();
      area.focus();
      area.dispatchEvent(new Event("input", { bubbles: true }));
    });
    return button;
  }));
}

// Bodies are plain text in the page, and stay it: their parts are coloured from outside.
const PARTS = /(?<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?<string>"(?:[^"\\]|\\.)*")|(?<number>-?\b\d[\d.eE+-]*)|(?<word>\b(?:true|false|null)\b)|(?<tag><[/?!]?[\w:.-]+|[/?]?>)/g;

function highlight(root) {
  if (!CSS.highlights) return;
  for (const body of root.querySelectorAll("pre.body")) {
    const text = body.firstChild;
    if (text?.nodeType !== Node.TEXT_NODE || !/^\s*[{[<]/.test(text.data)) continue;
    for (const part of text.data.matchAll(PARTS)) {
      const [kind] = Object.entries(part.groups).find(([, found]) => found !== undefined);
      const range = new Range();
      range.setStart(text, part.index);
      range.setEnd(text, part.index + part[0].length);
      if (!CSS.highlights.has(kind)) CSS.highlights.set(kind, new Highlight());
      CSS.highlights.get(kind).add(range);
    }
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.opens) document.getElementById(button.dataset.opens).showModal();
  if ("closes" in button.dataset) button.closest("dialog").close();
  if (button.dataset.copies) copy(button);
  if ("addRow" in button.dataset) addRow(button);
});
document.addEventListener("input", (event) => {
  if (event.target.matches("[data-filtered] .search")) filter(event.target);
  if (event.target.name === "payload.template") complete(event.target);
});
document.addEventListener("change", (event) => {
  if (event.target.dataset.which) choose(event.target);
});
document.addEventListener("htmx:afterSwap", (event) => {
  localize(event.target);
  highlight(event.target);
  if (event.target.id === "lines") document.querySelector(".empty.once")?.remove();
});
document.addEventListener("htmx:sseMessage", () => {
  const lines = document.getElementById("lines");
  if (!lines) return;
  localize(lines);
  if (lines.children.length > 0) document.querySelector(".empty.once")?.remove();
});

localize(document);
highlight(document);
for (const select of document.querySelectorAll("select[data-which]")) choose(select);
document.querySelector('[aria-invalid="true"]')?.focus();
