// The map: points on a canvas, moved and magnified, the image under pointer or cross shown with its picture.

const FULL = 65535;
const EDGE = 16; // pixels around all points
const REACH = 10; // pixels from the pointer to a point
const LABELS = 60;
const CIVIDIS = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"]; // sure is bright, on dark paper
const CIVIDIS_LIGHT = ["#b59a00", "#948e77", "#7a7a73", "#565d6d", "#2a3f6d", "#00224e"]; // sure is dark, on light

let mapView = null;
let wantedCluster = null;

class MapView {
  constructor(body, points) {
    this.points = points;
    this.grid = gridOf(points);
    this.middles = middles(points, data.clusters.size.length);
    this.zoom = 1;
    this.centre = { x: FULL / 2, y: FULL / 2 };
    this.cross = null; // of the keyboard, in pixels
    this.marked = -1;
    this.colour = "cluster";
    this.cluster = null;
    this.canvas = el("canvas", {
      tabindex: "0", role: "application", "aria-roledescription": "map", "aria-describedby": "map-keys-help",
      "aria-label": `Map of ${images(points.count)} by their features`,
    });
    const choices = [["cluster", "cluster"], ...(data.map.labelled ? [["class", "class"]] : []), ["confidence", "confidence"]];
    this.by = el("select", {}, ...choices.map(([value, title]) => el("option", { value }, title)));
    this.only = el("input", { type: "search", inputMode: "numeric", autocomplete: "off", placeholder: "all", className: "short" });
    this.key = el("input", { type: "search", autocomplete: "off", spellcheck: false });
    this.told = el("output", {});
    const button = (text, title, call) => el("button", { type: "button", "aria-label": title, title, onclick: call }, text);
    body.append(
      el("div", { className: "controls" }, el("label", {}, "Colour by", this.by), el("label", {}, "Highlight cluster", this.only),
        el("label", {}, "Find an image by its key", this.key), this.told,
        el("div", { className: "buttons", role: "group", "aria-label": "Zoom" },
          button("+", "Zoom in", () => this.magnify(1.6)), button("−", "Zoom out", () => this.magnify(1 / 1.6)),
          button("Reset", "Show all of the map", () => this.reset()))),
      el("div", { className: "map" }, this.canvas),
      el("p", { className: "readout", id: "map-keys-help" },
        "Point at the map to see images. Drag to move it; the wheel magnifies once it was clicked. Keys: arrows move a cross, + and − magnify, 0 shows all, Enter goes to the cluster."),
    );
    this.listen();
    onWidth(this.canvas, () => this.resize());
    if (onPaper.now) this.resize(); // nothing is observed before the printer looks
    onColours(() => this.paint());
  }

