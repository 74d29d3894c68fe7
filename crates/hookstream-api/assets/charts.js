// Lines over time: the data stands in the page, the numbers under the pointer in the legend.
"use strict";

const colors = matchMedia("(prefers-color-scheme: dark)").matches
  ? { good: "#7fdc97", warn: "#f5cb7a", bad: "#ff9aa5", axis: "#a3adb9", grid: "#323b46" }
  : { good: "#116329", warn: "#9a6700", bad: "#a40e26", axis: "#57606a", grid: "#d5dae1" };

for (const place of document.querySelectorAll(".chart")) {
  const { x, unit, lines } = JSON.parse(place.dataset.chart);
  const axis = { stroke: colors.axis, grid: { stroke: colors.grid, width: 1 } };
  const value = (_, number) => (number == null ? "–" : `${Math.round(number * 100) / 100} ${unit}`);
  const series = lines.map(({ label, kind }) => ({ label, value, stroke: colors[kind], width: 2, points: { show: lines.length > 0 && label.startsWith("p"), size: 5 } }));
  const options = {
    width: place.clientWidth,
    height: 220,
    series: [{}, ...series],
    axes: [axis, { ...axis, size: 60 }],
    scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 1)] } },
  };
  const chart = new uPlot(options, [x, ...lines.map(({ y }) => y)], place);
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: 220 })).observe(place);
}
