// Draws the map that `diptych map` wrote into this page. Points are in the order of their thumbnails: those that
// appear first come first. No library, no network: sheets of thumbnails are files beside the page, or in it.

const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("map"), ctx = canvas.getContext("2d");
const card = document.getElementById("card"), told = document.getElementById("told");
const N = data.count, FIT = 0.86, SHOWN = 54; // a thumbnail takes so many pixels before it is shown
const still = matchMedia("(prefers-reduced-motion: reduce)"), dark = matchMedia("(prefers-color-scheme: dark)");

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const places = new Uint16Array(bytes(data.places).buffer);
const members = new Uint16Array(bytes(data.members).buffer), folders = new Uint32Array(bytes(data.folders).buffer);
const levels = bytes(data.levels);
const X = new Float32Array(N), Y = new Float32Array(N);
for (let i = 0; i < N; i++) { X[i] = places[2 * i] / 65535; Y[i] = places[2 * i + 1] / 65535; }
const lastOfLevel = new Uint32Array(data.level_count + 1); // points before the end of each level
for (let i = 0; i < N; i++) lastOfLevel[levels[i]] = i + 1;
for (let l = 1; l <= data.level_count; l++) lastOfLevel[l] = Math.max(lastOfLevel[l], lastOfLevel[l - 1]);

// ------------------------------------------------------------------ names

