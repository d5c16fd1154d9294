// What clusters are called: by people, in this page and before; else by given labels. Saved as a file of names.

const naming = {
  said: new Map(Object.entries(data.names.clusters).map(([cluster, said]) => [Number(cluster), said])),
  changed: new Set(), // since the file was saved
};
const MOST_LETTERS = 200; // of a name
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\p{Cs}]/gu; // what no name has: line ends, turns of the direction

function wholeOf(cluster) {
  for (let into; (into = naming.said.get(cluster)?.into) !== undefined; ) cluster = into;
  return cluster;
}

/** Return what a cluster is called, as `cluster_names.py` has it; null where it has no name. */
function nameOf(cluster) {
  const whole = wholeOf(cluster);
  if (naming.said.get(cluster)?.junk || naming.said.get(whole)?.junk) return "junk";
  return naming.said.get(whole)?.name ?? data.names.labels?.[whole] ?? (whole === cluster ? null : String(whole));
}

const joinedTo = (cluster) => naming.said.get(cluster)?.into;
const callCluster = (cluster) => `cluster ${cluster}` + (nameOf(cluster) === null ? "" : ` “${nameOf(cluster)}”`);
const CallCluster = (cluster) => "C" + callCluster(cluster).slice(1);

/** Say something of a cluster in place of all that was said of it: name, into, junk. */
function sayOf(cluster, said) {
  const kept = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined && value !== "" && value !== false));
  if (JSON.stringify(kept) === JSON.stringify(naming.said.get(cluster) ?? {})) return;
  if (Object.keys(kept).length) naming.said.set(cluster, kept);
  else naming.said.delete(cluster);
  naming.changed.add(cluster);
  document.querySelectorAll("#list > article").forEach((section) => refreshName(Number(section.id.slice(8))));
  haystacks.clear();
  refreshBar();
}

/** Write what a cluster is called into its section. */
function refreshName(cluster) {
  const section = $(`cluster-${cluster}`);
  const own = naming.said.get(cluster);
  const name = nameOf(cluster);
  section.querySelector(".called").textContent = name === null ? "" : ` · ${name}`;
  const whole = joinedTo(cluster);
  const parts = [...naming.said].filter(([, said]) => said.into === cluster).map(([one]) => one);
  const total = [cluster, ...parts].reduce((sum, one) => sum + data.clusters.size[one], 0);
  const lines = [
    whole !== undefined && `joined to cluster ${whole}`, own?.junk && own.name && `was “${own.name}”`,
    parts.length && `with ${parts.map((one) => `cluster ${one}`).join(", ")}: ${images(total)}`,
  ].filter(Boolean);
  section.querySelector(".joined").textContent = lines.join(" · ");
  section.classList.toggle("set-aside", name === "junk");
}

/** Return the cluster that a text names: by its number or its name; null for none. */
function clusterCalled(text) {
  if (/^\d+$/.test(text)) return Number(text) in data.clusters.size ? Number(text) : null;
  const wanted = plainText(text);
  const found = data.clusters.size.findIndex((_, cluster) => joinedTo(cluster) === undefined && plainText(nameOf(cluster) ?? "") === wanted);
  return found < 0 ? null : found;
}

/** Open or close what names a cluster. */
function toggleNaming(cluster) {
  const section = $(`cluster-${cluster}`);
  const button = section.querySelector(".name-it");
  const open = section.querySelector("form.naming");
  if (open) {
    open.remove();
    button.setAttribute("aria-expanded", "false");
    button.focus();
    return;
  }
  const own = naming.said.get(cluster) ?? {};
  const name = el("input", { type: "text", value: own.name ?? "", placeholder: data.names.labels?.[cluster] ?? "", maxLength: MOST_LETTERS, autocomplete: "off" });
  const into = el("input", { type: "text", value: own.into ?? "", placeholder: "none", autocomplete: "off", className: "short" });
  into.setAttribute("list", "cluster-names");
  $("cluster-names").replaceChildren(...data.clusters.size.map((_, one) => one).filter((one) => one !== cluster && joinedTo(one) === undefined)
    .map((one) => el("option", { value: String(one) }, nameOf(one) ?? "")));
  const junk = el("input", { type: "checkbox", checked: Boolean(own.junk) });
  const take = () => {
    const text = into.value.trim();
    const whole = text ? clusterCalled(text) : undefined;
    const wrong = whole === null ? "There is no such cluster" : whole !== undefined && (whole === cluster || wholeOf(whole) === cluster) ? "That is the same cluster, or joined to it" : "";
    into.setCustomValidity(wrong);
    if (wrong) return into.reportValidity();
    sayOf(cluster, { name: name.value.replace(UNSEEN, "").trim(), into: whole, junk: whole === undefined && junk.checked });
    return true;
  };
  const made = el("form", { className: "naming controls", "aria-label": `Name of cluster ${cluster}` },
    el("label", {}, "Name", name), el("label", {}, "Joined to cluster", into),
    el("label", { className: "check" }, junk, "Junk"),
    el("button", {}, "Done"),
    el("button", { type: "button", onclick: () => (sayOf(cluster, {}), toggleNaming(cluster)) }, "Take all back"));
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    if (take()) toggleNaming(cluster);
  });
  for (const field of [name, junk]) field.addEventListener("change", take);
  into.addEventListener("input", () => into.setCustomValidity(""));
  made.addEventListener("keydown", (event) => event.key === "Escape" && toggleNaming(cluster));
  section.querySelector("header").after(made);
  button.setAttribute("aria-expanded", "true");
  name.focus();
}

function saveNames() {
  const { format, version, basis } = data.names;
  const clusters = Object.fromEntries([...naming.said].sort(([a], [b]) => a - b));
  download("names.json", "application/json", JSON.stringify({ format, version, basis, clusters }, null, 1) + "\n");
  naming.changed.clear();
  refreshBar();
}
