"""Hold the words that explain methods and columns, each once."""

NOTES = {  # of methods whose scores carry the library's name; others have their settings alone
    "loo": "Leave-one-out: by how much the measurement rises if the example is left out and the "
    "model is trained again.",
    "ats": "Adding to the training set: by how much one more step on the example lowers the "
    "measurement.",
    "influence": "Influence function: the test gradient times the inverse of the damped curvature "
    "times the example's gradient.",
    "grad_dot": "Grad-Dot: the inner product of the test gradient and the example's gradient.",
    "grad_cos": "Grad-Cos: the cosine of the test gradient and the example's gradient.",
}

COLUMNS = {
    "mean p": "mean over all pairs of the p-value of Student's t-test over seeds; .5 if no pair "
    "had an effect",
    "p < .05": "share of pairs whose p-value is below .05; 5 % if no pair had an effect",
    "q < .05": "share of pairs that are found at a false discovery rate of 5 % "
    "(Benjamini-Hochberg)",
    "same sign": "share of seeds that agree with the majority's sign, mean over pairs",
    "seeds needed": "seeds with which the t-test of the median pair has a power of .8 at level .05",
    "reliability": "correlation over all pairs to be expected between this map of mean scores and "
    "that of as many new seeds (split halves, Spearman-Brown)",
}

ONE_RUN = (
    "These scores come from one trained model, and one run cannot tell signal from noise: the same "
    "training with another seed may give other scores. Checkpoints of one run do not help, because "
    "they share its initialisation and the order of its data. The explorer lists what this one "
    "model says.",
    "What to do: train the model again with a few more seeds (five to ten are a good start), score "
    "each run, join the scores along the dimension seed, and make this page again. It then "
    "shows an interval and a q-value for every pair.",
)
SEEDS = (
    "Each score is random: it depends on the seed of the training run. The table says how far the "
    "scores of each method can be trusted."
)
