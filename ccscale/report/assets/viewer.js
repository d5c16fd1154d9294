// One image, enlarged: its picture, its key and where it came from; arrows go on through its cluster.

const SWIPE = 60; // pixels

const viewer = { cluster: null, members: null, place: 0, from: null };

/** Show an image of a cluster; the list that is paged through is that of all its images. */
async function showImage(cluster, key) {
  viewer.from = document.activeElement;
  let members = await membersOf(cluster);
  if (!members.keys.includes(key)) { // a doubtful image of a cluster with more images than are listed
    const { keys, confidence, labels } = data.tiles[cluster];
    members = { keys, labels: withLabels ? labels : null, confidence: confidence.map((value) => value * 1000), pictures: keys.map((_, i) => i) };
  }
  Object.assign(viewer, { cluster, members, place: members.keys.indexOf(key) });
  $("viewer").showModal();
  refreshViewer();
}

function refreshViewer() {
  const { cluster, members, place } = viewer;
  const key = members.keys[place];
  const number = members.pictures[place];
  $("viewer-picture").replaceChildren(number < 0 ? el("p", {}, "This file has no picture of it.") : pictureOf(cluster, number, `Picture of ${key}`));
  $("viewer-key").textContent = key;
  const label = members.labels?.[place];
  const origin = members.origins?.[place];
  const address = /^(https?|file):\/\//.test(origin ?? "") ? origin : /^\//.test(origin ?? "") ? `file://${origin.split("/").map(encodeURIComponent).join("/")}` : null;
  const facts = [
    ["cluster", callCluster(cluster)], ["confidence", figure(members.confidence[place] / 1000)],
    label !== undefined && label !== null && ["label", className(label)],
    origin && ["from", address ? el("a", { href: address, target: "_blank", rel: "noreferrer" }, origin) : origin],
  ].filter(Boolean);
  $("viewer-facts").replaceChildren(...facts.map(([title, value]) => el("div", {}, el("dt", {}, title), el("dd", {}, value))));
  $("viewer-where").textContent = `${count(place + 1)} of ${count(members.keys.length)}` +
    (members.keys.length < data.clusters.size[cluster] ? `; the cluster has ${images(data.clusters.size[cluster])}` : "");
  $("viewer-back").disabled = place === 0;
  $("viewer-on").disabled = place === members.keys.length - 1;
  $("viewer-select").textContent = selection.has(key) ? "Selected" : "Select";
  $("viewer-select").setAttribute("aria-pressed", String(selection.has(key)));
}

function goTo(place) {
  viewer.place = Math.max(0, Math.min(viewer.members.keys.length - 1, place));
  refreshViewer();
  say(`${viewer.members.keys[viewer.place]}, ${$("viewer-where").textContent}`);
}

function startViewer() {
  const dialog = $("viewer");
  const pick = () => (select(viewer.members.keys[viewer.place], viewer.cluster), refreshViewer());
  $("viewer-back").addEventListener("click", () => goTo(viewer.place - 1));
  $("viewer-on").addEventListener("click", () => goTo(viewer.place + 1));
  $("viewer-select").addEventListener("click", pick);
  $("viewer-copy").addEventListener("click", () => {
    const { members, place } = viewer;
    copy(members.origins?.[place] ?? members.keys[place], "where it came from");
  });
  $("viewer-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => viewer.from?.isConnected && viewer.from.focus());
  let from = null; // where a finger was put down
  dialog.addEventListener("touchstart", (event) => (from = event.touches[0].clientX), { passive: true });
  dialog.addEventListener("touchend", (event) => {
    const way = event.changedTouches[0].clientX - from;
    if (Math.abs(way) > SWIPE) goTo(viewer.place + (way < 0 ? 1 : -1));
  });
  dialog.addEventListener("keydown", (event) => {
    const { place, members } = viewer;
    const next = { ArrowLeft: place - 1, ArrowUp: place - 1, ArrowRight: place + 1, ArrowDown: place + 1, PageUp: place - 10, PageDown: place + 10, Home: 0, End: members.keys.length - 1 }[event.key];
    if (next !== undefined) goTo(next);
    else if (event.key.toLowerCase() === "s" && !event.ctrlKey && !event.metaKey) pick();
    else return;
    event.preventDefault();
  });
}
