// A section for each cluster: searched, filtered and sorted; built some at a time, their pictures when they are near.

const BUILT_AT_ONCE = 60;
const clusterOrder = { shown: [], built: 0 };

const withLabels = data.clusters.labelled.some(Boolean);
const shareOf = (cluster) => {
  const { classes, labelled } = data.clusters;
  return labelled[cluster] ? classes[cluster][0][1] / labelled[cluster] : 0;
};

const SORTS = {
  number: ["number", (a, b) => a - b],
  name: ["name", (a, b) => (nameOf(a) ?? "\uffff").localeCompare(nameOf(b) ?? "\uffff", "en", { numeric: true })],
  large: ["size, largest first", (a, b) => data.clusters.size[b] - data.clusters.size[a]],
  small: ["size, smallest first", (a, b) => data.clusters.size[a] - data.clusters.size[b]],
  sure: ["confidence, highest first", (a, b) => (data.clusters.confidence[b] ?? -1) - (data.clusters.confidence[a] ?? -1)],
  unsure: ["confidence, lowest first", (a, b) => (data.clusters.confidence[a] ?? 2) - (data.clusters.confidence[b] ?? 2)],
  ...(withLabels && {
    pure: ["majority's share, highest first", (a, b) => shareOf(b) - shareOf(a)],
    mixed: ["majority's share, lowest first", (a, b) => shareOf(a) - shareOf(b)],
  }),
};
const FILTERS = {
  all: ["all clusters", () => true],
  used: ["with images", (cluster) => data.clusters.size[cluster] > 0],
  empty: ["empty", (cluster) => data.clusters.size[cluster] === 0],
  named: ["with a name", (cluster) => nameOf(cluster) !== null],
  unnamed: ["without a name", (cluster) => nameOf(cluster) === null],
  aside: ["junk, or joined to another", (cluster) => nameOf(cluster) === "junk" || joinedTo(cluster) !== undefined],
  unsure: ["mean confidence under 50%", (cluster) => data.clusters.size[cluster] > 0 && data.clusters.confidence[cluster] < 0.5],
  ...(withLabels && { mixed: ["majority under 50%", (cluster) => data.clusters.labelled[cluster] > 0 && shareOf(cluster) < 0.5] }),
};

const haystacks = new Map();
const SAID = 0.01; // the share from which on a class is said of a cluster

/** Return what a cluster is found by: its name, its classes, the keys of its pictures. */
function haystack(cluster) {
  if (!haystacks.has(cluster)) {
    const { classes, labelled } = data.clusters;
    const names = classes[cluster].filter(([, n], i) => i < 3 || n / labelled[cluster] >= SAID).map(([label]) => className(label));
    haystacks.set(cluster, [nameOf(cluster) ?? "", ...names, ...data.tiles[cluster].keys].map(plainText));
  }
  return haystacks.get(cluster);
}

/** Tell whether a search finds a cluster: by its number, or by words of which each is a part of one text about it. */
function matches(cluster, text) {
  if (!text) return true;
  const texts = haystack(cluster);
  if (/^\d{1,5}$/.test(text)) return Number(text) === cluster || texts[0] === text || texts[1] === text;
  const words = text.split(/\s+/);
  return `cluster ${cluster}` === text || texts.some((one) => words.every((word) => one.includes(word)));
}

const MOST_HITS = 8;
let placesOfClasses = null;

/** Show which classes a search finds, and the clusters that they are in. */
function showClasses(text) {
  if (!withLabels) return;
  if (!placesOfClasses) {
    placesOfClasses = data.classes.map(() => []);
    data.clusters.classes.forEach((row, cluster) => row.forEach(([label, n]) => placesOfClasses[label]?.push([cluster, n])));
  }
  const words = text.split(/\s+/);
  const found = !text || /^\d+$/.test(text) ? [] : data.classes.map((name, label) => [plainText(name), label])
    .filter(([name, label]) => placesOfClasses[label].length && words.every((word) => name.includes(word)));
  $("classes-found").replaceChildren(...found.slice(0, MOST_HITS).map(([, label]) => {
    const places = [...placesOfClasses[label]].sort((a, b) => b[1] - a[1]);
    const total = places.reduce((sum, [, n]) => sum + n, 0);
    return el("li", {}, `“${className(label)}”, ${images(total)}:`, ...places.slice(0, 5).flatMap(([cluster, n], i) =>
      [i ? ", " : " ", el("a", { href: `#cluster-${cluster}` }, callCluster(cluster)), ` (${percent(n / total)})`]), places.length > 5 ? ", …" : "");
  }), ...(found.length > MOST_HITS ? [el("li", {}, `and ${count(found.length - MOST_HITS)} more classes`)] : []));
}

