// Write words and numbers.

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const minus = (text) => text.replaceAll("-", "−");
const percent = (share) => `${Math.round(100 * share)} %`;

/** Return the power of ten in which numbers of this size are shown: 0, or a multiple of three. */
const powerOf = (size) => {
  const power = size > 0 ? 3 * Math.floor(Math.log10(size) / 3) : 0;
  return power === -3 && size >= 0.005 ? 0 : power;
};

/** Return "×10⁻³", or "" for 1. */
const unitName = (power) =>
  power ? `×10${power < 0 ? "⁻" : ""}${[...String(Math.abs(power))].map((d) => SUPERSCRIPTS[d]).join("")}` : "";

/** Return a signed number to the digits of its error; a mean that is stored as 0 has no sign. */
function measured(value, error, power) {
  if (value === 0) return "0";
  const digits = digitsFor(error ?? value, power);
  return minus(`${value < 0 ? "-" : "+"}${Math.abs(value / 10 ** power).toFixed(digits)}`);
}

/** Return an error beside such a number: "± 0.31", or "" when it is not known. */
const plusMinus = (error, power) =>
  error === null ? "" : `± ${(error / 10 ** power).toFixed(digitsFor(error, power))}`;

function digitsFor(size, power) {
  const scaled = Math.abs(size) / 10 ** power;
  return scaled > 0 ? Math.min(Math.max(1 - Math.floor(Math.log10(scaled)), 0), 3) : 2;
}

function probability(name, value) {
  if (value === null) return `${name} not known`;
  if (value < 0.001) return `${name} < .001`;
  return value > 0.99 ? `${name} > .99` : `${name} = ${value.toFixed(3).slice(1)}`;
}

/** Return a number at the end of an axis. */
function sizeName(value, power) {
  const scaled = value / 10 ** power;
  return minus(Math.abs(scaled) >= 100 ? scaled.toFixed(0) : String(Number(scaled.toPrecision(2))));
}

/** Return an element with attributes (or, by functions, listeners) and children. */
function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (key === "style") Object.entries(value).forEach(([k, v]) => made.style.setProperty(k, v));
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}
