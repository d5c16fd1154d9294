// Curves over steps, over numbers of clusters, or over shares: a panel each, a line a series, the second run's dashed.

const HEIGHT = 200;
const MARGIN = { left: 46, right: 8, top: 8, bottom: 24 };

const lastStep = () => Math.max(1, ...data.curves.flatMap((panel) => panel.series.map((series) => series.x.at(-1))));

/** Places of an axis over numbers of clusters: equal ratios are equally far apart. */
function ratioTicks(first, last) {
  const found = [];
  for (let at = 2 ** Math.ceil(Math.log2(first)); at <= last; at *= 2) found.push(at);
  return found;
}

function chartPanel(panel) {
  const { over = "step", share = false, linear = false, shaded, mark: chosen } = panel;
  const straight = share || linear || over === "step";
  const place = straight ? (value) => value : Math.log2;
  const text = share ? percent : count;
  const names = [...new Set(panel.series.map((series) => series.name))];
  const style = (series) => `s${names.indexOf(series.name) % 3}${series.run ? " other" : ""}`;
  const title = (series) => (other ? `${series.name}, ${data.runs[series.run].name}` : series.name);
  const steps = [...new Set(panel.series.flatMap((series) => series.x))].sort((a, b) => a - b);
  const plot = el("div", { className: "plot" });
  const readout = el("span", { className: "readout", "aria-hidden": "true" });
  const single = names.length === 1 && names[0].toLowerCase() === panel.title.toLowerCase();
  const legend = el("ul", { className: "legend" }, ...(single ? [] : names.map((name) =>
    el("li", {}, svg("svg", { "aria-hidden": "true", viewBox: "0 0 20 10" },
      svg("line", { x1: 1, x2: 19, y1: 5, y2: 5, class: `curve ${style({ name })}` })), name))));

  const values = panel.series.flatMap((series) => series.y);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (panel.zero) low = Math.min(0, low);
  const marks = ticks(low, high, 4);
  const step = marks.length > 1 ? marks[1] - marks[0] : Math.abs(high) || 1;
  low = panel.zero && low === 0 ? 0 : Math.min(low, Math.floor(low / step + 1e-9) * step);
  high = Math.max(high, Math.ceil(high / step - 1e-9) * step);
  if (low === high) high = low + step;
  const [first, last] = share ? [0, 1] : over === "step" ? [0, lastStep()] : [steps[0], steps.at(-1)]; // the same in all panels
  let x, y, cursor;

  const draw = (width) => {
    const [w, h] = [width - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
    x = (value) => MARGIN.left + ((place(value) - place(first)) / (place(last) - place(first) || 1)) * w;
    y = (value) => MARGIN.top + h - ((value - low) / (high - low)) * h;
    const root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, "aria-hidden": "true" });
    if (shaded) root.append(svg("rect", { class: "range", x: x(shaded[0]) - 3, y: MARGIN.top, width: x(shaded[1]) - x(shaded[0]) + 6, height: h }));
    for (const mark of ticks(low, high, 4)) {
      root.append(svg("line", { class: mark === low ? "axis" : "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(mark), y2: y(mark) }));
      root.append(svg("text", { x: MARGIN.left - 8, y: y(mark) + 4, "text-anchor": "end" }, tickText(mark)));
    }
    for (const mark of straight ? ticks(first, last, Math.max(2, Math.floor(w / 90))).filter((at) => share || Number.isInteger(at)) : ratioTicks(first, last)) {
      const anchor = x(mark) > width - 30 ? "end" : "middle";
      root.append(svg("text", { x: Math.min(x(mark), width - MARGIN.right), y: HEIGHT - 6, "text-anchor": anchor }, share ? percent(mark) : tickText(mark)));
    }
    for (const series of [...panel.series].reverse()) {
      const path = series.x.map((value, i) => `${i ? "L" : "M"}${x(value).toFixed(1)} ${y(series.y[i]).toFixed(1)}`).join("");
      root.append(svg("path", { class: `curve ${style(series)}`, d: path }));
      if (series.x.length === 1) root.append(svg("circle", { class: `dot ${style(series)}`, cx: x(series.x[0]), cy: y(series.y[0]), r: 4 }));
    }
    if (chosen) root.append(svg("circle", { class: "dot s0", cx: x(chosen), cy: y(panel.series[0].y[steps.indexOf(chosen)]), r: 5 }));
    root.append((cursor = svg("g")));
    plot.replaceChildren(root);
  };

  const show = (place) => {
    cursor?.replaceChildren();
    readout.textContent = "";
    if (place < 0) return "";
    const at = steps[place];
    cursor.append(svg("line", { class: "axis", x1: x(at), x2: x(at), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
    const words = panel.series.flatMap((series) => {
      const i = series.x.indexOf(at);
      if (i < 0) return [];
      cursor.append(svg("circle", { class: `dot ${style(series)}`, cx: x(at), cy: y(series.y[i]), r: 4 }));
      return [`${title(series)} ${figure(series.y[i])}`];
    });
    return (readout.textContent = `${over} ${text(at)}: ${words.join(" · ")}`);
  };
  const at = (pixel) => steps.reduce((best, value, i) => (Math.abs(x(value) - pixel) < Math.abs(x(steps[best]) - pixel) ? i : best), 0);

  onWidth(plot, draw);
  const ends = panel.series.map((series) => `${title(series)} from ${figure(series.y[0])} to ${figure(series.y.at(-1))}`);
  addCursor(plot, `${panel.title}: ${ends.join(", ")}`, steps.length, at, show);
  const rows = () => table(panel.title, [[over], ...panel.series.map((series) => [title(series)])], steps.map((value) =>
    [text(value), ...panel.series.map((series) => figure(series.y[series.x.indexOf(value)]))]));
  return el("div", { className: "panel" }, el("h3", {}, panel.title, why(TITLES[panel.title] ?? panel.why)), panel.note ? el("p", { className: "lead" }, panel.note) : null, legend, plot, readout,
    tableDetails(`${panel.title} as a table`, rows));
}

function startCurves() {
  const every = Math.max(1, ...data.curves.flatMap((panel) => panel.series.map((series) => series.every)));
  $("curves-lead").textContent = !data.curves.length
    ? "The run's log holds no steps."
    : "Over training steps." + (every > 1 ? ` A point of a curve over steps is the mean of up to ${every} steps.` : "") +
      (other ? ` Solid: ${run.name}; dashed: ${other.name}.` : "");
  $("panels").append(...data.curves.map(chartPanel));
}
