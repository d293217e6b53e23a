"use strict";
const all = (what, inside = document) => [...inside.querySelectorAll(what)];
const made = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
document.documentElement.classList.add("script");

// Sorting: a click on a heading; numbers by their value, texts by the alphabet.
for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  all("th", table).forEach((heading, place) => {
    const sort = () => {
      const down = heading.getAttribute("aria-sort") === "descending";
      all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[place];
        return cell.dataset.v === undefined ? (heading.classList.contains("n") ? NaN : cell.textContent) : +cell.dataset.v;
      };
      const order = (one, other) => {
        const [a, b] = [value(one), value(other)];
        if (typeof a === "string" || typeof b === "string") return down ? `${a}`.localeCompare(b) : `${b}`.localeCompare(a);
        if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
        return down ? a - b : b - a;
      };
      body.append(...all("tr", body).sort(order));
    };
    heading.tabIndex = 0;
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
  // Filtering: rows that hold what is typed.
  if (body.rows.length > 8) {
    const box = made("input", "", { type: "search", placeholder: `filter ${body.rows.length} rows`, className: "filter" });
    box.setAttribute("aria-label", "filter rows");
    box.addEventListener("input", () => {
      const wanted = box.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    table.parentElement.before(box);
  }
}

// Values of marks: their titles, shown at once, by touch too.
const tip = document.getElementById("tip");
const show = (event) => {
  if (!event.target.closest) return;
  const mark = event.target.closest(".tip") || event.target.querySelector(":scope > .tip");
  tip.hidden = !mark;
  if (!mark) return;
  const title = mark.querySelector("title");
  if (title) {
    mark.dataset.told = title.textContent;
    title.remove();
  }
  tip.textContent = mark.dataset.told;
  const box = tip.getBoundingClientRect();
  const place = mark.getBoundingClientRect();
  const across = Math.min(Math.max(8, place.left + place.width / 2 - box.width / 2), innerWidth - box.width - 8);
  tip.style.left = `${across + scrollX}px`;
  tip.style.top = `${(place.top > box.height + 12 ? place.top - box.height - 8 : place.bottom + 8) + scrollY}px`;
};
document.addEventListener("pointerover", show);
document.addEventListener("focusin", show);

// Whole records: zipped in the page, a line each.
const packed = JSON.parse(document.getElementById("packed").textContent);
let lines = null;
const unpack = async () => {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(stream).text()).split("\n");
};
if (packed && window.DecompressionStream) {
  const whole = document.getElementById("whole");
  for (const row of all("tr[id^=r]")) {
    const button = made("button", "record", { className: "open", type: "button" });
    button.addEventListener("click", async () => {
      lines = lines || (await unpack());
      const record = JSON.parse(lines[+row.id.slice(1)]);
      whole.querySelector("b").textContent = record.address;
      whole.querySelector("pre").textContent = JSON.stringify(record, null, 1);
      whole.showModal();
    });
    row.cells[0].append(" ", button);
  }
}

// Paper holds what is folded too.
addEventListener("beforeprint", () => all("details").forEach((part) => (part.open = true)));
