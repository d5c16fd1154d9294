// Sizes of the clusters, the largest first: a bar each, or a silhouette where they are many.

function startSizes() {
  const { size, confidence, labelled, classes } = data.clusters;
  const order = size.map((_, cluster) => cluster).sort((a, b) => size[b] - size[a] || a - b);
  const total = size.reduce((sum, value) => sum + value, 0);
  const high = Math.max(1, size[order[0]]);
  const mean = total / size.length;
  const used = size.filter(Boolean).length;
  $("sizes-lead").textContent =
    `The largest first; the dotted line is an equal share, ${figure(mean)} images. ` +
    `${count(used)} of ${clustersOf(size.length)} ${used === 1 ? "has" : "have"} images. A click, or Enter, goes to the cluster.`;
  const plot = el("div", { className: "plot" });
  const readout = el("span", { className: "readout", "aria-hidden": "true" });
  const [height, top, bottom, left] = [170, 8, 22, 46];
  let bar = 1;
  let y, chosen;
  const rectangle = (place) => {
    const gap = bar >= 4 ? Math.min(4, bar * 0.2) : 0;
    const value = y(size[order[place]]);
    return `M${(left + place * bar).toFixed(2)} ${height - bottom}V${value.toFixed(1)}h${Math.max(bar - gap, 0.75).toFixed(2)}V${height - bottom}z`;
  };
  onWidth(plot, (width) => {
    bar = Math.min(64, (width - left) / order.length);
    y = (value) => top + (1 - value / high) * (height - top - bottom);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    for (const mark of ticks(0, high, 3).filter(Number.isInteger)) {
      root.append(svg("line", { class: mark ? "grid" : "axis", x1: left, x2: width, y1: y(mark), y2: y(mark) }));
      root.append(svg("text", { x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, tickText(mark)));
    }
    root.append(svg("path", { class: "bars", d: order.map((_, place) => rectangle(place)).join("") }));
    root.append((chosen = svg("path", { class: "bars chosen" })));
    root.append(svg("line", { class: "mean", x1: left, x2: left + bar * order.length, y1: y(mean), y2: y(mean) }));
    if (bar >= 22) {
      order.forEach((cluster, place) => root.append(
        svg("text", { x: left + (place + 0.45) * bar, y: height - 6, "text-anchor": "middle" }, String(cluster))));
    }
    plot.replaceChildren(root);
  });
  const describe = (cluster) => `${callCluster(cluster)}: ${images(size[cluster])}` +
    (size[cluster] ? `, mean confidence ${figure(confidence[cluster])}` : "");
  const show = (place) => {
    chosen?.setAttribute("d", place < 0 ? "" : rectangle(place));
    return (readout.textContent = place < 0 ? "" : describe(order[place]));
  };
  const at = (pixel) => Math.max(0, Math.min(order.length - 1, Math.floor((pixel - left) / bar)));
  addCursor(plot, "Cluster sizes, the largest first", order.length, at, show, (place) => revealCluster(order[place]));
  const withLabels = labelled.some(Boolean);
  const columns = [["cluster"], ["name", true], ["images"], ["share"], ["mean confidence"], ...(withLabels ? [["majority label", true], ["its share"]] : [])];
  const rows = () => table("Clusters", columns, order.map((cluster) => [
    String(cluster), nameOf(cluster) ?? "–", count(size[cluster]), percent(size[cluster] / Math.max(total, 1)), figure(confidence[cluster]),
    ...(withLabels ? (labelled[cluster] ? [className(classes[cluster][0][0]), percent(classes[cluster][0][1] / labelled[cluster])] : ["–", "–"]) : []),
  ]));
  $("sizes-body").append(plot, readout, tableDetails("All clusters as a table", rows));
}
