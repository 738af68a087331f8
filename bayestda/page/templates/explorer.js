// The explorer: it keeps what is chosen, and shows it.

const Q_STOPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, null];
const FIRST = 6, ROWS_SIDE_BY_SIDE = 16;
const { methods, kind, predictions } = description;
const $ = (id) => document.getElementById(id);
const chosen = { test: 0, method: methods[0].name, train: null, view: "one", shown: FIRST };
let visible = [];  // places of the test examples in the list
let turn = 0;  // of showing training examples
let asked = null;  // the test example that #query shows

// ---- examples -------------------------------------------------------------------------------

/** Return the picture of an example, or null if it has none. */
function picture(split, place, size) {
  const { sprite, across, size: [height, width] = [] } = description[split];
  if (!sprite) return null;
  const scale = size / Math.max(height, width), rows = Math.ceil(description[split].index.length / across);
  return element("span", { class: `picture ${split}-sprite`, "aria-hidden": "true", style: {
    width: `${scale * width}px`, height: `${scale * height}px`,
    "image-rendering": scale > 1 ? "pixelated" : "auto",
    "background-size": `${across * scale * width}px ${rows * scale * height}px`,
    "background-position": `${-(place % across) * scale * width}px ${-Math.floor(place / across) * scale * height}px`,
  } });
}

const numbered = (name) => (typeof name === "number" ? `no.\u00a0${name}` : name);
const called = (split, place) => {
  const { index, label } = description[split], word = description.label === "label" ? "label " : "";
  return label[place] ? `${word}${label[place]} · ${numbered(index[place])}` : numbered(index[place]);
};
const sentence = (split, place) => description[split].texts?.[place] ?? null;

const labelsOf = once((split) => new Set(description[split].label.map((label) => label.toLowerCase())));

/** Whether an example is what was searched for: its name, its label, or words of its text. */
function matches(split, place, query) {
  const number = String(description[split].index[place]).toLowerCase(), label = description[split].label[place].toLowerCase();
  const words = query.trim().toLowerCase(), text = (sentence(split, place) ?? "").toLowerCase();
  if (!words) return true;
  if (words.startsWith("label ")) return label.startsWith(words.slice(6).trim());
  if (number === words) return true;
  if (labelsOf(split).has(words)) return label === words;
  if (/^\d+$/.test(words)) return (words.length > 1 && number.startsWith(words)) || text.includes(words);
  const named = typeof description[split].index[place] === "string" && number.includes(words);
  return named || label.includes(words) || text.includes(words);
}

// ---- the list of test examples ----------------------------------------------------------------

function listTests() {
  const only = $("only").value, query = $("find").value;
  visible = [...description.test.index.keys()].filter((place) =>
    matches("test", place, query)
    && (only === "all" || predictions.right[place] === (only === "right")));
  $("tests").replaceChildren(...visible.map(option));
  const left = description.all_tests - NUM_TEST;
  $("found").textContent = `${visible.length} of ${NUM_TEST} test ${kind}s`
    + (left ? ` (${left} more have no room in this page)` : "");
  markTest();
}

function option(place) {
  const right = predictions?.right?.[place];
  const name = `${called("test", place)}${right === false ? ", wrongly predicted" : ""}`;
  return element("div", { role: "option", id: `test-${place}`, "data-place": place, title: name,
    "aria-label": sentence("test", place) ? `${name}: ${sentence("test", place)}` : name,
    class: right === false ? "wrong" : "", tabindex: -1 },
  picture("test", place, 30) ?? element("span", {}, sentence("test", place) ?? called("test", place)));
}

function markTest(focus = false) {
  for (const marked of $("tests").querySelectorAll("[aria-selected=true]")) {
    marked.setAttribute("aria-selected", "false");
    marked.tabIndex = -1;
  }
  const own = $(`test-${chosen.test}`) ?? null, entry = own ?? $("tests").firstElementChild;
  own?.setAttribute("aria-selected", "true");
  if (entry) entry.tabIndex = 0;
  if (own && focus) own.focus({ preventScroll: true });
  if (own) reveal($("tests"), own);
}

