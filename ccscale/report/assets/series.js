// Scales and ticks of charts, and a cursor that pointer and arrow keys move.

/** Return round numbers that span low to high, about `wanted` of them. */
function ticks(low, high, wanted = 5) {
  const raw = (high - low || Math.abs(high) || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

const tickText = (value) => (Math.abs(value) >= 1000 ? COUNT.format(value) : String(value));

/**
 * Let a plot be read by pointer and by keys, as a slider is.
 * `at(x)` gives the place nearest to a pixel, `show(place)` marks it and returns it in words (null: nothing).
 */
function addCursor(plot, label, places, at, show, choose) {
  let place = -1;
  const set = (next, spoken) => {
    place = next;
    const text = show(next);
    if (spoken && next >= 0) {
      plot.setAttribute("aria-valuenow", next);
      plot.setAttribute("aria-valuetext", text);
    }
  };
  for (const [name, value] of Object.entries({
    tabindex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": places - 1, "aria-valuenow": 0,
    "aria-valuetext": "arrow keys read the chart",
  })) plot.setAttribute(name, value);
  plot.addEventListener("pointermove", (event) => set(at(event.clientX - plot.getBoundingClientRect().left), false));
  plot.addEventListener("pointerleave", () => document.activeElement !== plot && set(-1, false));
  plot.addEventListener("blur", () => set(-1, false));
  if (choose) plot.addEventListener("click", () => place >= 0 && choose(place));
  plot.addEventListener("keydown", (event) => {
    const big = Math.max(1, Math.round(places / 10));
    const next = {
      ArrowLeft: place - 1, ArrowDown: place - 1, ArrowRight: place + 1, ArrowUp: place + 1,
      PageDown: place - big, PageUp: place + big, Home: 0, End: places - 1,
    }[event.key];
    if (event.key === "Enter" && choose && place >= 0) choose(place);
    else if (event.key === "Escape") set(-1, false);
    else if (next !== undefined) set(Math.max(0, Math.min(places - 1, next)), true);
    else return;
    event.preventDefault();
  });
}
