// Anchors and negatives on the unit circle, to be dragged: loss, weights and forces of the official formulation, in
// double precision. The body of a function of (at, data): `at` is the element to fill; data.anchors and data.negatives
// are angles in degrees, data.temperature is a number, data.temperatures are those of the slider.
const TURN = Math.PI / 180, BLUE = "#0072B2", ORANGE = "#D55E00", GREY = "#6b6b6b";
const state = { anchors: [...data.anchors], negatives: [...data.negatives], temperature: data.temperature };
let chosen = state.anchors.length - 1; // the anchor whose lines are drawn

// What mean_positive_infonce gives, and where a step of descent takes each point: −∂L/∂angle, times Nτ/2.
function values({ anchors, negatives, temperature: t }) {
  const count = anchors.length, sum = (list) => list.reduce((a, b) => a + b, 0);
  const cos = (a, b) => Math.cos((a - b) * TURN), sin = (a, b) => Math.sin((a - b) * TURN);
  const rows = anchors.map((a, i) => {
    const positive = sum(anchors.map((b, k) => (k === i ? 0 : cos(a, b)))) / (count - 1);
    const logits = [positive, ...negatives.map((n) => cos(a, n))].map((x) => x / t);
    const top = Math.max(...logits), parts = logits.map((x) => Math.exp(x - top)), all = sum(parts);
    const weights = parts.slice(1).map((x) => x / all);
    return { positive, loss: top + Math.log(all) - logits[0], weights, wrong: sum(weights) };
  });
  const pull = (i) => sum(anchors.map((b, k) => (k === i ? 0 : (rows[i].wrong + rows[k].wrong) * sin(anchors[i], b))));
  return {
    loss: sum(rows.map((r) => r.loss)) / count,
    rows,
    anchors: anchors.map((a, i) => 0.5 * (sum(negatives.map((n, j) => rows[i].weights[j] * sin(a, n))) - pull(i) / (count - 1))),
    negatives: negatives.map((n, j) => 0.5 * sum(anchors.map((a, i) => rows[i].weights[j] * sin(n, a)))),
  };
}

// The parts of the picture: a square with the circle, a line of numbers, a table, a slider.
function make(kind, attributes, parent, text) {
  const svg = ["svg", "g", "circle", "rect", "line", "path", "text"].includes(kind);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", kind) : document.createElement(kind);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}
const place = (degrees, radius = 100) => [radius * Math.cos(degrees * TURN), -radius * Math.sin(degrees * TURN)];
const picture = make("svg", { viewBox: "-150 -150 300 300", role: "group", "aria-label": "points on a circle",
  style: "display:block;width:100%;max-width:26rem;margin:auto" }, at);
make("circle", { r: 100, fill: "none", stroke: GREY, "stroke-width": 1 }, picture);
const lines = make("g", {}, picture), arrows = make("g", {}, picture), points = [];
const told = make("p", { "aria-live": "polite", style: "margin:.3rem 0" }, at);
const table = make("table", { style: "border-collapse:collapse;font-size:14px;margin:.3rem auto" }, at);
const label = make("label", { style: "display:block;margin:.3rem 0" }, at, "temperature ");
const knob = make("input", { type: "range", min: 0, max: data.temperatures.length - 1, step: 1,
  value: data.temperatures.indexOf(data.temperature), style: "width:50%;vertical-align:middle" }, label);
const shown = make("span", {}, label);
const again = make("button", { type: "button", style: "font:inherit;color:inherit;background:#eee;border:1px solid #888" }, at, "as at first");

function point(group, index) {
  const anchor = group === "anchors", name = `${anchor ? "anchor" : "negative"} ${index + 1}`;
  const node = make("g", { tabindex: 0, role: "slider", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 359,
    style: "cursor:grab;touch-action:none" }, picture);
  make("circle", { r: 20, fill: "transparent" }, node); // room for a finger
  const mark = { fill: anchor ? BLUE : ORANGE, stroke: "#fff" };
  anchor ? make("circle", { r: 9, ...mark }, node) : make("rect", { x: -8, y: -8, width: 16, height: 16, ...mark }, node);
  make("text", { y: 4, "text-anchor": "middle", fill: "#fff", "font-size": 11, "pointer-events": "none" }, node, index + 1);
  const turn = (degrees) => { state[group][index] = ((degrees % 360) + 360) % 360; draw(); };
  node.addEventListener("focus", () => { if (anchor) { chosen = index; draw(); } });
  node.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    turn(state[group][index] + way * (event.shiftKey ? 15 : 2));
  });
  node.addEventListener("pointerdown", (event) => { event.preventDefault(); node.focus(); node.setPointerCapture(event.pointerId); });
  node.addEventListener("pointermove", (event) => {
    if (!node.hasPointerCapture(event.pointerId)) return;
    const box = picture.getBoundingClientRect();
    turn(Math.atan2(box.top + box.height / 2 - event.clientY, event.clientX - box.left - box.width / 2) / TURN);
  });
  points.push({ node, group, index });
}