/** Scroll within a box only: the page stays where it is. */
function reveal(box, item) {
  const top = item.offsetTop;  // the box is positioned
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + item.offsetHeight > box.scrollTop + box.clientHeight)
    box.scrollTop = top + item.offsetHeight - box.clientHeight;
}

function moveInList(event) {
  const at = visible.indexOf(chosen.test), columns = columnsOf($("tests"));
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns,
    Home: 0, End: visible.length - 1 }[event.key];
  if (to === undefined || !visible.length) return;
  event.preventDefault();
  chooseTest(visible[Math.max(0, Math.min(visible.length - 1, to))], true);
}

const columnsOf = (list) => {
  const tops = [...list.children].map((child) => child.offsetTop);
  return Math.max(1, tops.filter((top) => top === tops[0]).length);
};

function step(by) {
  const at = visible.indexOf(chosen.test);
  if (visible.length) chooseTest(visible[(at + by + visible.length) % visible.length]);
}

function chooseTest(place, focus = false) {
  Object.assign(chosen, { test: place, train: null, shown: FIRST });
  markTest(focus);
  return showChoice();
}

// ---- the chosen test example --------------------------------------------------------------------

function showQuery() {
  if (asked === chosen.test) return;  // what is read aloud is what is new
  asked = chosen.test;
  const { index, label } = description.test, right = predictions?.right?.[asked];
  const verdict = typeof right !== "boolean" ? null
    : element("span", { class: right ? "right" : "wrong" }, right ? "right" : "wrong");
  const said = element("h3", {}, `Test ${kind} ${numbered(index[asked])}`);
  const facts = element("div", { class: "known" }, said,
    sentence("test", asked) ? element("blockquote", {}, sentence("test", asked)) : null,
    label[asked] ? element("p", {}, `${description.label} `, element("b", {}, label[asked])) : null,
    predictions ? element("p", {}, "predicted ", element("b", {}, predictions.said[asked]), " ", verdict ?? "") : null,
    predictions?.classes.length ? bars(predictions.classes, predictions.probability[asked], label[asked]) : null,
    description.test.rows ? element("dl", { class: "row-fields" }, ...filled([["test", asked]]).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value)))) : null);
  $("asked").replaceChildren(...[picture("test", asked, 112), facts].filter(Boolean));
  $("announced").textContent = said.textContent;
}

// ---- training examples --------------------------------------------------------------------------

const limits = () => ({ q: Q_STOPS[$("max-q").value], agreement: $("min-agreement").value / 100 });

/** Whether a pair is reliable enough, and what was searched for. */
function passes(train, found) {
  const { q, agreement } = limits();
  return (q === null || (found.q !== null && found.q < q))
    && (agreement <= 0.5 || (found.agreement !== null && found.agreement >= agreement))
    && matches("train", train, $("find-train").value);
}

async function showTrain() {
  const own = ++turn;
  const pairs = Object.fromEntries(await Promise.all(
    methods.map(async ({ name }) => [name, await pairsOf(name)])));
  const found = (train, name = chosen.method) => pairs[name](chosen.test, train);
  const passing = [...description.train.index.keys()].filter((train) => passes(train, found(train)));
  passing.sort((a, b) => found(b).mean - found(a).mean);
  const left = description.all_train - NUM_TRAIN;
  $("passed").textContent = `${passing.length} of ${NUM_TRAIN} training ${kind}s `
    + (passing.length === 1 ? "passes the filters" : passing.length < NUM_TRAIN ? "pass the filters" : "are shown, none is filtered out")
    + (left ? ` (${left} more, whose scores are small, have no room in this page)` : "");
  const samples = await samplesOf(chosen.method);
  if (own !== turn) return;  // something else was chosen in the meantime
  if (chosen.view === "one") showOne(passing, found, samples);
  else showSideBySide(passing, found);
  await showPair(found);
}

/** Show other training examples; the button that had the focus has it again, if it is still there. */
function rank(name, ...children) {
  const list = $("ranking"), had = list.contains(document.activeElement) ? document.activeElement.dataset : {};
  list.className = name;
  list.replaceChildren(...children);
  const again = [...list.querySelectorAll("button")].find(({ dataset }) =>
    (had.train ?? had.sort) !== undefined && dataset.train === had.train && dataset.sort === had.sort);
  again?.focus({ preventScroll: true });
}

