// Draws the charts, compares experiments, and asks the board's server for sections that have changed.
const dark = matchMedia("(prefers-color-scheme: dark)");
// What the reader has chosen outlives a section that is replaced.
const chosen = { pressed: {}, column: null, A: null, B: null, open: new Set() };
const labels = []; // all that were drawn: a label has the same colour in every chart

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colourOf(label) {
  if (!labels.includes(label)) labels.push(label);
  return style(`--pl-p${labels.indexOf(label) % 8}-middle`);
}

// ---------------------------------------------------------------- charts

function drawBlock(block) {
  const pressed = (chosen.pressed[block.dataset.block] ??= {});
  const select = block.querySelector("select[data-column]");
  const buttons = [...block.querySelectorAll(".chips button")];
  for (const button of buttons) {
    const { label } = button.dataset;
    if (label in pressed) button.setAttribute("aria-pressed", pressed[label]);
    button.style.setProperty("--chip", colourOf(label));
    button.onclick = () => {
      pressed[label] = button.getAttribute("aria-pressed") !== "true";
      drawBlock(block);
    };
  }
  if (select) {
    if ([...select.options].some((option) => option.value === chosen.column)) select.value = chosen.column;
    select.onchange = () => {
      chosen.column = select.value;
      drawBlock(block);
    };
  }
  const shown = buttons.filter((button) => button.getAttribute("aria-pressed") === "true").map((button) => button.dataset.label);
  for (const element of block.querySelectorAll(".chart")) drawChart(element, shown, select?.value);
}

function drawChart(element, shown, column) {
  const spec = JSON.parse(element.dataset.spec);
  if (column) spec.params = [{ name: "column", value: column }];
  spec.transform = [{ filter: { field: "row", oneOf: shown } }, ...(spec.transform ?? [])];
  spec.encoding.color.scale = { domain: shown, range: shown.map(colourOf) };
  const axis = {
    labelColor: style("--muted"), titleColor: style("--muted"), gridColor: style("--line"), domain: false, ticks: false,
    titleFontWeight: 500, labelFontSize: 12, titleFontSize: 12, labelPadding: 6,
    labelLimit: Math.max(130, 0.4 * element.clientWidth), // of an action that is called by its group and name
  };
  const config = { background: "transparent", font: "system-ui, sans-serif", axis, view: { stroke: null } };
  const tooltip = { theme: dark.matches ? "dark" : "light" };
  element.style.minHeight ||= `${element.offsetHeight}px`; // so that the page does not jump
  vegaEmbed(element, spec, { actions: false, renderer: "svg", config, tooltip }).then(() => { element.style.minHeight = ""; });
}

// ---------------------------------------------------------------- experiments

function words(value) {
  if (value === undefined || value === null) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return Array.isArray(value) ? value.join(", ") : String(value);
}

function rowOf(tag, cells, kind) {
  const row = document.createElement("tr");
  for (const text of cells) row.appendChild(document.createElement(tag)).textContent = text;
  if (kind) row.lastChild.className = kind;
  return row;
}

function differences(a, b) {
  const rows = [];
  for (const part of ["params", "metrics"]) {
    for (const name of new Set([...Object.keys(a[part]), ...Object.keys(b[part])])) {
      const [x, y] = [a[part][name], b[part][name]];
      if (JSON.stringify(x) === JSON.stringify(y)) continue;
      const change = part === "metrics" && typeof x === "number" && typeof y === "number" ? y - x : 0;
      const gain = /pck|auc/.test(name) ? change : -change; // of shares more is better, of errors less
      const kind = change && !name.endsWith("_std") ? (gain > 0 ? "better" : "worse") : "";
      const sign = change > 0 ? "+" : "−";
      rows.push(rowOf("td", [name, words(x), words(y), change ? sign + Math.abs(change).toFixed(2) : ""], kind));
    }
  }
  return rows;
}

function compare(element) {
  const experiments = JSON.parse(element.querySelector("script").textContent);
  const newest = experiments.find((experiment) => experiment.baseline);
  const first = { A: newest?.baseline ?? experiments.at(-1).name, B: newest?.name ?? experiments[0].name };
  const selects = [...element.querySelectorAll("select")];
  for (const select of selects) {
    const { side } = select.dataset;
    select.value = experiments.some((experiment) => experiment.name === chosen[side]) ? chosen[side] : first[side];
    select.onchange = () => {
      chosen[side] = select.value;
      compare(element);
    };
  }
  const [a, b] = selects.map((select) => experiments.find((experiment) => experiment.name === select.value));
  const rows = differences(a, b), table = document.createElement("table");
  table.append(rowOf("th", ["", a.name, b.name, ""]), ...rows);
  element.querySelector("[aria-live]").replaceChildren(rows.length ? table : "Equal in all parameters and metrics.");
}

// ---------------------------------------------------------------- page

function drawSection(section) {
  section.querySelectorAll(".block").forEach(drawBlock);
  section.querySelectorAll(".compare").forEach(compare);
  for (const details of section.querySelectorAll("details")) {
    const name = details.querySelector("summary").textContent.replace(/\d+/g, "");
    details.open = chosen.open.has(name);
    details.ontoggle = () => (details.open ? chosen.open.add(name) : chosen.open.delete(name));
  }
  mountViewers();
  sayTimeLeft();
}

function sayTimeLeft() {
  for (const element of document.querySelectorAll(".eta[data-ends]")) {
    const left = element.dataset.ends - Date.now() / 1000;
    element.textContent = left > 90 ? `about ${Math.round(left / 60)} min left`
      : left > 0 ? `about ${Math.ceil(left / 10) * 10} s left` : "about to end";
  }
}

function replace(section, { mark, html }) {
  const heights = [...section.querySelectorAll(".chart")].map((chart) => chart.offsetHeight);
  section.style.minHeight = `${section.offsetHeight}px`;
  section.innerHTML = html;
  section.dataset.mark = mark;
  section.querySelectorAll(".chart").forEach((chart, place) => { chart.style.minHeight = `${heights[place] ?? 0}px`; });
  drawSection(section);
  section.style.minHeight = "";
}

const sections = [...document.querySelectorAll("main > section")], statusLine = document.querySelector(".live");

async function follow() {
  try {
    const answer = await fetch(`/changed?${sections.map((section) => section.dataset.mark).join(",")}`);
    for (const [name, changed] of Object.entries(await answer.json())) replace(document.getElementById(name), changed);
    statusLine.dataset.state = "on";
    statusLine.textContent = `live, read at ${new Date().toLocaleTimeString()}`;
  } catch {
    statusLine.dataset.state = "off";
    statusLine.textContent = "the board's command has ended; start it again to go on";
  }
  setTimeout(follow, 2000);
}

sections.forEach(drawSection);
dark.addEventListener("change", () => sections.forEach(drawSection));
setInterval(sayTimeLeft, 1000);
if (LIVE) follow();
else statusLine.textContent = "a picture of one moment";
