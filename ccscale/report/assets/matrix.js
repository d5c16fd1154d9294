// Counts by two groupings: a shaded table where it is small, a picture beside a table where it is large.

const MOST_COLUMNS = 40; // of a table of cells
const MOST_CELLS = 4000;

/**
 * Return what shows `cells`: for each row its [column, count] pairs, the largest first, `totals` images in all.
 * Rows are put in the order of their largest column, so that what fits lies on a diagonal; those without images are
 * left out.
 */
function matrix({ caption, rowName, columnNames, columnTitle, cells, totals }) {
  const order = cells.map((_, row) => row).filter((row) => cells[row].length)
    .sort((a, b) => cells[a][0][0] - cells[b][0][0] || cells[b][0][1] - cells[a][0][1] || a - b);
  const share = (row, n) => n / Math.max(totals[row], 1);
  const words = (row, cell) => cell ? `${columnNames[cell[0]]} (${count(cell[1])}, ${percent(share(row, cell[1]))})` : "–";
  const ranking = () => table(caption, [["row"], ["images"], ["most", true], ["second", true], ["third", true]],
    order.map((row) => [rowName(row), count(totals[row]), ...[0, 1, 2].map((i) => words(row, cells[row][i]))]));
  const details = tableDetails("Largest counts of each row as a table", ranking);
  if (columnNames.length <= MOST_COLUMNS && order.length * columnNames.length <= MOST_CELLS) {
    return el("div", {}, el("div", { className: "scroll tall", tabindex: "0", role: "region", "aria-label": caption },
      heatTable({ caption, rowName, columnNames, cells, order, share })), details);
  }
  return el("div", {}, heatPicture({ caption, rowName, columnNames, columnTitle, cells, order, share }), details);
}

function heatTable({ caption, rowName, columnNames, cells, order, share }) {
  const long = columnNames.some((name) => name.length > 5);
  const head = el("tr", {}, el("td"), ...columnNames.map((name) => 
    el("th", { scope: "col", className: long ? "long" : "", title: name }, el("span", {}, name))));
  const body = order.map((row) => {
    const counts = new Map(cells[row]);
    return el("tr", {}, el("th", { scope: "row" }, rowName(row)), ...columnNames.map((_, column) => {
      const n = counts.get(column) ?? 0;
      const cell = el("td", { title: n ? `${percent(share(row, n))} of ${rowName(row)}` : "" }, n ? count(n) : "");
      cell.style.setProperty("--share", share(row, n).toFixed(3));
      return cell;
    }));
  });
  return el("table", { className: "heat" }, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body));
}

function heatPicture({ caption, rowName, columnNames, columnTitle, cells, order, share }) {
  const canvas = el("canvas", { className: "matrix", role: "img", "aria-label": `${caption} The table below holds the numbers.` });
  const readout = el("span", { className: "readout", "aria-hidden": "true" }, "Point at a cell to read it.");
  const ratio = Math.min(devicePixelRatio || 1, 2);
  let cell = { w: 1, h: 1 };
  const paint = () => {
    const width = canvas.clientWidth;
    const height = Math.max(160, Math.min(width * 0.75, order.length * 8, 640));
    canvas.style.height = `${height}px`;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    cell = { w: width / columnNames.length, h: height / order.length };
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.fillStyle = isDark() ? "#56b4e9" : "#0072b2";
    order.forEach((row, i) => {
      for (const [column, n] of cells[row]) {
        context.globalAlpha = 0.08 + 0.92 * share(row, n);
        context.fillRect(column * cell.w, i * cell.h, Math.max(cell.w, 1.5), Math.max(cell.h, 1.5));
      }
    });
  };
  const read = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = order[Math.floor((event.clientY - box.top) / cell.h)];
    const column = Math.floor((event.clientX - box.left) / cell.w);
    if (row === undefined || !columnNames[column]) return;
    const n = new Map(cells[row]).get(column) ?? 0;
    readout.textContent = `${rowName(row)}, ${columnTitle} ${columnNames[column]}: ${images(n)}` + (n ? `, ${percent(share(row, n))} of the row` : "");
  };
  canvas.addEventListener("pointermove", read);
  onWidth(canvas, paint);
  onColours(paint);
  return el("div", {}, canvas, readout);
}

function startConfusion() {
  const { labelled, classes } = data.clusters;
  if (!labelled.some(Boolean)) {
    $("confusion").hidden = true;
    return;
  }
  $("confusion-lead").textContent =
    "Images of each class in each cluster; clusters stand in the order of their most common class, shade is the share of the " +
    `cluster.${data.classes.length > data.most_classes ? ` Of each cluster its ${data.most_classes} most common classes.` : ""}`;
  $("confusion-body").append(matrix({
    caption: "Clusters by classes, in images.", rowName: CallCluster, columnNames: data.classes, columnTitle: "class",
    cells: classes, totals: labelled,
  }));
}