/** Show the most helpful and most harmful examples of one method. */
function showOne(passing, found, samples) {
  const helpful = passing.filter((train) => found(train).mean >= 0);  // 0: smaller than half a unit
  const harmful = passing.filter((train) => found(train).mean < 0).reverse();
  const lists = [["help", "Most helpful", helpful], ["harm", "Most harmful", harmful]];
  const cards = lists.flatMap(([, , all]) => all.slice(0, chosen.shown));
  const drawn = new Map(cards.map((train) => [train, samples(chosen.test, train, found(train).mean)]));
  const x = scaleOf(cards.flatMap((train) => [...(drawn.get(train)?.flat() ?? []), ...ends(found(train))]));
  const power = powerOf(Math.max(...cards.map((train) => Math.abs(found(train).mean)), 0));
  const card = (train) => trainCard(train, found(train), drawn.get(train), x, power);
  rank("columns", ...lists.map(([sign, title, all]) => element("div", {},
    element("h3", { class: sign }, title, element("small", {}, ` ${all.length}${power ? `, in ${unitName(power)}` : ""}`)),
    all.length ? element("ol", {}, ...all.slice(0, chosen.shown).map(card)) : element("p", { class: "none" }, "none"))));
  $("more").hidden = Math.max(helpful.length, harmful.length) <= chosen.shown;
}

function trainCard(train, found, samples, x, power) {
  const words = [measured(found.mean, found.half, power), plusMinus(found.half, power)].join(" ");
  return element("li", {}, element("button", { type: "button", class: `card ${SIGN(found.mean)}`,
    "aria-pressed": String(chosen.train === train), "data-train": train, click: () => choosePair(train) },
  picture("train", train, 44),
  element("span", { class: "what" }, called("train", train)),
  element("span", { class: "score" }, words),
  element("span", { class: "trust" }, trust(found)),
  sentence("train", train) ? element("span", { class: "sentence" }, sentence("train", train)) : null,
  strip(found, samples, x)));
}

const ends = ({ mean, half }) => [mean - (half ?? 0), mean + (half ?? 0)];
const trust = (found) => found.q === null ? "single run: no test"
  : `${probability("q", found.q)} · ${percent(found.agreement)} agree`;

/** Show a row for each training example, a column for each method; each method has its own scale. */
function showSideBySide(passing, found) {
  const rows = passing.length <= ROWS_SIDE_BY_SIDE + chosen.shown - FIRST ? passing
    : [...passing.slice(0, (ROWS_SIDE_BY_SIDE + chosen.shown - FIRST) / 2),
      ...passing.slice(-(ROWS_SIDE_BY_SIDE + chosen.shown - FIRST) / 2)];
  const scales = new Map(methods.map(({ name }) => {
    const numbers = description.train.index.flatMap((_, train) => ends(found(train, name)));
    return [name, { x: scaleOf(numbers), power: powerOf(Math.max(...numbers.map(Math.abs))) }];
  }));
  const head = element("tr", {}, element("th", { scope: "col" }, `training ${kind}`), ...methods.map(({ name, label }) =>
    element("th", { scope: "col", "aria-sort": name === chosen.method ? "descending" : "none" },
      element("button", { type: "button", title: `Sort by ${label}`, "data-sort": name, click: () => chooseMethod(name) },
        label, name === chosen.method ? " ↓" : ""), element("small", {}, ` ${unitName(scales.get(name).power)}`))));
  const cell = (train, { name }) => {
    const own = found(train, name), weak = !passes(train, own), { x, power } = scales.get(name);
    return element("td", { class: `${SIGN(own.mean)} ${weak ? "weak" : ""}`, title: trust(own) },
      element("span", { class: "score" }, measured(own.mean, own.half, power)),
      element("small", {}, ` ${plusMinus(own.half, power)}`), strip(own, null, x),
      element("small", {}, own.q === null ? "" : probability("q", own.q)));
  };
  const row = (train) => element("tr", { class: chosen.train === train ? "chosen" : "" },
    element("th", { scope: "row" }, element("button", { type: "button", class: "what", "data-train": train,
      "aria-pressed": String(chosen.train === train), click: () => choosePair(train) },
    picture("train", train, 30), element("span", {}, sentence("train", train) ?? called("train", train)))),
    ...methods.map((method) => cell(train, method)));
  rank("side-by-side scroll", element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map(row))));
  $("more").hidden = rows.length === passing.length;
}

