// Figures and facts of a run; beside a second run, those of both, and how clusters of one map onto the other's.

const FIGURES = ["acc", "nmi", "ari", "purity", "f", "images", "used", "effective_clusters", "entropy", "largest", "confidence", "information",
  "stability", "labelled", "undecodable"];
const COUNTED = ["images", "used", "labelled", "undecodable"];

function shownFigure(name, value) {
  if (value === undefined) return "–";
  if (name === "largest") return `${(value * 100).toFixed(1)}%`;
  return COUNTED.includes(name) ? count(value) : figure(value);
}

function startOverview() {
  const facts = Object.fromEntries(run.facts);
  $("subtitle").textContent = `${facts.Data} · ${facts.Backbone} · ${facts.Checkpoint}`;
  const told = { undecodable: (figures) => figures.undecodable > 0, labelled: (figures) => figures.labelled < figures.images };
  const names = FIGURES.filter((name) => run.figures[name] !== undefined && (told[name]?.(run.figures) ?? true));
  const clusters = data.clusters.size.length;
  const most = `, ${figure(Math.log(clusters))} at most`;
  const titles = { entropy: WORDS.entropy[0] + most, information: WORDS.information[0] + most, used: `of ${clustersOf(clusters)} ${run.figures.used === 1 ? "has" : "have"} images` };
  const tiles = names.map((name) => el("div", {}, el("dt", {}, titles[name] ?? WORDS[name][0]), el("dd", {}, shownFigure(name, run.figures[name]), why(name))));
  if (data.warnings.length) {
    $("figures").append(el("ul", { className: "warnings" }, ...data.warnings.map((text) => el("li", {}, text))));
  }
  $("figures").append(el("dl", { className: "figures" }, ...tiles),
    el("dl", { className: "facts" }, ...run.facts.map(([title, text]) => el("div", {}, el("dt", {}, title), el("dd", {}, text)))));
  if (data.heads.length) startHeads();
  $("about").textContent = "Made by ccscale report. The file is self-contained and fetches nothing. Most confident: highest soft " +
    "assignment to the cluster. Most doubtful: " + (data.clusters.second ? "smallest margin over the second choice." : "lowest soft assignment.");
  if (other) startComparison(names);
}

/** Show what is known of all cluster heads, of which one made these clusters. */
function startHeads() {
  const columns = [["of", "of"], ["clusters", "K"], ["loss", "loss"], ["stability", "stability"], ["kappa", "kappa"], ["empty", "empty"], ["largest", "largest"],
    ["information", "information"], ["acc", "ACC"], ["nmi", "NMI"], ["ari", "ARI"]].filter(([name]) => name in data.heads[0]);
  const shown = (name, value) => (value === null ? "–" : name === "of" ? value : ["clusters", "empty"].includes(name) ? count(value) : shownFigure(name, value));
  const state = (head) => (head.serves ? "serves" : head.chosen ? "chosen of its K" : "");
  const rows = data.heads.map((head) => [String(head.head), ...columns.map(([name]) => shown(name, head[name])), state(head)]);
  const titles = [["head", true], ...columns.map(([name, title]) => [explained(title, name), name === "of"]), ["", true]];
  $("figures").append(tableDetails(`Cluster heads: ${data.heads.length}, chosen by ${"kappa" in data.heads[0] ? "the kappa of neighbours" : "loss and stability"}, without labels`,
    () => table("Cluster heads", titles, rows)));
}

function startComparison(names) {
  $("compare").hidden = false;
  const { images: common, nmi, ari, rows, sizes } = data.compare;
  $("compare-lead").textContent = `With ${other.name}: ${images(common)} in both. The two clusterings agree with NMI ${figure(nmi)} and ARI ${figure(ari)}.`;
  const difference = (name) => {
    const change = run.figures[name] - (other.figures[name] ?? NaN);
    if (Number.isNaN(change)) return "–";
    const size = Math.abs(change);
    const text = COUNTED.includes(name) || name === "largest" ? shownFigure(name, size) : size.toFixed(3);
    return (change > 0 ? "+" : change < 0 ? "−" : "") + text;
  };
  const settings = run.facts.filter(([title, text]) => Object.fromEntries(other.facts)[title] !== text);
  const figures = table("Figures", [["figure", true], [run.name], [other.name], ["difference"]], names.map((name) =>
    [explained(WORDS[name][0], name), shownFigure(name, run.figures[name]), shownFigure(name, other.figures[name]), difference(name)]));
  const differ = table("Where the runs differ", [["setting", true], [run.name, true], [other.name, true]], settings.map(([title, text]) =>
    [title, text, Object.fromEntries(other.facts)[title] ?? "–"]));
  const wide = Math.max(...rows.flatMap((row) => row.map(([column]) => column)), -1) + 1;
  const columnNames = Array.from({ length: wide }, (_, cluster) => String(cluster));
  $("compare-body").append(el("div", { className: "beside" }, figures, ...(settings.length ? [differ] : [])),
    el("h3", {}, "Clusters onto clusters"), matrix({
      caption: `Images by clusters of ${run.name} (rows) and of ${other.name} (columns).`, rowName: CallCluster,
      columnNames, columnTitle: `${other.name}'s cluster`, cells: rows, totals: sizes,
    }));
}
