// All images of a cluster, the surest first, as far as the page lists them; their pictures, as far as it has them.

const lists = new Map();

/** Return the images of a cluster: keys, confidence in thousandths, pictures (-1: none), labels, origins. */
function membersOf(cluster) {
  if (!lists.has(cluster)) {
    lists.set(cluster, data.members.listed[cluster] ? block(`list-${cluster}`).then(inflate).then(JSON.parse) : Promise.resolve({ keys: [] }));
  }
  return lists.get(cluster);
}

function inflate(text) {
  return new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).text();
}

/** Return a picture of a cluster by its number: those of its own sheet first. */
function pictureOf(cluster, number, description) {
  const own = data.tiles[cluster].keys.length;
  if (number < own) return tile(`sheet-${cluster}`, number, own, description);
  const { page, pictures } = data.members;
  const [sheet, place] = [Math.floor((number - own) / page), (number - own) % page];
  return tile(`more-${cluster}-${sheet}`, place, Math.min(page, pictures[cluster] - own - sheet * page), description);
}

/** Return a button in a list that shows an image, and selects it. */
function imageItem(cluster, key, about, picture, note) {
  const made = el("button", { type: "button", className: "pick", tabIndex: -1, "aria-pressed": String(selection.has(key)) }, picture, note);
  made.dataset.key = key;
  made.dataset.cluster = cluster;
  return el("li", { title: about }, made);
}

const ON_A_PAGE = 96;

/** Open or close the list of all images of a cluster, a page at a time. */
async function toggleMembers(cluster) {
  const section = $(`cluster-${cluster}`);
  const button = section.querySelector(".all-images");
  const open = section.querySelector(".all");
  button.setAttribute("aria-expanded", String(!open));
  if (open) return open.remove();
  const made = el("div", { className: "all", role: "region", "aria-label": `All images of cluster ${cluster}` });
  section.querySelector(".samples").after(made);
  const members = await membersOf(cluster);
  const [listed, pictures, size] = [members.keys.length, data.members.pictures[cluster], data.clusters.size[cluster]];
  const told = [pictures < listed && `This file has pictures of ${count(pictures)} of ${images(listed)}; of the others it has the keys.`,
    listed < size && `${images(size - listed)} more, less sure, ${size - listed === 1 ? "is" : "are"} not listed here: all are in the run's assignments.parquet.`].filter(Boolean);
  const tiles = imageList();
  const where = el("span", { "aria-live": "polite" });
  let first = 0;
  const show = (next) => {
    first = next;
    const last = Math.min(first + ON_A_PAGE, listed);
    where.textContent = `${count(first + 1)} to ${count(last)} of ${count(listed)}, the most confident first`;
    tiles.replaceChildren(...members.keys.slice(first, last).map((key, i) => memberItem(cluster, members, first + i)));
    tiles.querySelector("button").tabIndex = 0;
    [back.disabled, on.disabled] = [first === 0, last === listed];
  };
  const back = el("button", { type: "button", onclick: () => show(first - ON_A_PAGE) }, "Back");
  const on = el("button", { type: "button", onclick: () => show(first + ON_A_PAGE) }, "On");
  made.append(...told.map((text) => el("p", { className: "near" }, text)), el("div", { className: "pages" }, ...(listed > ON_A_PAGE ? [back, on] : []), where), tiles);
  show(0);
}

function memberItem(cluster, members, place) {
  const key = members.keys[place];
  const confidence = (members.confidence[place] / 1000).toFixed(2);
  const about = `${key}, confidence ${confidence}` + (members.labels ? `, ${className(members.labels[place])}` : "");
  const number = members.pictures[place];
  const picture = number < 0 ? el("span", { className: "tile bare" }, key) : pictureOf(cluster, number, about);
  return imageItem(cluster, key, about, picture, el("span", { "aria-hidden": "true" }, confidence));
}

/** Return a list of images: one stop of the tab key, arrows within, Enter shows, the space bar selects. */
function imageList() {
  const made = el("ul", { className: "tiles" });
  const buttons = () => [...made.querySelectorAll("button")];
  made.addEventListener("click", (event) => {
    const button = event.target.closest(".pick");
    if (!button) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey) select(button.dataset.key, Number(button.dataset.cluster));
    else showImage(Number(button.dataset.cluster), button.dataset.key);
  });
  made.addEventListener("focusin", (event) => buttons().forEach((one) => (one.tabIndex = one === event.target ? 0 : -1)));
  made.addEventListener("keydown", (event) => {
    if (event.key === " ") select(event.target.dataset.key, Number(event.target.dataset.cluster));
    else {
      const all = buttons();
      const place = all.indexOf(event.target);
      const columns = getComputedStyle(made).gridTemplateColumns.split(" ").length;
      const next = { ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: place - columns, ArrowDown: place + columns, Home: 0, End: all.length - 1 }[event.key];
      if (next === undefined) return;
      all[next]?.focus();
    }
    event.preventDefault();
  });
  return made;
}