// ---- one pair -----------------------------------------------------------------------------------

async function showPair(found) {
  const train = chosen.train, test = chosen.test;
  $("pair").hidden = train === null;
  if (train === null) return $("pair").replaceChildren();
  const panels = await Promise.all(methods.map(async (method) => {
    const own = found(train, method.name), power = powerOf(Math.abs(own.mean) + (own.half ?? 0));
    const samples = (await samplesOf(method.name))(test, train, own.mean);
    const { label, note, seeds, checkpoints } = method;
    const count = `${seeds.length} ${method.seed}${seeds.length > 1 ? "s" : ""} × ${checkpoints.length} ${method.checkpoint}${checkpoints.length > 1 ? "s" : ""}`;
    return element("div", { class: "panel", "data-method": method.name, style: { "--method": method.colour } },
      element("h4", {}, label, element("small", {}, ` ${count}`)),
      element("p", {}, element("b", { class: SIGN(own.mean) }, measured(own.mean, own.half, power)),
        ` ${plusMinus(own.half, power)} ${unitName(power)}`, element("br"), element("small", {}, trust(own))),
      samples ? distribution(method, own, samples, power)
        : element("p", { class: "none" }, "Its single scores have no room in this page."),
      element("p", { class: "note" }, note));
  }));
  if (train !== chosen.train || test !== chosen.test) return undefined;
  const close = element("button", { type: "button", class: "close", "aria-label": "Close", click: () => choosePair(null) }, "×");
  return $("pair").replaceChildren(close, element("div", { class: "pair-head" }, ...[
    picture("train", train, 72), element("div", {}, element("h3", { id: "pair-title", tabindex: -1 },
      `Training ${kind} ${numbered(description.train.index[train])} for test ${kind} ${numbered(description.test.index[test])}`),
    element("p", {}, `${labelsOfPair(train, test)}A row for each run, `
      + "a dot for each of its scores (later ones darker), a line at their mean; below, the mean" + (methods.some(({ seeds }) => seeds.length > 1) ? " with its 95 % interval." : "."))),
    picture("test", test, 72)].filter(Boolean)), fields(train, test),
  element("div", { class: "panels" }, ...panels));
}

function labelsOfPair(train, test) {
  const labels = [description.train.label[train], description.test.label[test]];
  const word = description.label === "label" ? "Labels" : "Targets";
  return labels.every(Boolean) ? `${word}: ${labels.join(" and ")}. ` : "";
}

/** Return columns of rows as [name, ...values]; of wide tables only where some value is not zero. */
function filled(places) {
  const { columns } = description[places[0][0]];
  const all = columns.map((name, c) => [name, ...places.map(([split, place]) => description[split].rows[place][c])]);
  return all.filter(([, ...values]) => columns.length < 20 || values.some((value) => value !== "0"));
}

/** Return a training row beside a test row. */
function fields(train, test) {
  if (!description.train.rows || !description.test.rows) return "";
  const shown = filled([["train", train], ["test", test]]);
  return element("div", { class: "scroll" }, element("table", { class: "fields" },
    element("thead", {}, element("tr", {}, ...["", "training row", "test row"].map((h) => element("th", { scope: "col" }, h)))),
    element("tbody", {}, ...shown.map(([name, a, b]) => element("tr", { class: a === b ? "" : "differs" },
      element("th", { scope: "row" }, name), element("td", {}, a), element("td", {}, b))))));
}

async function choosePair(train) {
  const before = chosen.train;
  chosen.train = train === before ? null : train;
  await showChoice();
  const target = chosen.train === null ? document.querySelector(`[data-train="${before}"]`) : $("pair-title");
  target?.focus({ preventScroll: true });
  if (chosen.train !== null) $("pair").scrollIntoView({ block: "nearest" });
}

// ---- methods, state, start ------------------------------------------------------------------------

function chooseMethod(name) {
  chosen.method = name;
  document.querySelector(`input[name=method][value="${CSS.escape(name)}"]`).checked = true;
  return showChoice();
}