function plain(text) {
  try { return decodeURIComponent(text); } catch { return text; } // a name need not be UTF-8
}
const folderOf = (i) => data.folder_names[folders[i]];
const addressOf = (i) => folderOf(i)[1] ? folderOf(i)[0] : `${folderOf(i)[0]}/${data.names[i]}`; // 1: an archive
const pathOf = (i) => plain(`${folderOf(i)[0]}/${data.names[i]}`).replace(/^file:\/\//, "");
const SEEN = /\.(jpe?g|jpe|jfif|png|webp|gif|avif|bmp|svg)$/i; // what browsers show

// ----------------------------------------------------------------- colours

// Regions that lie near each other get hues that lie far apart.
const HUES = [25, 255, 140, 75, 310, 195, 0, 225, 110, 340, 50, 170, 280];
const hueOf = data.regions.map(() => 0);
{
  const order = data.regions.map((_, r) => r).sort((a, b) => data.regions[b].size - data.regions[a].size), done = [];
  const used = HUES.map(() => 0);
  for (const r of order) {
    let best = -1, most = -Infinity;
    HUES.forEach((hue, h) => {
      let worst = 0;
      for (const o of done) {
        const turn = Math.abs(((hue - hueOf[o] + 540) % 360) - 180), gap = 180 - turn;
        const away = Math.hypot(data.regions[o].x - data.regions[r].x, data.regions[o].y - data.regions[r].y);
        worst += Math.max(0, 1 - (180 - gap) / 70) / (0.08 + away);
      }
      const score = -worst - used[h] * 0.6 - h * 0.01;
      if (score > most) { most = score; best = h; }
    });
    hueOf[r] = HUES[best]; used[best]++; done.push(r);
  }
}
let colours = [], regionColours = [], theme = {};
function paint() {
  const css = getComputedStyle(document.documentElement);
  for (const name of ["paper", "ink", "grey", "halo", "accent"]) theme[name] = css.getPropertyValue(`--${name}`).trim();
  const light = dark.matches ? 74 : 58;
  regionColours = hueOf.map((hue) => `oklch(${light}% 0.135 ${hue})`);
  colours = data.clusters.map((cluster, k) => // places of a region are shades of its colour
    `oklch(${light + [0, 7, -7][k % 3]}% ${[0.135, 0.1, 0.15][k % 3]} ${hueOf[cluster.region]})`);
}
// Points by colour, so that the pen changes some hundred times and not a hundred thousand.
const byCluster = data.clusters.map(() => []);
for (let i = 0; i < N; i++) byCluster[members[i]].push(i);
for (let k = 0; k < byCluster.length; k++) byCluster[k] = Uint32Array.from(byCluster[k]);

// -------------------------------------------------------------------- view

let width = 0, height = 0, ratio = 1;
const view = { x: 0.5, y: 0.5, zoom: 0 }; // zoom: powers of two beyond the whole map
const MOST_ZOOM = Math.log2(data.deepest * 40) + 3;
let found = null, foundCount = 0, hovered = -1, chosen = -1, chosenRegion = -1;

const base = () => Math.max(120, Math.min(width - left(), height - top())) * FIT;
const scale = () => base() * 2 ** view.zoom; // pixels from 0 to 1
const narrow = () => width <= 640;
const left = () => narrow() ? 0 : 288; // what the panel covers
const top = () => narrow() ? 110 : 0;
const centreX = () => left() + (width - left()) / 2;
const centreY = () => top() + (height - top()) / 2;
const toX = (x) => (x - view.x) * scale() + centreX(), toY = (y) => (y - view.y) * scale() + centreY();
const fromX = (x) => (x - centreX()) / scale() + view.x, fromY = (y) => (y - centreY()) / scale() + view.y;

function keep() {
  view.zoom = Math.min(Math.max(view.zoom, -0.5), MOST_ZOOM);
  view.x = Math.min(Math.max(view.x, 0), 1);
  view.y = Math.min(Math.max(view.y, 0), 1);
}
function zoomAt(x, y, by) {
  const at = [fromX(x), fromY(y)];
  view.zoom += by;
  keep();
  view.x = at[0] - (x - centreX()) / scale();
  view.y = at[1] - (y - centreY()) / scale();
  keep();
  changed();
}

let flight = 0;
function fly(x, y, zoom) {
  cancelAnimationFrame(flight);
  const from = { ...view }, start = performance.now();
  const step = (now) => {
    const t = still.matches ? 1 : Math.min(1, (now - start) / 450), eased = t * t * (3 - 2 * t);
    view.zoom = from.zoom + (zoom - from.zoom) * eased;
    // Moving by the share of the zoom that is done keeps the goal in sight.
    const near = Math.abs(zoom - from.zoom) < 0.01 ? eased
      : (2 ** -view.zoom - 2 ** -from.zoom) / (2 ** -zoom - 2 ** -from.zoom);
    view.x = from.x + (x - from.x) * near;
    view.y = from.y + (y - from.y) * near;
    keep();
    changed();
    if (t < 1) flight = requestAnimationFrame(step);
  };
  flight = requestAnimationFrame(step);
}
function flyTo(points) {
  let low = [1, 1], high = [0, 0];
  const xs = points.map((i) => X[i]).sort((a, b) => a - b), ys = points.map((i) => Y[i]).sort((a, b) => a - b);
  const cut = Math.floor(points.length * 0.03); // strays do not count
  low = [xs[cut], ys[cut]]; high = [xs[points.length - 1 - cut], ys[points.length - 1 - cut]];
  const side = Math.max(high[0] - low[0], high[1] - low[1], 0.004);
  fly((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, Math.min(Math.log2(0.95 / side), MOST_ZOOM - 2));
}

let waiting = false, noting = 0;
function changed() {
  if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); }
  clearTimeout(noting);
  noting = setTimeout(() => {
    const mark = `#${view.x.toFixed(5)},${view.y.toFixed(5)},${view.zoom.toFixed(2)}`;
    try { history.replaceState(null, "", mark); } catch { /* some browsers refuse it for files */ }
  }, 250);
}
function readAddress() {
  const numbers = location.hash.slice(1).split(",").map(Number);
  if (numbers.length === 3 && numbers.every(Number.isFinite)) [view.x, view.y, view.zoom] = numbers;
  keep();
}

// ------------------------------------------------------------------ sheets

const EACH = data.columns * data.columns, MOST_SHEETS = 160;
const sheets = new Map(); // number -> Image, the last used one last
function sheetOf(i) {
  const number = Math.floor(i / EACH);
  if (number >= data.sheets.length) return null;
  let sheet = sheets.get(number);
  if (sheet) sheets.delete(number);
  else {
    sheet = new Image();
    sheet.onload = changed;
    sheet.src = data.sheets[number];
    if (sheets.size >= MOST_SHEETS) sheets.delete(sheets.keys().next().value);
  }
  sheets.set(number, sheet);
  return sheet.complete && sheet.naturalWidth ? sheet : null;
}
function square(pen, i, x, y, size) {
  const sheet = sheetOf(i);
  if (!sheet) return false;
  const at = i % EACH, side = data.side;
  pen.drawImage(sheet, (at % data.columns) * side, Math.floor(at / data.columns) * side, side, side, x, y, size, size);
  return true;
}

