// Living clusters over their versions: counts and sizes as curves, what happened, what came in, what waits for an answer.

const DRIFT = ["features", "confidence", "sizes", "unassigned"]; // as `drift.py` has them
const LANES = 30; // clusters whose lives are drawn
const EVENTS = { founded: "founded", born: "born", split: "split", merged: "merged", retired: "retired" };

const nameOfId = (id) => data.lineage.names[id] ?? null;
const callId = (id) => `${id}` + (nameOfId(id) === null ? "" : ` “${nameOfId(id)}”`);
const callIds = (ids) => (ids.length > 8 ? `${ids.slice(0, 8).map(callId).join(", ")} and ${count(ids.length - 8)} more` : ids.map(callId).join(", "));
const became = ({ kind, others }) => EVENTS[kind] + (others.length ? ` ${kind === "merged" ? "into" : "from"} ${callIds(others)}` : "");

function startTimeline() {
  const told = data.lineage;
  if (!told) return;
  $("timeline").hidden = false;
  const { versions, sizes } = told;
  const now = versions.at(-1);
  const alive = Object.keys(sizes).filter((id) => sizes[id].at(-1) !== null).length;
  $("timeline-lead").append(`Version ${told.current}`, why("versions"), ` of ${now.when.slice(0, 10)}: ${clustersOf(alive)} of ${images(now.images)}, ` +
    `${count(now.unassigned)} of them without a cluster. The first ids were those of the network, whose clusters the sections below are of.` +
    (told.left_out ? ` ${count(told.left_out)} older versions are not shown.` : "") +
    (told.rolled_back.length ? ` Rolled back: ${told.rolled_back.join(", ")}.` : ""));
  $("timeline-body").append(lastUpdate(told), timelinePanels(told), lanes(told), whatHappened(versions), ...whatWaits(told), sideBySide(told));
}

/** Tell what came with the last version that took images in. */
function lastUpdate({ versions, shards, newest }) {
  const last = versions.findLast((version) => version.new && version.why !== "init");
  if (!last) return el("p", {}, "No new images have come in yet: `ccscale update RUN --shards NEW`.");
  const alarms = Object.values(last.alarms);
  const made = el("div", {}, el("p", {}, `The last update, version ${last.number}, took in ${images(last.new)} of ${last.data.join(", ")}: ` +
    `${count(last.new - last.new_unassigned)} got a cluster, ${count(last.new_unassigned)} (${percent(last.new_unassigned / last.new)}) fit nowhere.`));
  if (alarms.length) made.append(el("ul", { className: "warnings" }, ...alarms.map((text) => el("li", {}, text))));
  const rows = shards.filter((one) => one.version === last.number).map((one) =>
    [one.shard, count(one.images), count(one.unassigned), percent(one.unassigned / Math.max(one.images, 1)),
      ...DRIFT.map((name) => (one.drift[name] === undefined ? "–" : `${figure(one.drift[name])} (${figure(one.drift[`${name}_chance`])})`)), one.drift.alarm ?? "–"]);
  made.append(tableDetails("Its shards as a table", () => table("Shards of the last update", [["shard", true], ["images"], ["without a cluster"], ["share"], ...DRIFT.map((name) => [`${name} (chance)`]), ["alarm", true]], rows)));
  const TITLES = { unassigned: "Images that fit no cluster", assigned: "Images that got a cluster, with its id" };
  const groups = Object.entries(TITLES).filter(([kind]) => newest[kind]?.length).map(([kind, title]) => {
    const tiles = el("ul", { className: "tiles" });
    const group = el("div", { className: "all" }, el("h4", {}, title), tiles);
    whenNear(group, () => newest[kind].forEach((id, place) => {
      const about = id < 0 ? "new image without a cluster" : `new image of cluster ${callId(id)}`;
      tiles.append(el("li", { title: about }, tile(`newest-${kind}`, place, newest[kind].length, about), id < 0 ? "" : callId(id)));
    }));
    return group;
  });
  made.append(...groups);
  return made;
}

