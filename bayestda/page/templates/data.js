"use strict";
// Read the numbers of the page, which bayestda/page/encoding.py writes.

const UNKNOWN_2 = 65535, UNKNOWN_1 = 255;
const description = JSON.parse(document.getElementById("description").textContent);
const NUM_TRAIN = description.train.index.length, NUM_TEST = description.test.index.length;

async function unpacked(name) {
  const packed = atob(document.getElementById(name).textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Return a function that takes arrays from a buffer, one after the other. */
function reader(buffer) {
  let place = 0;
  return (Type, length) => {
    const taken = new Type(buffer, place, length);
    place += taken.byteLength;
    return taken;
  };
}

const once = (make) => {
  const made = new Map();
  return (name) => made.get(name) ?? made.set(name, make(name)).get(name);
};

/** Return a function from (test, train) to {mean, half, q, agreement}; what is not known is null. */
const pairsOf = once(async (method) => {
  const take = reader(await unpacked(`pairs-${method}`)), size = NUM_TEST * NUM_TRAIN;
  const meanUnit = take(Float32Array, NUM_TEST), halfUnit = take(Float32Array, NUM_TEST);
  const mean = take(Int16Array, size), half = take(Uint16Array, size);
  const q = take(Uint16Array, size), agreement = take(Uint8Array, size);
  return (test, train) => {
    const at = test * NUM_TRAIN + train;
    return {
      mean: mean[at] * meanUnit[test],
      half: half[at] === UNKNOWN_2 ? null : half[at] * halfUnit[test],
      q: q[at] === UNKNOWN_2 ? null : q[at] / description.steps.q,
      agreement: agreement[at] === UNKNOWN_1 ? null : agreement[at] / description.steps.agreement,
    };
  };
});

const kept = once(async () => new Uint32Array(await unpacked("kept")));

/** Return a function from (test, train, mean) to scores by seed and checkpoint, or null: not in the page. */
const samplesOf = once(async (name) => {
  const method = description.methods.find((one) => one.name === name);
  const [numSeeds, numCheckpoints] = [method.seeds.length, method.checkpoints.length];
  const places = await kept("kept"), width = description.sampled, size = NUM_TEST * width;
  const take = reader(await unpacked(`samples-${name}`));
  const unit = take(Float32Array, NUM_TEST), steps = take(Uint16Array, size);
  const levels = take(Int8Array, numSeeds * numCheckpoints * size);
  return (test, train, mean) => {
    const first = test * width, at = first + places.subarray(first, first + width).indexOf(train);
    if (at < first) return null;
    const level = (unit[test] * steps[at]) / description.levels;
    const score = (seed, checkpoint) =>
      mean + level * levels[(seed * numCheckpoints + checkpoint) * size + at];
    return method.seeds.map((_, seed) => method.checkpoints.map((_, c) => score(seed, c)));
  };
});