// ----------------------------------------------------------------- drawing

let boxes = []; // of thumbnails on the screen: [point, x, y, size]
function draw() {
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.fillStyle = theme.paper;
  ctx.fillRect(0, 0, width, height);
  const s = scale(), level = levelNow(s);
  drawLand(s);
  drawPoints(s, level);
  drawThumbnails(s, level);
  drawNames(level);
  if (hovered >= 0) drawRing(hovered);
}
const LAND = 512, SHORE = 0.06; // pixels of the picture of all points, blurred; its margin
let land = null;
function makeLand() {
  const raw = document.createElement("canvas"), pen = raw.getContext("2d");
  land = document.createElement("canvas");
  raw.width = raw.height = land.width = land.height = LAND;
  const size = Math.min(9, Math.max(3, 500 / Math.sqrt(N)));
  pen.globalAlpha = Math.min(0.9, 24 / Math.sqrt(N) + 0.05);
  for (let k = 0; k < byCluster.length; k++) {
    pen.fillStyle = regionColours[data.clusters[k].region];
    for (const i of byCluster[k]) {
      const x = (X[i] + SHORE) / (1 + 2 * SHORE) * LAND, y = (Y[i] + SHORE) / (1 + 2 * SHORE) * LAND;
      pen.fillRect(x - size / 2, y - size / 2, size, size);
    }
  }
  const soft = land.getContext("2d");
  soft.filter = "blur(5px)"; // where that is not known, there is no land
  if (soft.filter === "blur(5px)") soft.drawImage(raw, 0, 0);
}
function drawLand(s) {
  const alpha = (found || chosenRegion >= 0 ? 0.1 : 0.3) * Math.min(1, Math.max(0, (3 - view.zoom) / 2));
  if (alpha <= 0) return;
  if (!land) makeLand();
  ctx.globalAlpha = alpha;
  const side = s * (1 + 2 * SHORE);
  ctx.drawImage(land, toX(-SHORE), toY(-SHORE), side, side);
  ctx.globalAlpha = 1;
}
function levelNow(s) { // the deepest level whose thumbnails have room
  if (!data.sheets.length) return -1;
  let level = -1;
  while (level < data.level_count && data.widest * s / 2 ** ((level + 1) / 2) >= roomFor(level + 1)) level++;
  return level;
}
function roomFor(level) { // the nearer, the larger, as far as the sheets are sharp
  return Math.min(SHOWN + 4 * level, Math.max(SHOWN, data.side * 1.1));
}
function thumbnailSize(s, level) {
  return Math.min(0.93 * s * data.widest / 2 ** (level / 2), Math.max(data.side * 1.4, 72));
}
function drawPoints(s, level) {
  const crowd = Math.sqrt(N) / s; // points that share a line of the map, a pixel
  const size = Math.min(Math.max(0.3 / crowd, 1.4), 7), half = size / 2;
  const ox = centreX() - view.x * s, oy = centreY() - view.y * s;
  const shown = level < 0 ? 0 : lastOfLevel[Math.min(level, data.level_count)];
  for (const seeking of found ? [false, true] : [false]) {
    for (let k = 0; k < byCluster.length; k++) {
      const own = chosenRegion < 0 || data.clusters[k].region === chosenRegion;
      ctx.fillStyle = seeking ? theme.accent : colours[k];
      ctx.globalAlpha = seeking ? 1 : found ? 0.14 : own ? 0.82 : 0.13;
      for (const i of byCluster[k]) {
        if (found && seeking !== !!found[i]) continue;
        if (i < shown && !found) continue; // its thumbnail is drawn
        const x = X[i] * s + ox, y = Y[i] * s + oy;
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        if (size < 2.2) ctx.fillRect(x - half, y - half, size, size);
        else { ctx.beginPath(); ctx.arc(x, y, half, 0, 7); ctx.fill(); }
      }
    }
  }
  ctx.globalAlpha = 1;
}
function drawThumbnails(s, level) {
  boxes = [];
  if (level < 0) return;
  const size = thumbnailSize(s, level), half = size / 2, reach = half + 4;
  const ox = centreX() - view.x * s, oy = centreY() - view.y * s;
  const end = lastOfLevel[level];
  for (let i = 0; i < end; i++) {
    const x = X[i] * s + ox, y = Y[i] * s + oy;
    if (x < -reach || y < -reach || x > width + reach || y > height + reach) continue;
    const dim = (found && !found[i]) || (chosenRegion >= 0 && data.clusters[members[i]].region !== chosenRegion);
    ctx.fillStyle = colours[members[i]];
    ctx.globalAlpha = (dim ? 0.15 : 1) * (sheetOf(i) ? 1 : 0.25); // pale until its sheet is there
    ctx.fillRect(x - half - 1, y - half - 1, size + 2, size + 2); // a rim in the colour of its place
    square(ctx, i, x - half, y - half, size);
    boxes.push([i, x - half, y - half, size]);
  }
  ctx.globalAlpha = 1;
}
function drawNames(level) {
  const taken = [];
  if (!narrow()) taken.push([0, 0, 288, panelHeight()]);
  else taken.push([width - 56, height - 140, width, height]); // the buttons
  const far = view.zoom < 1.6;
  // Regions are called from afar, places from near; a name that has no room waits.
  if (far) for (const region of data.regions) name(region, 17 + Math.min(6, Math.log10(region.size)), 600, taken, true);
  if (view.zoom > 0.7) {
    const least = N / 2 ** (2 * view.zoom + 5);
    for (const cluster of data.clusters) if (cluster.size > least) name(cluster, 14, 500, taken, false);
  }
}
function panelHeight() { return document.querySelector(".panel").getBoundingClientRect().bottom; }
function name(what, size, weight, taken, region) {
  let x = toX(what.x), y = toY(what.y);
  if (x < 0 || y < 0 || x > width || y > height) return;
  if (narrow()) size -= 3;
  ctx.font = `${weight} ${size}px system-ui, "Segoe UI", Roboto, sans-serif`;
  const wide = ctx.measureText(what.words[0]).width / 2 + 6, high = size * 0.65 + 3;
  if (region) x = Math.min(Math.max(x, left() + wide), width - wide); // not cut by the edge
  const box = [x - wide, y - high, x + wide, y + high];
  if (taken.some((o) => box[0] < o[2] && box[2] > o[0] && box[1] < o[3] && box[3] > o[1])) return;
  taken.push(box);
  ctx.textAlign = "center"; ctx.textBaseline = "middle"; ctx.lineJoin = "round";
  ctx.globalAlpha = chosenRegion >= 0 && what.region !== chosenRegion ? 0.3 : 1;
  if (boxes.length) { // on pictures a halo is not enough
    ctx.fillStyle = theme.paper; ctx.globalAlpha *= 0.86;
    ctx.beginPath(); ctx.roundRect(box[0], box[1], 2 * wide, 2 * high, 6); ctx.fill();
    ctx.globalAlpha /= 0.86;
  } else {
    ctx.lineWidth = 4.5; ctx.strokeStyle = theme.halo; ctx.strokeText(what.words[0], x, y);
  }
  ctx.fillStyle = theme.ink;
  ctx.fillText(what.words[0], x, y);
  ctx.globalAlpha = 1;
}
function drawRing(i) {
  const box = boxes.find((one) => one[0] === i);
  ctx.lineWidth = 3; ctx.strokeStyle = theme.accent;
  ctx.beginPath();
  if (box) ctx.rect(box[1] - 1.5, box[2] - 1.5, box[3] + 3, box[3] + 3);
  else ctx.arc(toX(X[i]), toY(Y[i]), 7, 0, 7);
  ctx.stroke();
}

