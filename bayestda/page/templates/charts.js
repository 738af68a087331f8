// Draw single pairs.

const SIGN = (mean) => (mean < 0 ? "harm" : "help");

const WIDTH = 240;
const line = (x1, x2, y1, y2, name) => element("svg:line", { x1, x2, y1, y2, class: name });

/** Return the places of numbers on a strip that reaches from the smallest to the largest, and to zero. */
function scaleOf(numbers) {
  const low = Math.min(0, ...numbers), high = Math.max(0, ...numbers), span = high - low || 1;
  return (value) => 4 + ((value - low) / span) * (WIDTH - 8);
}

/** Draw single scores as ticks, below them their mean and its interval as a bar; the dashed line is zero. */
function strip(found, samples, x) {
  const height = samples ? 26 : 14, y = height - 6;
  const ticks = (samples ?? []).flat().map((value) => line(x(value), x(value), 2, 13, "tick"));
  const bar = found.half === null ? []
    : [line(x(found.mean - found.half), x(found.mean + found.half), y, y, "bar")];
  return element("svg:svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: `strip ${SIGN(found.mean)}`,
    style: { height: `${height}px` }, "aria-hidden": "true", preserveAspectRatio: "none" },
  line(x(0), x(0), 0, height, "zero"), ...ticks, ...bar,
  line(x(found.mean), x(found.mean), y - 5, y + 5, "mean-tick"));
}

/** Draw all samples of a pair: a row for each seed, a dot for each checkpoint, later ones darker. */
function distribution(method, found, samples, power) {
  const rows = samples.length, width = 320, step = Math.max(6, Math.min(14, 160 / rows)), left = 46;
  const height = rows * step + 44, all = samples.flat();
  const ends = [0, found.mean - (found.half ?? 0), found.mean + (found.half ?? 0), ...all];
  const low = Math.min(...ends), high = Math.max(...ends), span = high - low || 1;
  const x = (value) => left + 8 + ((value - low) / span) * (width - left - 20);
  const drawn = [line(x(0), x(0), 0, height - 30, "zero")];
  samples.forEach((scores, seed) => {
    const y = 8 + seed * step;
    if (step > 7) drawn.push(text(left - 6, y + 3, method.seeds[seed], "seed"));
    scores.forEach((score, c) => drawn.push(element("svg:circle", { cx: x(score), cy: y, r: 2.6,
      class: "sample", "fill-opacity": 0.3 + (0.7 * (c + 1)) / scores.length })));
    const mean = scores.reduce((a, b) => a + b) / scores.length;
    if (scores.length > 1) drawn.push(line(x(mean), x(mean), y - 4, y + 4, "seed-mean"));
  });
  const y = rows * step + 8;
  if (found.half !== null) drawn.push(
    line(x(found.mean - found.half), x(found.mean + found.half), y, y, `bar ${SIGN(found.mean)}`));
  drawn.push(element("svg:circle", { cx: x(found.mean), cy: y, r: 4, class: `mean ${SIGN(found.mean)}` }));
  drawn.push(text(left - 6, y + 3, "mean", "seed"), ...axis(x, low, high, power, height));
  const words = `${all.length} scores of ${rows} ${method.seed}s, from ${sizeName(Math.min(...all), power)} `
    + `to ${sizeName(Math.max(...all), power)} ${unitName(power)}`;
  return element("svg:svg", { viewBox: `0 0 ${width} ${height}`, class: "distribution", role: "img",
    "aria-label": words }, ...drawn);
}

/** Draw both ends of an axis, and zero where there is room for it. */
function axis(x, low, high, power, height) {
  const y = height - 12, end = (value, anchor) => text(x(value), y, sizeName(value, power), "end", anchor);
  const near = Math.min(x(0) - x(low), x(high) - x(0)) < 34;
  return [line(x(low), x(high), y - 12, y - 12, "axis"),
    low < 0 || near ? end(low, "start") : null, high > 0 || near ? end(high, "end") : null,
    near ? null : end(0, "middle")].filter(Boolean);
}

const text = (x, y, words, name, anchor = "end") =>
  element("svg:text", { x, y, class: name, "text-anchor": anchor }, words);

/** Return probabilities of the classes as bars. */
function bars(classes, shares, label) {
  const shown = classes.map((name, k) => [name, shares[k]]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  return element("ul", { class: "bars", "aria-label": "Mean predicted probabilities" },
    ...shown.map(([name, share]) => element("li", { class: name === label ? "true" : "" },
      element("span", { class: "class" }, name),
      element("span", { class: "track", "aria-hidden": "true" },
        element("span", { class: "filled", style: { width: `${100 * share}%` } })),
      element("span", { class: "share" }, share.toFixed(2).replace(/^0/, "")))));
}