function draw() {
  const now = values(state), number = (x) => x.toFixed(3);
  at.dataset.state = JSON.stringify({ ...state, ...{ loss: now.loss, each: now.rows.map((r) => r.loss),
    weights: now.rows.map((r) => r.weights), forces: [now.anchors, now.negatives] } });
  lines.replaceChildren();
  arrows.replaceChildren();
  const [x, y] = place(state.anchors[chosen]), most = now.rows[chosen];
  state.negatives.forEach((degrees, j) => { // as thick as the weight
    const [x2, y2] = place(degrees);
    make("line", { x1: x, y1: y, x2, y2, stroke: ORANGE, "stroke-opacity": 0.5, "stroke-width": 0.5 + 12 * most.weights[j] }, lines);
  });
  for (const { node, group, index } of points) {
    const degrees = state[group][index], [left, top] = place(degrees), force = now[group][index];
    node.setAttribute("transform", `translate(${left} ${top})`);
    node.setAttribute("aria-valuenow", Math.round(degrees));
    node.setAttribute("aria-valuetext", `${Math.round(degrees)} degrees, force ${number(force)}`);
    if (Math.abs(force) < 0.004) continue;
    const end = [left - 100 * force * Math.sin(degrees * TURN), top - 100 * force * Math.cos(degrees * TURN)];
    const [dx, dy] = [end[0] - left, end[1] - top], size = Math.hypot(dx, dy), [ux, uy] = [7 * dx / size, 7 * dy / size];
    const colour = group === "anchors" ? BLUE : ORANGE;
    make("line", { x1: left, y1: top, x2: end[0], y2: end[1], stroke: colour, "stroke-width": 3 }, arrows);
    make("path", { fill: colour, d: `M${end[0] + ux} ${end[1] + uy} L${end[0] - uy * 0.7} ${end[1] + ux * 0.7} L${end[0] + uy * 0.7} ${end[1] - ux * 0.7}Z` }, arrows);
  }
  told.textContent = `loss ${number(now.loss)}; the lines show the weights of anchor ${chosen + 1}`;
  shown.textContent = ` ${state.temperature}`;
  table.replaceChildren();
  const cell = (row, kind, text) => make(kind, { style: "padding:0 .5em;text-align:right;color:inherit;background:none;border:0" }, row, text);
  const head = make("tr", {}, make("thead", {}, table)), body = make("tbody", {}, table);
  ["anchor", "positives", ...state.negatives.map((_, j) => `weight of ${j + 1}`), "loss"].forEach((x) => cell(head, "th", x));
  now.rows.forEach((r, i) => {
    const row = make("tr", { style: `background:${i === chosen ? "#e6eef5" : "none"}` }, body);
    [i + 1, ...[r.positive, ...r.weights, r.loss].map(number)].forEach((x) => cell(row, "td", x));
  });
}

state.anchors.forEach((_, i) => point("anchors", i));
state.negatives.forEach((_, j) => point("negatives", j));
knob.addEventListener("input", () => { state.temperature = data.temperatures[knob.value]; draw(); });
again.addEventListener("click", () => {
  Object.assign(state, { anchors: [...data.anchors], negatives: [...data.negatives], temperature: data.temperature });
  knob.value = data.temperatures.indexOf(data.temperature);
  draw();
});
draw();
