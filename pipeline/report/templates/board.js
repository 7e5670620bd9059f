// What the reader has chosen outlives a new section: by block and label, by the select, by the details' summary.
const chosen = { chips: {}, column: null, A: null, B: null, open: new Set() };

const places = new Map();  // of labels among the colours: a row has the same one in every block

function colourOf(label) {
  if (!places.has(label)) places.set(label, places.size);
  const colours = chartColours();
  return colours[places.get(label) % colours.length];
}

function dressed(block) {
  const buttons = [...block.querySelectorAll(".chips button")];
  const own = (chosen.chips[block.dataset.series] ??= {});
  for (const button of buttons) {
    const label = button.dataset.label;
    if (label in own) button.setAttribute("aria-pressed", own[label]);
    button.style.setProperty("--chip", colourOf(label));
    button.onclick = () => {
      own[label] = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", own[label]);
      draw(block);
    };
  }
  const select = block.querySelector("select[data-column]");
  if (select) {
    if ([...select.options].some((option) => option.value === chosen.column)) select.value = chosen.column;
    select.onchange = () => {
      chosen.column = select.value;
      draw(block);
    };
  }
}

function draw(block) {
  const buttons = [...block.querySelectorAll(".chips button")];
  const shown = buttons.filter((button) => button.getAttribute("aria-pressed") === "true").map((button) => button.dataset.label);
  const labels = buttons.map((button) => button.dataset.label);
  const column = block.querySelector("select[data-column]")?.value;
  for (const element of block.querySelectorAll(".chart")) {
    element.style.minHeight = `${element.offsetHeight}px`;
    drawChart(element, (spec) => {
      if (column) spec.params = [{ name: "column", value: column }];
      if (labels.length) {
        spec.transform = [{ filter: { field: "row", oneOf: shown } }, ...(spec.transform ?? [])];
        spec.encoding.color.scale = { domain: labels, range: labels.map(colourOf) };
        spec.encoding.color.legend = null;
      }
      return spec;
    }).then(() => { element.style.minHeight = ""; });
  }
}

function compare(element) {
  const content = JSON.parse(element.querySelector("script").textContent), out = element.querySelector("[aria-live]");
  const [one, other] = ["A", "B"].map((side) => element.querySelector(`select[data-side="${side}"]`));
  const names = content.map((experiment) => experiment.name), newest = content.find((experiment) => experiment.baseline);
  one.value = names.includes(chosen.A) ? chosen.A : newest?.baseline ?? names.at(-1);
  other.value = names.includes(chosen.B) ? chosen.B : newest?.name ?? names[0];
  const line = (cells, head) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const made = row.appendChild(document.createElement(head ? "th" : "td"));
      made.textContent = cell.text ?? cell;
      if (cell.kind) made.className = cell.kind;
    }
    return row;
  };
  const word = (value) => value === undefined || value === null ? "–" : typeof value === "number" && !Number.isInteger(value)
    ? String(Number(value.toPrecision(6))) : Array.isArray(value) ? value.join(", ") : String(value);
  const show = () => {
    [chosen.A, chosen.B] = [one.value, other.value];
    const [a, b] = [one, other].map((select) => content.find((experiment) => experiment.name === select.value));
    const table = document.createElement("table");
    table.append(line(["", a.name, b.name, ""], true));
    for (const part of ["params", "metrics"]) {
      for (const name of new Set([...Object.keys(a[part]), ...Object.keys(b[part])])) {
        const [x, y] = [a[part][name], b[part][name]];
        if (JSON.stringify(x) === JSON.stringify(y)) continue;
        const change = part === "metrics" && typeof x === "number" && typeof y === "number" ? y - x : null;
        const rises = /pck|auc/.test(name) ? 1 : -1, spread = name.endsWith("_std");
        const kind = change === null || spread ? "" : change * rises > 0 ? "better" : "worse";
        table.append(line([name, word(x), word(y), { text: change === null ? "" : (change > 0 ? "+" : "−") + Math.abs(change).toFixed(2), kind }]));
      }
    }
    const none = document.createElement("p");
    none.textContent = "Equal in all parameters and metrics.";
    out.replaceChildren(table.rows.length > 1 ? table : none);
  };
  one.onchange = other.onchange = show;
  show();
}

function dress(section) {
  for (const block of section.querySelectorAll(".block")) {
    dressed(block);
    draw(block);
  }
  for (const element of section.querySelectorAll(".compare")) compare(element);
  for (const details of section.querySelectorAll("details")) {
    const name = `${section.id} ${details.querySelector("summary").textContent.replace(/\d+/g, "")}`;
    details.open = chosen.open.has(name);
    details.ontoggle = () => details.open ? chosen.open.add(name) : chosen.open.delete(name);
  }
  for (const element of section.querySelectorAll(".poselift-viewer:not([data-frame])")) {
    const data = element.querySelector('script[type="application/json"]');
    if (data) mountViewer(element, JSON.parse(data.textContent));
  }
  tick();
}

function tick() {
  for (const element of document.querySelectorAll(".eta[data-left]")) {
    const left = element.dataset.left - (Date.now() / 1000 - element.dataset.since);
    element.textContent = left > 90 ? `about ${Math.round(left / 60)} min left` : left > 0 ? `about ${Math.ceil(left / 10) * 10} s left` : "about to end";
  }
}

const light = document.querySelector(".live");
function say(state, words) {
  light.dataset.state = state;
  light.textContent = words;
}
async function refresh() {
  try {
    const answer = await fetch(`/changed?${Object.values(MARKS).join(",")}`);
    for (const [name, { mark, html }] of Object.entries(await answer.json())) {
      const section = document.getElementById(name), heights = [...section.querySelectorAll(".chart")].map((chart) => chart.offsetHeight);
      section.style.minHeight = `${section.offsetHeight}px`;
      section.innerHTML = html;
      section.querySelectorAll(".chart").forEach((chart, place) => { chart.style.minHeight = `${heights[place] ?? 0}px`; });
      MARKS[name] = mark;
      dress(section);
      section.style.minHeight = "";
    }
    say("on", `live, read at ${new Date().toLocaleTimeString()}`);
  } catch {
    say("off", "the board's command has ended; start it again to go on");
  }
  setTimeout(refresh, 2000);
}

const sections = [...document.querySelectorAll("main > section")];
sections.forEach(dress);
dark.addEventListener("change", () => sections.forEach(dress));
setInterval(tick, 1000);
if (LIVE) refresh();
else say("file", "a picture of one moment");