function tileItem(cluster, place) {
  const { keys, confidence, labels, second } = data.tiles[cluster];
  const doubtful = place >= data.tiles[cluster].surest;
  const next = doubtful && second && second[place] >= 0 ? second[place] : null;
  const words = [keys[place], `confidence ${figure(confidence[place])}`];
  if (next !== null) words.push(`second choice ${callCluster(next)}`);
  if (withLabels) words.push(labels[place] < 0 ? "no label" : `label ${className(labels[place])}`);
  const about = words.join(", ");
  return imageItem(cluster, keys[place], about, tile(`sheet-${cluster}`, place, keys.length, about),
    el("span", { "aria-hidden": "true" }, confidence[place].toFixed(2) + (next === null ? "" : ` → ${next}`)));
}

/** Print one cluster, with what of it is open. */
function printCluster(cluster) {
  document.documentElement.dataset.only = cluster;
  $(`cluster-${cluster}`).classList.add("only");
  print();
}

function actions(cluster) {
  const { size } = data.clusters;
  const hidden = () => el("span", { className: "hidden" }, `: cluster ${cluster}`);
  const button = (text, call, options = {}) => el("button", { type: "button", onclick: call, ...options }, text, hidden());
  return el("div", { className: "actions" },
    data.map && size[cluster] ? button("Show on the map", () => showOnMap(cluster)) : null,
    button("Name", () => toggleNaming(cluster), { className: "name-it", "aria-expanded": "false" }),
    size[cluster] ? button(`All ${images(size[cluster])}`, () => toggleMembers(cluster), { className: "all-images", "aria-expanded": "false" }) : null,
    size[cluster] ? button("Select all", () => selectAll(cluster)) : null,
    size[cluster] ? button("Print", () => printCluster(cluster)) : null);
}

function clusterSection(cluster) {
  const { size, confidence, labelled, classes, near, second, colour } = data.clusters;
  const swatch = el("span", { className: "swatch", "aria-hidden": "true" });
  swatch.dataset.mark = colour[cluster];
  swatch.classList.add(SHAPES[markShape(colour[cluster])]);
  swatch.style.backgroundColor = markColour(colour[cluster]);
  const title = el("h3", { id: `cluster-${cluster}-title`, tabIndex: -1 }, swatch, `Cluster ${cluster}`, el("span", { className: "called" }));
  const facts = [images(size[cluster])];
  if (size[cluster]) facts.push(`mean confidence ${figure(confidence[cluster])}`);
  if (labelled[cluster]) {
    facts.push(classes[cluster].slice(0, 3).filter(([, n], i) => !i || n / labelled[cluster] >= 0.01)
      .map(([label, n]) => `${percent(n / labelled[cluster])} “${className(label)}”`).join(", "));
  }
  const made = el("article", { id: `cluster-${cluster}`, className: "cluster", "aria-labelledby": title.id },
    el("header", {}, title, el("p", {}, facts.join(" · ")), el("p", { className: "joined" }), actions(cluster)));
  if (!size[cluster]) {
    made.append(el("p", { className: "empty" }, "No image has this cluster."));
    return made;
  }
  const { keys, surest } = data.tiles[cluster];
  const group = (name, from, to) => {
    const tiles = imageList();
    return [el("div", { className: from ? "doubtful" : "surest" }, el("h4", {}, name), tiles), () => {
      for (let place = from; place < to; place++) tiles.append(tileItem(cluster, place));
      tiles.querySelector("button").tabIndex = 0;
    }];
  };
  const groups = [group("Most confident", 0, surest)];
  if (keys.length > surest) groups.push(group("Most doubtful", surest, keys.length));
  made.append(el("div", { className: "samples" }, ...groups.map(([node]) => node)));
  whenNear(made, () => groups.forEach(([, fill]) => fill()));
  const links = (pairs, text) => pairs.flatMap(([one, value], i) =>
    [i ? ", " : " ", el("a", { href: `#cluster-${one}` }, String(one)), nameOf(one) === null ? "" : ` “${nameOf(one)}”`, ` (${text(value)})`]);
  const line = el("p", { className: "near" });
  if (near?.[cluster].length) line.append("Nearest by features (cosine):", ...links(near[cluster], (value) => value.toFixed(2)), ". ");
  if (second?.[cluster].length) line.append("Second choices:", ...links(second[cluster], (n) => percent(n / size[cluster])), ". ");
  if (line.childNodes.length) made.append(line);
  return made;
}