function timelinePanels(told) {
  const { versions, sizes, shards } = told;
  const x = versions.map((version) => version.number);
  const line = (name, y, at = x) => {
    const there = y.map((value, i) => [at[i], value]).filter(([, value]) => value !== null && value !== undefined);
    return { name, run: 0, every: 1, x: there.map(([place]) => place), y: there.map(([, value]) => value) };
  };
  const panels = [
    { title: "Images over versions", series: [line("with a cluster", versions.map((version) => version.assigned)), line("without", versions.map((version) => version.unassigned))] },
    { title: "Clusters over versions", series: [line("clusters", x.map((_, i) => Object.values(sizes).filter((row) => row[i] !== null).length))] },
  ];
  const measured = shards.filter(({ drift }) => drift.unassigned !== undefined);
  if (measured.length) {
    const at = measured.map((_, i) => i + 1);
    const limit = (name) => percent(told.alarm[name]);
    const drift = (title, names, note) => {
      const series = names.map((name) => line(name === "unassigned" ? "without a cluster" : name, measured.map((one) => one.drift[name]), at)).filter((one) => one.x.length);
      if (series.length) panels.push({ title, why: "drift", over: "shard", note, series });
    };
    drift("Drift: within clusters", ["features", "confidence"], `By shard, as they came in; 0.5 is none. An alarm from ${limit("features")} on, if it is beyond chance.`);
    drift("Drift: sizes, and images that fit no cluster", ["sizes", "unassigned"], `By shard. An alarm from ${limit("sizes")} and ${limit("unassigned")} on, if it is beyond chance.`);
  }
  return el("div", { className: "panels" }, ...panels.map((panel) => chartPanel({ over: "version", linear: true, zero: true, ...panel })));
}

/** Draw the lives of clusters: a lane each, as wide as it is large; what was born, split or merged joins its lane. */
function lanes({ versions, sizes }) {
  const touched = new Map();
  versions.forEach(({ events }) => events.filter(({ kind }) => kind !== "founded").forEach(({ ids, others }) =>
    [...ids, ...others].forEach((id) => touched.set(String(id), (touched.get(String(id)) ?? 0) + 1))));
  const most = (id) => Math.max(0, ...sizes[id].filter((size) => size !== null));
  const chosen = Object.keys(sizes).sort((a, b) => (touched.get(b) ?? 0) - (touched.get(a) ?? 0) || most(b) - most(a)).slice(0, LANES).sort((a, b) => a - b);
  const high = Math.max(1, ...chosen.map(most));
  const left = 112, lane = 20, top = 20;
  const plot = el("div", { className: "plot", role: "img", "aria-label": `Lives of ${clustersOf(chosen.length)} over ${count(versions.length)} versions; the table of two versions has the numbers.` });
  onWidth(plot, (width) => {
    const step = (width - left - 32) / Math.max(versions.length - 1, 1);
    const x = (place) => Math.min(left + place * step, width - 8);
    const y = (id) => top + (chosen.indexOf(String(id)) + 0.5) * lane;
    const half = (size) => 0.75 + (lane / 2 - 2.5) * Math.sqrt(size / high);
    const root = svg("svg", { viewBox: `0 0 ${width} ${top + chosen.length * lane}`, height: top + chosen.length * lane });
    ticks(0, versions.length - 1, Math.max(2, Math.floor(width / 120))).filter(Number.isInteger).forEach((place) => {
      root.append(svg("line", { class: "grid", x1: x(place), x2: x(place), y1: top, y2: top + chosen.length * lane }),
        svg("text", { x: x(place), y: 12, "text-anchor": "middle" }, String(versions[place].number)));
    });
    for (const id of chosen) {
      const there = sizes[id].map((size, place) => [size, place]).filter(([size]) => size !== null);
      if (!there.length) continue;
      const [size, end] = there.at(-1);
      there.push([size, end + 1]); // to where it was merged, or a little further than the last version
      const edge = (sign) => there.map(([size, place]) => `${x(place).toFixed(1)} ${(y(id) + sign * half(size)).toFixed(1)}`);
      const [[first], [last]] = [there[0], there.at(-1)];
      root.append(svg("path", { class: "lane", d: `M${[...edge(-1), ...edge(1).reverse()].join("L")}z` }, svg("title", {}, `${callId(id)}: from ${images(first)} to ${images(last)}`)));
      const text = callId(id);
      root.append(svg("text", { x: 0, y: y(id) + 4 }, text.length > 16 ? `${text.slice(0, 15)}…` : text));
    }
    versions.forEach(({ number, events }, place) => events.filter(({ kind }) => kind !== "founded").forEach(({ kind, ids, others }) => {
      for (const id of ids.filter((one) => chosen.includes(String(one)))) {
        const title = svg("title", {}, `${callId(id)} ${EVENTS[kind]} in version ${number}`);
        for (const one of others.filter((one) => chosen.includes(String(one)))) root.append(svg("line", { class: "axis", x1: x(place), x2: x(place), y1: y(id), y2: y(one) }));
        root.append(svg("circle", { class: `dot ${{ born: "s2", split: "s0" }[kind] ?? "s1"}`, cx: x(place), cy: y(id), r: 5 }, title));
      }
    }));
    plot.replaceChildren(root);
  });
  return el("div", {}, el("h3", {}, "Lives of clusters"), el("p", { className: "lead" }, `${chosen.length < Object.keys(sizes).length ? `${count(chosen.length)} of ${count(Object.keys(sizes).length)}, those with changes and the largest. ` : ""}` +
    "The width of a lane is the size of its cluster. Dots: green, born; blue, split; orange, merged or retired."), plot);
}