// ---------------------------------------------------------- what is pointed at

function pointAt(x, y, reach) {
  for (let b = boxes.length - 1; b >= 0; b--) {
    const [i, bx, by, size] = boxes[b];
    if (x >= bx && y >= by && x <= bx + size && y <= by + size) return i;
  }
  const s = scale(), mx = fromX(x), my = fromY(y), r = reach / s;
  let best = -1, least = r * r;
  for (let i = 0; i < N; i++) {
    const dx = X[i] - mx, dy = Y[i] - my, away = dx * dx + dy * dy;
    if (away < least && (!found || found[i])) { least = away; best = i; }
  }
  return best;
}
function hover(i, x, y) {
  if (i !== hovered) {
    hovered = i;
    canvas.classList.toggle("over", i >= 0);
    if (i < 0) { card.hidden = true; changed(); return; }
    fill(i);
    changed();
  }
  if (i >= 0) place(x, y);
}
function fill(i) {
  const frame = document.createElement("div"), title = document.createElement("p"), small = document.createElement("small");
  frame.className = "frame";
  const crop = document.createElement("canvas");
  crop.width = crop.height = 2 * data.side;
  const show = () => { if (square(crop.getContext("2d"), i, 0, 0, crop.width)) frame.replaceChildren(crop); };
  show();
  if (!folderOf(i)[1] && SEEN.test(plain(data.names[i]))) {
    const image = new Image();
    image.alt = "";
    image.onload = () => frame.replaceChildren(image); // the picture itself, once it is there
    image.src = addressOf(i);
  }
  title.textContent = plain(data.names[i]);
  small.textContent = pathOf(i).slice(0, -plain(data.names[i]).length - 1);
  const words = document.createElement("small");
  words.textContent = data.clusters[members[i]].words.join(" · ");
  title.append(small, words);
  card.replaceChildren(frame, title);
  card.hidden = false;
}
function place(x, y) {
  const w = card.offsetWidth, h = card.offsetHeight;
  card.style.left = `${x + 24 + w > width ? Math.max(8, x - 24 - w) : x + 24}px`;
  card.style.top = `${Math.min(Math.max(8, y - h / 2), height - h - 8)}px`;
}
function open(i) {
  if (i >= 0) window.open(addressOf(i), "_blank", "noopener");
}

