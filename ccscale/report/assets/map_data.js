// The points of the map, and which lies nearest to a place.

const GRID = 256;

/** Read the blocks of the map; places are integers from 0 to 65535, y upwards. */
async function readPoints() {
  const raw = async (name, Type) => new Type(bytes(await block(`map-${name}`)).buffer);
  const points = {
    x: await raw("x", Uint16Array), y: await raw("y", Uint16Array), cluster: await raw("cluster", Int32Array),
    confidence: await raw("confidence", Uint8Array), label: await raw("label", Int32Array),
    picture: await raw("picture", Int32Array), keys: null,
  };
  points.count = points.x.length;
  const keys = block("map-keys");
  points.key = async (i) => (points.keys ??= JSON.parse(await keys))[i];
  return points;
}

/** Sort points into the cells of a grid: `order` holds them cell by cell, `start` where each cell begins. */
function gridOf(points) {
  const cell = (i) => (points.y[i] >> 8) * GRID + (points.x[i] >> 8);
  const start = new Uint32Array(GRID * GRID + 1);
  for (let i = 0; i < points.count; i++) start[cell(i) + 1]++;
  for (let c = 0; c < GRID * GRID; c++) start[c + 1] += start[c];
  const next = start.slice();
  const order = new Uint32Array(points.count);
  for (let i = 0; i < points.count; i++) order[next[cell(i)]++] = i;
  return { start, order };
}

/** Return the nearest point within a radius that `accept` takes, or -1. */
function nearestPoint(points, grid, x, y, radius, accept) {
  let best = -1;
  let least = radius * radius;
  const clamp = (value) => Math.max(0, Math.min(GRID - 1, value >> 8));
  for (let row = clamp(y - radius); row <= clamp(y + radius); row++) {
    for (let column = clamp(x - radius); column <= clamp(x + radius); column++) {
      const cell = row * GRID + column;
      for (let place = grid.start[cell]; place < grid.start[cell + 1]; place++) {
        const i = grid.order[place];
        const distance = (points.x[i] - x) ** 2 + (points.y[i] - y) ** 2;
        if (distance <= least && accept(i)) [best, least] = [i, distance];
      }
    }
  }
  return best;
}

/** Return where each cluster's points are densest, and how many it has; null for one without any. */
function middles(points, clusters) {
  const members = Array.from({ length: clusters }, () => []);
  for (let i = 0; i < points.count; i++) members[points.cluster[i]].push(i);
  return members.map((list) => {
    if (!list.length) return null;
    const cells = new Map(); // of a coarse grid, 16 by 16
    for (const i of list) {
      const cell = (points.y[i] >> 12) * 16 + (points.x[i] >> 12);
      if (!cells.has(cell)) cells.set(cell, []);
      cells.get(cell).push(i);
    }
    const dense = [...cells.values()].reduce((most, cell) => (cell.length > most.length ? cell : most));
    const mean = (values) => dense.reduce((sum, i) => sum + values[i], 0) / dense.length;
    return { x: mean(points.x), y: mean(points.y), count: list.length };
  });
}
