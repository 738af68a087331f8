// Drawings of single pairs.

const SIGN = (mean) => (mean < 0 ? "harm" : "help");

/** One line: single scores as ticks, their mean as a dot, its interval as a bar, zero in the middle. */
function strip(found, samples, reach) {
  const width = 240, height = 26, x = (value) => (width / 2) * (1 + Math.max(-1, Math.min(1, value / reach)));
  const ticks = (samples ?? []).flat().map((value) =>
    element("svg:line", { x1: x(value), x2: x(value), y1: 4, y2: 14, class: "tick" }));
  const bar = found.half === null ? [] : [element("svg:line", {
    x1: x(found.mean - found.half), x2: x(found.mean + found.half), y1: 20, y2: 20, class: "bar" })];
  return element("svg:svg", { viewBox: `0 0 ${width} ${height}`, class: `strip ${SIGN(found.mean)}`,
    "aria-hidden": "true", preserveAspectRatio: "none" },
  element("svg:line", { x1: width / 2, x2: width / 2, y1: 0, y2: height, class: "zero" }),
  ...ticks, ...bar, element("svg:circle", { cx: x(found.mean), cy: 20, r: 3.2, class: "mean" }));
}

/** All samples of a pair: a row for each seed, a dot for each checkpoint, later ones darker. */
function distribution(method, found, samples, power) {
  const rows = samples.length, width = 320, line = Math.max(6, Math.min(14, 160 / rows)), left = 46;
  const height = rows * line + 44, all = samples.flat();
  const ends = [0, found.mean - (found.half ?? 0), found.mean + (found.half ?? 0), ...all];
  const low = Math.min(...ends), high = Math.max(...ends), span = high - low || 1;
  const x = (value) => left + 8 + ((value - low) / span) * (width - left - 20);
  const drawn = [vertical(x(0), height - 30, "zero")];
  samples.forEach((scores, seed) => {
    const y = 8 + seed * line;
    if (line > 7) drawn.push(text(left - 6, y + 3, method.seeds[seed], "seed"));
    scores.forEach((score, c) => drawn.push(element("svg:circle", { cx: x(score), cy: y, r: 2.6,
      class: "sample", "fill-opacity": 0.3 + (0.7 * (c + 1)) / scores.length })));
    const mean = scores.reduce((a, b) => a + b) / scores.length;
    if (scores.length > 1) drawn.push(element("svg:line", { x1: x(mean), x2: x(mean), y1: y - 4,
      y2: y + 4, class: "seed-mean" }));
  });
  const y = rows * line + 8;
  if (found.half !== null) drawn.push(element("svg:line", { x1: x(found.mean - found.half),
    x2: x(found.mean + found.half), y1: y, y2: y, class: `bar ${SIGN(found.mean)}` }));
  drawn.push(element("svg:circle", { cx: x(found.mean), cy: y, r: 4, class: `mean ${SIGN(found.mean)}` }));
  drawn.push(text(left - 6, y + 3, "mean", "seed"), ...axis(x, low, high, power, height));
  const words = `${all.length} scores of ${rows} ${method.seed}s, from ${sizeName(Math.min(...all), power)} `
    + `to ${sizeName(Math.max(...all), power)} ${unitName(power)}`;
  return element("svg:svg", { viewBox: `0 0 ${width} ${height}`, class: "distribution", role: "img",
    "aria-label": words }, ...drawn);
}

/** Both ends of what is drawn, and zero where there is room for it. */
function axis(x, low, high, power, height) {
  const y = height - 12, end = (value, anchor) => text(x(value), y, sizeName(value, power), "end", anchor);
  const near = Math.min(x(0) - x(low), x(high) - x(0)) < 34;
  return [element("svg:line", { x1: x(low), x2: x(high), y1: y - 12, y2: y - 12, class: "axis" }),
    low < 0 || near ? end(low, "start") : null, high > 0 || near ? end(high, "end") : null,
    near ? null : end(0, "middle")].filter(Boolean);
}

const vertical = (x, height, name) => element("svg:line", { x1: x, x2: x, y1: 0, y2: height, class: name });
const text = (x, y, words, name, anchor = "end") =>
  element("svg:text", { x, y, class: name, "text-anchor": anchor }, words);

/** Probabilities of the classes, as bars. */
function bars(classes, shares, label) {
  const shown = classes.map((name, k) => [name, shares[k]]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  return element("ul", { class: "bars", "aria-label": "Mean predicted probabilities" },
    ...shown.map(([name, share]) => element("li", { class: name === label ? "true" : "" },
      element("span", { class: "class" }, name),
      element("span", { class: "track", "aria-hidden": "true" },
        element("span", { class: "filled", style: { width: `${100 * share}%` } })),
      element("span", { class: "share" }, share.toFixed(2).replace(/^0/, "")))));
}