// ---------------------------------------------------------------- by pointer

const fingers = new Map();
let moved = 0, spread = 0;
canvas.addEventListener("pointerdown", (event) => {
  cancelAnimationFrame(flight);
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  moved = fingers.size > 1 ? 99 : 0;
  spread = gap();
});
canvas.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) {
    if (event.pointerType !== "touch") hover(pointAt(event.clientX, event.clientY, 12), event.clientX, event.clientY);
    return;
  }
  const middle = centre();
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  const now = centre(), dx = now[0] - middle[0], dy = now[1] - middle[1];
  moved += Math.abs(dx) + Math.abs(dy);
  if (moved > 4) { canvas.classList.add("dragging"); hover(-1); }
  view.x -= dx / scale(); view.y -= dy / scale();
  if (fingers.size > 1 && spread) { zoomAt(now[0], now[1], Math.log2(gap() / spread)); spread = gap(); }
  keep(); changed();
});
for (const ended of ["pointerup", "pointercancel"]) canvas.addEventListener(ended, (event) => {
  const tapped = fingers.size === 1 && moved <= 4 && ended === "pointerup";
  fingers.delete(event.pointerId);
  spread = gap();
  canvas.classList.remove("dragging");
  if (!tapped) return;
  const i = pointAt(event.clientX, event.clientY, event.pointerType === "touch" ? 24 : 12);
  // A finger cannot hover: its first touch shows the picture, its second opens it.
  if (event.pointerType === "touch" && i !== hovered) hover(i, event.clientX, event.clientY);
  else open(i);
});
canvas.addEventListener("pointerleave", () => hover(-1));
canvas.addEventListener("dblclick", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  cancelAnimationFrame(flight);
  const lines = event.deltaMode === 1 ? 20 : 1, pinch = event.ctrlKey ? 6 : 1;
  zoomAt(event.clientX, event.clientY, -event.deltaY * lines * pinch * 0.0022);
}, { passive: false });
function centre() {
  let x = 0, y = 0;
  for (const [a, b] of fingers.values()) { x += a; y += b; }
  return [x / fingers.size, y / fingers.size];
}
function gap() {
  if (fingers.size < 2) return 0;
  const [a, b] = [...fingers.values()];
  return Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
}

// --------------------------------------------------------------- by keyboard