function showMethods() {
  $("methods").replaceChildren(...methods.map(({ name, label, colour, note }) => element("label", { title: note, style: { "--method": colour } },
    element("input", { type: "radio", name: "method", value: name, checked: name === chosen.method, change: () => chooseMethod(name) }),
    ` ${label}`)));
}

function showLimits() {
  const { q, agreement } = limits();
  $("q-value").textContent = q === null ? "any" : String(q).replace(/^0/, "");
  $("max-q").setAttribute("aria-valuetext", $("q-value").textContent);
  $("agreement-value").textContent = agreement <= 0.5 ? "any" : percent(agreement);
}

function show() {
  showLimits();
  showQuery();
  return showTrain();
}

/** Show what was chosen in the page: unlike what an address says, it becomes the address. */
function showChoice() {
  $("not-found").hidden = true;
  remember();
  return show();
}

/** Make the choice a part of the address, so that it can be kept and shared. */
function remember() {
  const { test, method, train, view } = chosen, words = new URLSearchParams({ test: description.test.index[test], method, view });
  if (train !== null) words.set("train", description.train.index[train]);
  try { history.replaceState(null, "", `#explore?${words}`); } catch { /* some viewers forbid it */ }
}

const isChoice = () => location.hash.startsWith("#explore?");

/** Choose what the address says, all of it; for a test example that is not in the page, no training example. */
function recall() {
  if (!isChoice()) return;
  const words = new URLSearchParams(location.hash.slice(9));
  const place = (split) => description[split].index.map(String).indexOf(words.get(split));
  const unknown = ["test", "train"].filter((split) => words.has(split) && place(split) < 0);
  if (words.has("test") && !unknown.includes("test")) Object.assign(chosen, { test: place("test"), shown: FIRST });
  chosen.train = words.has("train") && !unknown.length ? place("train") : null;
  if (methods.some(({ name }) => name === words.get("method"))) chosen.method = words.get("method");
  chosen.view = words.get("view") === "all" ? "all" : "one";
  document.querySelector(`input[name=view][value=${chosen.view}]`).checked = true;
  const called = (split) => `${split === "test" ? "test" : "training"} ${kind} ${/^\d+$/.test(words.get(split)) ? "no. " : ""}${words.get(split)}`;
  $("not-found").textContent = `Not in this page: ${unknown.map(called).join(", ")}.`;
  $("not-found").hidden = unknown.length === 0;
  $("explorer").scrollIntoView();
}

function listen() {
  addEventListener("hashchange", () => {
    if (!isChoice()) return;  // a section of the page
    recall();
    showMethods();
    markTest();
    show();
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("tests").addEventListener("click", (event) => {
    const own = event.target.closest("[role=option]");
    if (own) chooseTest(Number(own.dataset.place), true);
  });
  $("tests").addEventListener("keydown", moveInList);
  $("find").addEventListener("input", listTests);
  $("find").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && visible.length) { event.preventDefault(); chooseTest(visible[0], true); }
  });
  $("only").addEventListener("change", listTests);
  $("more").addEventListener("click", () => { chosen.shown += FIRST; show(); });
  const controls = $("controls");
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", () => { chosen.view = controls.elements.view.value; showChoice(); });
  controls.addEventListener("reset", () => setTimeout(() => {
    chosen.view = "one";
    chooseMethod(methods[0].name);
  }));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search], select");
    if (event.key === "/" && !typing) { event.preventDefault(); $("find").focus(); }
    if (event.key === "Escape" && !typing && chosen.train !== null) choosePair(null);
  });
}

function startTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const name = () => { $("theme").lastElementChild.textContent = isDark() ? "Light" : "Dark"; };
  $("theme").addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  dark.addEventListener("change", name);
  name();
}

async function start() {
  startTheme();
  for (const split of ["train", "test"])
    if (description[split].sprite)
      document.head.append(element("style", {}, `.${split}-sprite{background-image:url("${description[split].sprite}")}`));
  $("only").hidden = document.querySelector("label[for=only]").hidden = !predictions?.right;
  recall();
  showMethods();
  listTests();
  listen();
  await show();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => { $("passed").textContent = `The explorer does not work in this browser: ${error.message}`; });