function whatHappened(versions) {
  const words = (event) => event.sentence || `${callIds(event.ids)} ${became(event)}, ${images(event.images)}`;
  const lines = [...versions].reverse().map((version) => el("li", {},
    el("strong", {}, `Version ${version.number}`), ` ${version.when.slice(0, 16).replace("T", " ")}, ${version.asked || version.why}`,
    version.new ? `: ${images(version.new)} came in, ${count(version.new_unassigned)} without a cluster` : "",
    version.changed ? `; ${images(version.changed)} ${version.changed === 1 ? "has" : "have"} another id` : "",
    version.events.length ? el("ul", {}, ...version.events.map((event) => el("li", {}, words(event)))) : ""));
  return el("div", {}, el("h3", {}, "What happened"), el("div", { className: "scroll", tabindex: "0", role: "region", "aria-label": "What happened" }, el("ol", { className: "happened" }, ...lines)));
}

/** Show the proposals that are open, and how they are answered. */
function whatWaits({ proposals, run }) {
  if (!proposals.length) return [];
  const KINDS = { birth: "A birth", merge: "A merge", split: "A split" };
  const shown = proposals.map((one) => {
    const facts = Object.entries(one.facts).filter(([, value]) => ["number", "string"].includes(typeof value));
    const made = el("article", { className: "proposal", "aria-label": `Proposal ${one.id}` },
      el("h4", {}, `${one.id}: ${KINDS[one.kind]}${one.ids.length ? ` of ${callIds(one.ids)}` : ""}, ${images(one.images)}, since version ${one.since}`),
      el("p", {}, one.sentence),
      facts.length ? el("p", { className: "near" }, facts.map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? figure(value) : value}`).join(" · ")) : null,
      el("p", { className: "near" }, el("code", {}, `ccscale lineage accept ${run} ${one.id}`), " or ", el("code", {}, `ccscale lineage refuse ${run} ${one.id}`)));
    if (one.picture) {
      whenNear(made, async () => {
        const text = await block(`proposal-${one.id}`);
        made.append(el("img", { src: URL.createObjectURL(new Blob([bytes(text)], { type: "image/png" })), alt: `Images of proposal ${one.id}` }));
      });
    }
    return made;
  });
  return [el("h3", {}, `What waits for an answer: ${count(proposals.length)}`), ...shown];
}

/** Compare two versions, cluster by cluster. */
function sideBySide({ versions, sizes }) {
  const choice = (label, chosen) => {
    const made = el("select", {}, ...versions.map((version, i) => el("option", { value: String(i) }, `${version.number} (${version.when.slice(0, 10)}, ${version.why})`)));
    made.value = String(chosen);
    return [made, el("label", {}, label, made)];
  };
  const [one, oneLabel] = choice("Version", 0);
  const [two, twoLabel] = choice("beside version", versions.length - 1);
  const body = el("div");
  const refresh = () => {
    const [a, b] = [Number(one.value), Number(two.value)];
    const [first, last] = [Math.min(a, b), Math.max(a, b)];
    const said = new Map();
    for (const version of versions.slice(first + 1, last + 1)) {
      for (const event of version.events) {
        event.ids.forEach((id) => said.set(id, [...(said.get(id) ?? []), `${became(event)} (version ${version.number})`]));
      }
    }
    const ids = Object.keys(sizes).filter((id) => sizes[id][a] !== null || sizes[id][b] !== null);
    const difference = (id) => (sizes[id][b] ?? 0) - (sizes[id][a] ?? 0);
    ids.sort((x, y) => Math.abs(difference(y)) - Math.abs(difference(x)) || x - y);
    const signed = (n) => (n > 0 ? "+" : n < 0 ? "−" : "") + count(Math.abs(n));
    const size = (value) => (value === null ? "–" : count(value));
    const rows = ids.map((id) => [callId(id), size(sizes[id][a]), size(sizes[id][b]), signed(difference(id)), said.get(Number(id))?.join("; ") ?? ""]);
    const [left, right] = [versions[a], versions[b]];
    rows.unshift(["all images", count(left.images), count(right.images), signed(right.images - left.images), ""],
      ["without a cluster", count(left.unassigned), count(right.unassigned), signed(right.unassigned - left.unassigned), ""]);
    body.replaceChildren(el("div", { className: "scroll", tabindex: "0", role: "region", "aria-label": "Two versions" },
      table(`Version ${left.number} beside version ${right.number}, in images`, [["cluster", true], [`version ${left.number}`], [`version ${right.number}`], ["difference"], ["what happened between", true]], rows)));
  };
  for (const select of [one, two]) select.addEventListener("change", refresh);
  whenNear(body, refresh);
  return el("div", {}, el("h3", {}, "Two versions side by side"), el("div", { className: "controls" }, oneLabel, twoLabel), body);
}
