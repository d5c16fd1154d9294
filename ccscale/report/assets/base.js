// Elements, numbers, the page's data, its colours.

const data = JSON.parse(document.getElementById("data").textContent);
const [run, other] = data.runs;
const $ = (id) => document.getElementById(id);

/** Make an element; names without a dash that the element has are set as properties, others as attributes. */
function el(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    if (key in made && key !== "role") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(name, options = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(options)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const COUNT = new Intl.NumberFormat("en");
const count = (value) => COUNT.format(value);
const percent = (value) => (value > 0 && value < 0.0095 ? "<1" : Math.round(value * 100)) + "%";
const images = (value) => `${count(value)} image${value === 1 ? "" : "s"}`;
const clustersOf = (value) => `${count(value)} cluster${value === 1 ? "" : "s"}`;

/** Write a number with as many digits as say something. */
function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1000) return COUNT.format(Math.round(value));
  if (size >= 100) return String(Math.round(value));
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.0995) return value.toFixed(size >= 1 ? 2 : 3);
  return String(Number(value.toPrecision(3)));
}

/** Return a text as it is searched: without case and accents. */
const plainText = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

const className = (label) => (label < 0 ? "no label" : data.classes[label] ?? `label ${label}`);

function say(text) {
  $("said").textContent = text;
}

/** Resolve once all of the file has been read, when its last blocks are there. */
const loaded = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve);
  else resolve();
});

/** Return a block's text, as soon as it has been read; each is asked for once, and then dropped. */
async function block(id) {
  if (!$(id)?.nextSibling) await loaded;
  const node = $(id);
  const text = node.textContent;
  node.remove();
  return text;
}

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

const sheets = new Map();

/** Return the address of a sheet of pictures, made when it is first asked for. */
function sheet(id) {
  if (!sheets.has(id)) {
    sheets.set(
      id,
      block(id).then((text) => URL.createObjectURL(new Blob([bytes(text)], { type: "image/webp" }))),
    );
  }
  return sheets.get(id);
}

/** Return an element that shows a picture out of a sheet with so many in it; its size is the style's. */
function tile(id, place, total, description) {
  const columns = data.columns;
  const rows = Math.ceil(total / columns);
  const made = el("span", { className: "tile", role: "img", "aria-label": description });
  made.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
  const x = ((place % columns) / (columns - 1)) * 100;
  const y = rows > 1 ? (Math.floor(place / columns) / (rows - 1)) * 100 : 0;
  made.style.backgroundPosition = `${x}% ${y}%`;
  if (onPaper.now && !sheets.has(id)) {
    made.classList.add(onPaper.sheet(id));
  } else {
    sheet(id).then((address) => (made.style.backgroundImage = `url("${address}")`));
  }
  return made;
}

/** Return a table; `columns` are [title, is text] pairs. Rows are made when they are needed. */
function table(caption, columns, rows) {
  const head = el("tr", {}, ...columns.map(([title, text]) => el("th", { scope: "col", className: text ? "text" : "" }, title)));
  const body = rows.map((row) =>
    el("tr", {}, ...row.map((cell, i) =>
      i ? el("td", { className: columns[i][1] ? "text" : "" }, cell) : el("th", { scope: "row" }, cell))),
  );
  return el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body));
}

/** Return what opens to a table, which is built then. */
function tableDetails(title, build) {
  const made = el("details", {}, el("summary", {}, title));
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) {
      made.append(el("div", { className: "scroll", tabindex: "0", role: "region", "aria-label": title }, build()));
    }
  });
  return made;
}

/** Call back with an element's width, now and whenever it changes. */
function onWidth(element, call) {
  let before = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== before) call((before = width));
  }).observe(element);
}

/** Call back once when an element comes near the window, or before the page is printed. */
function whenNear(element, call) {
  const now = () => {
    observer.disconnect();
    onPaper.waiting.delete(now);
    call();
  };
  const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && now(), { rootMargin: "800px" });
  observer.observe(element);
  onPaper.waiting.add(now);
}