canvas.addEventListener("keydown", (event) => {
  const step = 80 / scale(), moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key in moves) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; keep(); changed(); }
  else if (event.key === "+" || event.key === "=") zoomAt(centreX(), centreY(), 0.5);
  else if (event.key === "-") zoomAt(centreX(), centreY(), -0.5);
  else if (event.key === "0" || event.key === "Home") whole();
  else if (event.key === "Enter") { open(hovered); return; }
  else if (event.key === "Escape") { choose(-1); seek(""); box.value = ""; hover(-1); }
  else return;
  event.preventDefault();
  // The picture in the middle is the one pointed at.
  if (event.key !== "Escape") requestAnimationFrame(() => {
    const i = pointAt(centreX(), centreY(), 60);
    hover(i, centreX(), centreY());
    if (i >= 0) told.textContent = `In the middle: ${plain(data.names[i])}, ${data.clusters[members[i]].words[0]}`;
  });
});
const whole = () => { choose(-1); fly(0.5, 0.5, 0); };
document.getElementById("in").onclick = () => fly(view.x, view.y, Math.min(view.zoom + 1, MOST_ZOOM));
document.getElementById("out").onclick = () => fly(view.x, view.y, view.zoom - 1);
document.getElementById("all").onclick = whole;

// ---------------------------------------------------------- regions and search

const list = document.getElementById("regions");
const buttons = data.regions.map((region, r) => {
  const button = document.createElement("button"), dot = document.createElement("i");
  const label = document.createElement("span"), count = document.createElement("b");
  button.type = "button";
  button.title = region.words.join(" · ");
  button.setAttribute("aria-pressed", "false");
  label.textContent = region.words[0];
  count.textContent = region.size.toLocaleString("en");
  button.append(dot, label, count);
  button.onclick = () => {
    choose(chosenRegion === r ? -1 : r);
    if (chosenRegion === r) flyTo(pointsOf(r)); else fly(0.5, 0.5, 0);
  };
  return button;
});
data.regions.map((_, r) => r).sort((a, b) => data.regions[b].size - data.regions[a].size)
  .forEach((r) => list.append(buttons[r]));
function pointsOf(r) {
  const points = [];
  data.clusters.forEach((cluster, k) => { if (cluster.region === r) for (const i of byCluster[k]) points.push(i); });
  return points;
}
function choose(r) {
  chosenRegion = r;
  buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === r)));
  changed();
}
const box = document.getElementById("search");
function seek(text) {
  const wanted = text.trim().toLowerCase();
  found = null; foundCount = 0;
  if (wanted) {
    found = new Uint8Array(N);
    const named = data.clusters.map((cluster) => cluster.words[0].toLowerCase().includes(wanted)
      || data.regions[cluster.region].words[0].toLowerCase().includes(wanted));
    const inside = data.folder_names.map((folder) => plain(folder[0]).toLowerCase().includes(wanted));
    for (let i = 0; i < N; i++) {
      if (named[members[i]] || inside[folders[i]] || plain(data.names[i]).toLowerCase().includes(wanted)) { found[i] = 1; foundCount++; }
    }
  }
  told.textContent = wanted ? `${foundCount.toLocaleString("en")} of ${N.toLocaleString("en")} pictures; Enter goes there` : "";
  changed();
}
box.oninput = () => seek(box.value);
box.onkeydown = (event) => {
  if (event.key === "Enter" && foundCount) {
    const points = [];
    for (let i = 0; i < N; i++) if (found[i]) points.push(i);
    flyTo(points);
  } else if (event.key === "Escape") { box.value = ""; seek(""); }
};
const toggle = document.getElementById("toggle");
toggle.onclick = () => {
  const opened = document.querySelector(".panel").classList.toggle("open");
  toggle.setAttribute("aria-expanded", String(opened));
};

// ------------------------------------------------------------------- begin

function resize() {
  width = innerWidth; height = innerHeight; ratio = Math.min(devicePixelRatio || 1, 2);
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  changed();
}
function repaint() {
  paint();
  land = null;
  buttons.forEach((button, r) => { button.firstChild.style.background = regionColours[r]; });
  changed();
}
addEventListener("resize", resize);
addEventListener("hashchange", () => { readAddress(); changed(); });
dark.addEventListener("change", repaint);
readAddress();
resize();
repaint();
draw();