function buildMore(until = clusterOrder.built + BUILT_AT_ONCE) {
  const { shown, built } = clusterOrder;
  const next = shown.slice(built, until);
  $("list").append(...next.map(clusterSection));
  next.forEach(refreshName);
  clusterOrder.built = built + next.length;
  const left = shown.length - clusterOrder.built;
  $("more").hidden = left === 0;
  $("more").textContent = `Show ${Math.min(left, BUILT_AT_ONCE)} more of ${count(left)}`;
}

function refreshClusters() {
  const text = plainText($("search").value.trim());
  const [, keep] = FILTERS[$("show").value];
  const [, compare] = SORTS[$("sort").value];
  const total = data.clusters.size.length;
  clusterOrder.shown = data.clusters.size.map((_, cluster) => cluster)
    .filter((cluster) => keep(cluster) && matches(cluster, text)).sort((a, b) => compare(a, b) || a - b);
  clusterOrder.built = 0;
  $("list").replaceChildren();
  buildMore();
  showClasses(text);
  const found = clusterOrder.shown.length;
  $("found").textContent = found === total ? clustersOf(total) : `${count(found)} of ${clustersOf(total)}`;
  if (!found) $("list").append(el("p", { className: "empty" }, "No cluster fits. Change the search or what is shown."));
}

/** Bring a cluster's section into view, whatever is searched for at the moment, and move the focus there. */
function revealCluster(cluster) {
  if (!(cluster in data.clusters.size)) return;
  if (!clusterOrder.shown.includes(cluster)) {
    $("search").value = "";
    $("show").value = "all";
    refreshClusters();
  }
  const place = clusterOrder.shown.indexOf(cluster);
  if (place >= clusterOrder.built) buildMore(place + 1);
  history.replaceState(null, "", `#cluster-${cluster}`);
  const section = $(`cluster-${cluster}`);
  section.scrollIntoView({ behavior: "instant" });
  section.querySelector("h3").focus({ preventScroll: true });
}

function startClusters() {
  const told = [["majority", withLabels], ["doubtful", true], ["cosine", data.clusters.near], ["second", data.clusters.second]].filter(([, is]) => is);
  $("clusters-lead").append(" What is told of each: ", ...told.flatMap(([name], i) => [i ? ", " : "", explained(WORDS[name][0], name)]), ".");
  $("show").append(...Object.entries(FILTERS).map(([value, [title]]) => el("option", { value }, title)));
  $("sort").append(...Object.entries(SORTS).map(([value, [title]]) => el("option", { value }, title)));
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("search").addEventListener("input", refreshClusters);
  for (const id of ["show", "sort"]) $(id).addEventListener("change", refreshClusters);
  $("more").addEventListener("click", () => {
    const first = clusterOrder.built;
    buildMore();
    $("list").children[first].querySelector("h3").focus();
  });
  new IntersectionObserver((entries) => entries[0].isIntersecting && buildMore(), { rootMargin: "1200px" }).observe($("more"));
  document.addEventListener("click", (event) => {
    const hash = event.target.closest?.("a[href^='#cluster-']")?.hash;
    if (!hash) return;
    event.preventDefault();
    revealCluster(Number(hash.slice(9)));
  });
  onColours(() => document.querySelectorAll(".swatch").forEach((swatch) => {
    swatch.style.backgroundColor = markColour(Number(swatch.dataset.mark));
  }));
  refreshClusters();
  const wanted = /^#cluster-(\d+)$/.exec(location.hash);
  if (wanted) revealCluster(Number(wanted[1]));
}
