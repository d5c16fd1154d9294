// Images that are chosen in the page, saved as a table; and the bar that tells of them, and of names not saved.

const selection = new Map(); // key -> cluster

/** Select an image, or no longer. */
function select(key, cluster, wanted = !selection.has(key)) {
  if (wanted) selection.set(key, cluster);
  else selection.delete(key);
  refreshBar();
}

async function selectAll(cluster) {
  const { keys } = await membersOf(cluster);
  const wanted = !keys.every((key) => selection.has(key));
  keys.forEach((key) => (wanted ? selection.set(key, cluster) : selection.delete(key)));
  refreshBar();
  say(`${images(selection.size)} selected`);
}

function refreshBar() {
  document.querySelectorAll(".pick").forEach((button) => button.setAttribute("aria-pressed", String(selection.has(button.dataset.key))));
  $("bar").hidden = !selection.size && !naming.changed.size;
  $("bar-selection").hidden = !selection.size;
  $("bar-names").hidden = !naming.changed.size;
  $("selected").textContent = `${images(selection.size)} selected`;
  $("unsaved").textContent = `Names of ${clustersOf(naming.changed.size)}, not saved`;
}

/** Hand a file to the reader, out of the page's memory. */
function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  say(`Saved ${name}`);
}

/** Write a cell of a CSV; what a spreadsheet would take for a formula gets a ' in front. */
function cell(value) {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

async function saveSelection() {
  const rows = [["key", "origin", "cluster", "name", "confidence"]];
  for (const cluster of [...new Set(selection.values())].sort((a, b) => a - b)) {
    const { keys, confidence, origins } = await membersOf(cluster);
    const place = new Map(keys.map((key, i) => [key, i]));
    for (const [key, of] of selection) {
      if (of !== cluster) continue;
      const i = place.get(key);
      rows.push([key, origins?.[i], cluster, nameOf(cluster), i === undefined ? "" : confidence[i] / 1000]);
    }
  }
  const text = rows.map((row) => row.map((value, i) => (i === 4 || i === 2 ? value : cell(value))).join(",")).join("\n");
  download("selection.csv", "text/csv", text + "\n");
}

function startSelection() {
  $("save-selection").addEventListener("click", saveSelection);
  $("copy-keys").addEventListener("click", () => copy([...selection.keys()].join("\n"), images(selection.size)));
  $("clear-selection").addEventListener("click", () => (selection.clear(), refreshBar()));
  $("save-names").addEventListener("click", saveNames);
  addEventListener("beforeunload", (event) => naming.changed.size && event.preventDefault());
}

/** Copy a text; where a browser does not allow that, a reader can still mark it. */
async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${what}`);
  } catch {
    say("This browser does not let the page copy");
  }
}