  listen() {
    const { canvas } = this;
    this.by.addEventListener("change", () => ((this.colour = this.by.value), this.paint()));
    this.only.addEventListener("input", () => {
      const text = this.only.value.trim();
      this.cluster = text ? clusterCalled(text) : null;
      this.tell(text && this.cluster === null ? `There is no cluster ${text}` : "");
      this.paint();
    });
    this.key.addEventListener("change", () => this.find(this.key.value.trim()));
    this.key.addEventListener("input", () => this.tell(""));
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = event.pointerType === "touch" ? null : { x: event.clientX, y: event.clientY, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      if (drag && event.buttons) {
        const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
        if (drag.moved || Math.hypot(dx, dy) > 4) {
          canvas.setPointerCapture(event.pointerId);
          this.centre.x -= dx / this.scale;
          this.centre.y += dy / this.scale;
          drag = { x: event.clientX, y: event.clientY, moved: true };
          this.mark(-1);
          this.paint();
          return;
        }
      }
      this.cross = null;
      this.look(event.clientX - box.left, event.clientY - box.top, false);
    });
    canvas.addEventListener("click", () => {
      if (!drag?.moved && this.marked >= 0 && this.clickable) revealCluster(this.points.cluster[this.marked]);
      this.clickable = true;
      drag = null;
    });
    canvas.addEventListener("pointerleave", () => !this.cross && this.mark(-1));
    canvas.addEventListener("blur", () => ((this.cross = null), (this.clickable = false), this.mark(-1), this.paint()));
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      this.magnify(2 ** (-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    const step = event.shiftKey ? 60 : 12;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (move) {
      this.cross ??= { x: this.width / 2, y: this.height / 2 };
      this.cross.x += move[0];
      this.cross.y += move[1];
      const [x, y] = [Math.max(0, Math.min(this.width, this.cross.x)), Math.max(0, Math.min(this.height, this.cross.y))];
      this.centre.x += (this.cross.x - x) / this.scale; // beyond the edge the map moves
      this.centre.y -= (this.cross.y - y) / this.scale;
      this.cross = { x, y };
      this.look(x, y, true);
      this.paint();
    } else if (event.key === "+" || event.key === "=") this.magnify(1.6, this.cross?.x, this.cross?.y);
    else if (event.key === "-") this.magnify(1 / 1.6, this.cross?.x, this.cross?.y);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.mark(-1);
    else if (event.key === "Enter" && this.marked >= 0) revealCluster(this.points.cluster[this.marked]);
    else return;
    event.preventDefault();
  }

  get scale() {
    return ((Math.min(this.width, this.height) - 2 * EDGE) / FULL) * this.zoom;
  }

  toPixel(x, y) {
    return [this.width / 2 + (x - this.centre.x) * this.scale, this.height / 2 - (y - this.centre.y) * this.scale];
  }

  toPlace(px, py) {
    return [this.centre.x + (px - this.width / 2) / this.scale, this.centre.y - (py - this.height / 2) / this.scale];
  }

  magnify(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.toPlace(px, py);
    this.zoom = Math.max(0.5, Math.min(200, this.zoom * factor));
    const [after, below] = this.toPlace(px, py);
    this.centre.x += x - after;
    this.centre.y += y - below;
    this.paint();
  }

  reset() {
    this.zoom = 1;
    this.centre = { x: FULL / 2, y: FULL / 2 };
    this.paint();
  }

  /** Mark the point nearest to a pixel, one with a picture rather than one without. */
  look(px, py, spoken) {
    const [x, y] = this.toPlace(px, py);
    const mine = (i) => this.cluster === null || this.points.cluster[i] === this.cluster;
    const search = (accept) => nearestPoint(this.points, this.grid, x, y, REACH / this.scale, accept);
    let found = search((i) => mine(i) && this.points.picture[i] >= 0);
    if (found < 0) found = search(mine);
    this.mark(found, spoken);
  }

  async mark(i, spoken = false) {
    if (i === this.marked) return;
    this.marked = i;
    this.paint();
    const tip = $("tip");
    if (i < 0) {
      tip.hidden = true;
      return;
    }
    const { points } = this;
    const key = await points.key(i);
    if (i !== this.marked) return;
    const lines = [key, `${callCluster(points.cluster[i])}, confidence ${(points.confidence[i] / 255).toFixed(2)}`];
    if (data.map.labelled) lines.push(points.label[i] < 0 ? "no label" : `label ${className(points.label[i])}`);
    const picture = points.picture[i];
    const [number, place] = [Math.floor(picture / data.map.sheet), picture % data.map.sheet];
    const total = data.tiles[number]?.keys.length ?? data.map.extra[number - data.tiles.length];
    const text = el("p", {}, ...lines.flatMap((line, n) => (n ? [el("br"), line] : [el("strong", {}, line)])));
    if (picture < 0) text.append(el("br"), el("em", {}, "no picture kept"));
    tip.replaceChildren(...(picture < 0 ? [] : [tile(`sheet-${number}`, place, total, `Picture of ${key}`)]), text);
    tip.hidden = false;
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = this.toPixel(points.x[i], points.y[i]);
    const left = box.left + px + 14;
    tip.style.left = `${Math.max(8, left + tip.offsetWidth > innerWidth - 8 ? box.left + px - 14 - tip.offsetWidth : left)}px`;
    tip.style.top = `${Math.max(8, Math.min(innerHeight - tip.offsetHeight - 8, box.top + py + 14))}px`;
    if (spoken) say(lines.join(", "));
  }

  async find(text) {
    this.tell("");
    if (!text) return;
    await this.points.key(0);
    const wanted = text.toLowerCase();
    let i = this.points.keys.indexOf(text);
    if (i < 0) i = this.points.keys.findIndex((key) => key.toLowerCase().includes(wanted));
    if (i < 0) return this.tell(`No image on the map has a key with “${text}”`);
    this.centre = { x: this.points.x[i], y: this.points.y[i] };
    this.zoom = Math.max(this.zoom, 6);
    this.mark(i, true);
  }

  /** Show a sentence beside the controls; an output is also read aloud. */
  tell(text) {
    this.told.textContent = text;
  }

  highlight(cluster) {
    this.tell("");
    this.cluster = cluster;
    this.only.value = String(cluster);
    this.reset();
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.paint();
  }

  paint() {
    if (onPaper.now) {
      if (!this.width) this.resize();
      return this.draw();
    }
    if (this.waiting || !this.width) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  /** Return the colours in use and a function from points to their numbers. */
  colouring() {
    const { points } = this;
    if (this.colour === "confidence") return [isDark() ? CIVIDIS : CIVIDIS_LIGHT, (i) => Math.min(5, (points.confidence[i] * 6) >> 8)];
    const marks = Array.from({ length: MARKS }, (_, mark) => markColour(mark));
    if (this.colour === "class") return [marks, (i) => (points.label[i] < 0 ? -1 : points.label[i] % MARKS)];
    return [marks, (i) => data.clusters.colour[points.cluster[i]]];
  }

  draw() {
    const { points, canvas, scale } = this;
    const ratio = devicePixelRatio || 1;
    const context = canvas.getContext("2d");
    const { ink, paper } = inkColours();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const side = Math.max(1.25, Math.min(7, Math.sqrt(40000 / points.count) * Math.sqrt(this.zoom)));
    const [x0, y0] = this.toPixel(0, 0);
    const [colours, colourOf] = this.colouring();
    const grey = isDark() ? "#4a4f57" : "#c9cdd2";
    const layers = colours.map(() => []);
    const rest = [];
    for (let i = 0; i < points.count; i++) {
      const number = this.cluster !== null && points.cluster[i] !== this.cluster ? -1 : colourOf(i);
      (number < 0 ? rest : layers[number]).push(i);
    }
    const dots = (list, colour, shape = 0) => {
      if (!list.length) return;
      context.fillStyle = colour;
      context.beginPath();
      for (const i of list) {
        const [px, py] = [x0 + points.x[i] * scale, y0 - points.y[i] * scale];
        if (px < -side || py < -side || px > this.width + side || py > this.height + side) continue;
        if (side < 3) context.rect(px - side / 2, py - side / 2, side, side);
        else if (shape === 1) {
          context.moveTo(px, py - 0.65 * side);
          context.lineTo(px + 0.6 * side, py + 0.45 * side);
          context.lineTo(px - 0.6 * side, py + 0.45 * side);
          context.closePath();
        } else if (shape === 2) {
          context.rect(px - 0.65 * side, py - 0.2 * side, 1.3 * side, 0.4 * side);
          context.rect(px - 0.2 * side, py - 0.65 * side, 0.4 * side, 1.3 * side);
        } else {
          context.moveTo(px + side / 2, py);
          context.arc(px, py, side / 2, 0, 7);
        }
      }
      context.fill();
    };
    dots(rest, grey);
    layers.forEach((list, number) => dots(list, colours[number], markShape(number)));
    this.drawLabels(context, ink, paper);
    if (this.marked >= 0) this.ring(context, ...this.toPixel(points.x[this.marked], points.y[this.marked]), ink, paper, side);
    if (this.cross) {
      context.strokeStyle = ink;
      context.strokeRect(this.cross.x - 5, this.cross.y, 10, 0);
      context.strokeRect(this.cross.x, this.cross.y - 5, 0, 10);
    }
    canvas.dataset.drawn = String(points.count);
  }

  ring(context, px, py, ink, paper, side) {
    for (const [width, colour] of [[5, paper], [2, ink]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      context.arc(px, py, side / 2 + 4, 0, 7);
      context.stroke();
    }
    context.lineWidth = 1;
  }

  /** Write numbers of clusters in their middles: those in view with the most points. */
  drawLabels(context, ink, paper) {
    const inView = this.middles.map((middle, cluster) => ({ middle, cluster })).filter(({ middle, cluster }) => {
      if (!middle || (this.cluster !== null && cluster !== this.cluster)) return false;
      const [px, py] = this.toPixel(middle.x, middle.y);
      return px > 0 && py > 0 && px < this.width && py < this.height;
    });
    inView.sort((a, b) => b.middle.count - a.middle.count);
    context.font = "600 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 4;
    const written = [];
    for (const { middle, cluster } of inView) {
      const [px, py] = this.toPixel(middle.x, middle.y);
      if (written.length === LABELS) break;
      if (written.some(([x, y]) => Math.abs(x - px) < 30 && Math.abs(y - py) < 16)) continue;
      written.push([px, py]);
      context.strokeStyle = paper;
      context.strokeText(String(cluster), px, py);
      context.fillStyle = ink;
      context.fillText(String(cluster), px, py);
    }
    context.lineWidth = 1;
  }
}

function showOnMap(cluster) {
  wantedCluster = cluster;
  $("map").scrollIntoView({ behavior: "instant" });
  mapView?.highlight(cluster);
  mapView?.canvas.focus({ preventScroll: true });
}

function startMap() {
  if (!data.map) {
    $("map").hidden = true;
    return;
  }
  const { count: shown, images: all, pictures, method } = data.map;
  $("map-lead").textContent = method + (shown < all ? ` The map shows ${count(shown)} of ${count(all)} images.` : "") +
    (pictures < shown ? ` Pictures are kept of ${count(pictures)}; of points beside each other one with a picture is shown.` : "");
  const canvas = $("map-body");
  whenNear(canvas, async () => {
    mapView = new MapView(canvas, await readPoints());
    if (wantedCluster !== null) {
      mapView.highlight(wantedCluster);
      mapView.canvas.focus({ preventScroll: true });
    }
  });
}
