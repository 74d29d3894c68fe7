// How somebody who looks at a page finds things in it. Stands before every script that the tests run in a page.

const tidy = (text) => (text ?? "").replace(/\s+/g, " ").trim();

const isSeen = (element) => element.checkVisibility({ visibilityProperty: true });

const isUsable = (element) => isSeen(element) && !element.matches(":disabled");

// While a modal dialog is open, nothing else can be used.
const scope = () => document.querySelector("dialog:modal") ?? document;

const all = (css) => [...scope().querySelectorAll(css)];

const pageText = () => tidy(document.body?.innerText);

// The first that can be used and says exactly this, to those who see it or to those who have it read to them. If one is
// inside the other, it is the inner one.
function byText(text) {
  const says = (element) =>
    [element.innerText, element.ariaLabel, element.matches("input") ? element.value : ""].some((it) => tidy(it) === text);
  const found = all("a, button, summary, label, [role], input[type=submit], input[type=button]").filter(
    (element) => isUsable(element) && says(element),
  );
  return found.find((element) => !found.some((other) => other !== element && element.contains(other)));
}

// The field that has this label, whether it is an element beside it or around it, or an attribute.
function byLabel(text) {
  const says = (label) => {
    const copy = label.cloneNode(true);
    copy.querySelectorAll("input, select, textarea, button, [aria-hidden=true]").forEach((part) => part.remove());
    return tidy(copy.textContent) === text;
  };
  const labels = all("label").filter((label) => label.control && isUsable(label.control) && says(label));
  const fields = all("input, select, textarea").filter((field) => isUsable(field) && tidy(field.ariaLabel) === text);
  return labels[0]?.control ?? fields[0];
}

// What a keyboard can't be relied on to write: how such a field takes it depends on the language of the browser.
function setPicked(field, value) {
  if (!["date", "time", "datetime-local", "month", "week", "color", "range"].includes(field.type)) return false;
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
}

// Null until the page is loaded and has been painted.
function performanceOfPage() {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  if (!page?.loadEventEnd || !paint) return null;
  const all = [page, ...performance.getEntriesByType("resource")];
  return {
    first_contentful_paint_ms: paint.startTime,
    loaded_ms: page.loadEventEnd,
    requests: all.length,
    transferred_bytes: all.reduce((sum, entry) => sum + entry.transferSize, 0),
  };
}
