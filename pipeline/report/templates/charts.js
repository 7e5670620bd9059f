// Turns elements of the class "chart" into charts. What a page wants changed in a specification it says in `adapt`.
const dark = matchMedia("(prefers-color-scheme: dark)");
function chartColours() {
  return dark.matches
    ? ["#6ea3ff", "#ff8a4a", "#2fc5ab", "#ef5fbb", "#deb42f", "#a27bff"]
    : ["#1f5fd0", "#d9570f", "#0b8a75", "#b8267f", "#9a7400", "#6a35d0"];
}
function drawChart(element, adapt = (spec) => spec) {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  const axis = { labelColor: colour("--muted"), titleColor: colour("--muted"), gridColor: colour("--line"), domain: false, ticks: false, titleFontWeight: 500, labelFontSize: 12, titleFontSize: 12, labelPadding: 6, labelLimit: 130 };
  const legend = { labelColor: colour("--text"), labelFontSize: 12 };
  const config = { background: "transparent", font: "system-ui, sans-serif", axis, legend, view: { stroke: null }, range: { category: chartColours() } };
  const tooltip = { theme: dark.matches ? "dark" : "light" };
  return vegaEmbed(element, adapt(JSON.parse(element.dataset.spec)), { actions: false, renderer: "svg", config, tooltip });
}
function drawCharts() {
  for (const element of document.querySelectorAll(".chart")) drawChart(element);
}