/**
 * What is different when the page is printed: all of it is made, in light colours, before the printer looks, which
 * waits for nothing. Sheets of pictures that were not asked for before are part of the style then, not addresses.
 */
const onPaper = {
  now: false,
  waiting: new Set(), // what is otherwise made when it comes near the window
  style: new CSSStyleSheet(),
  sheets: new Set(),

  sheet(id) {
    const node = $(id);
    if (node && !this.sheets.has(id)) {
      this.sheets.add(id);
      this.style.insertRule(`.${id} { background-image: url("data:image/webp;base64,${node.textContent}") }`);
    }
    return id;
  },

  start() {
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, this.style];
    addEventListener("beforeprint", () => {
      this.now = true;
      if (!("only" in document.documentElement.dataset)) buildMore(Infinity);
      for (const now of [...this.waiting]) now();
      repaints.forEach((call) => call());
      for (const wide of document.querySelectorAll(".scroll > table")) {
        wide.style.setProperty("--fit", Math.min(1, PAGE_WIDTH / wide.scrollWidth).toFixed(3));
      }
    });
    addEventListener("afterprint", () => {
      this.now = false;
      delete document.documentElement.dataset.only;
      document.querySelector(".cluster.only")?.classList.remove("only");
      repaints.forEach((call) => call());
    });
  },
};
const PAGE_WIDTH = 640; // CSS pixels between the margins of a page of A4 or letter, at least

// Petroff (arXiv:2107.02270), ten colours told apart by those with any kind of colour vision; brighter ones on dark.
const PALETTE = {
  light: ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#59bcc0"],
  dark: ["#5aa7ef", "#ffb733", "#e8553a", "#aab8b6", "#b06be0", "#c58a78", "#ff8633", "#cfc288", "#8f94a1", "#92dadd"],
};
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => !onPaper.now && (document.documentElement.dataset.theme || (darkScheme.matches ? "dark" : "light")) === "dark";

// Sixty marks: ten hues, each as it is and nearer to the ink, as three shapes.
const HUES = 10;
const MARKS = 60;
const SHADES = Object.fromEntries(Object.entries(PALETTE).map(([scheme, hues]) => {
  const [ink, share] = scheme === "dark" ? [255, 0.55] : [0, 0.45];
  const mixed = (hue) => "#" + [1, 3, 5].map((i) =>
    Math.round(parseInt(hue.slice(i, i + 2), 16) * (1 - share) + ink * share).toString(16).padStart(2, "0")).join("");
  return [scheme, [...hues, ...hues.map(mixed)]];
}));
const markColours = () => SHADES[isDark() ? "dark" : "light"];
const markColour = (mark) => markColours()[mark % (2 * HUES)];
const SHAPES = ["circle", "triangle", "cross"];
const markShape = (mark) => Math.floor(mark / (2 * HUES));
const inkColours = () => {
  const style = getComputedStyle(document.body);
  return { ink: style.color, paper: style.backgroundColor };
};
const repaints = [];

/** Call back whenever the colours change. */
function onColours(call) {
  repaints.push(call);
}

function startTheme() {
  const root = document.documentElement;
  const repaint = () => repaints.forEach((call) => call());
  const choose = (value) => {
    if (value) root.dataset.theme = value;
    else delete root.dataset.theme;
    repaint();
  };
  let kept = "";
  try {
    kept = localStorage.getItem("ccscale-theme") ?? "";
  } catch { /* a browser that keeps nothing */ }
  for (const input of document.querySelectorAll("input[name=theme]")) {
    input.checked = input.value === kept;
    input.addEventListener("change", () => {
      choose(input.value);
      try {
        localStorage.setItem("ccscale-theme", input.value);
      } catch { /* as above */ }
    });
  }
  if (kept) choose(kept);
  darkScheme.addEventListener("change", repaint);
}
