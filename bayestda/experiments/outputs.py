"""Tables that the scripts under ``analysis/`` write, each once: name and title.

A table ``NAME`` of image experiments comes from ``analysis/NAME.py`` and is ``NAME.csv`` in the
experiment's folder; one of final-model-only attribution comes from ``analysis/fimo_NAME.py``. The
Snakefile plans these tables, and the page shows them under their titles.
"""

TABLES = {
    "p_values": "Tests over seeds, for 1 to 5 checkpoints",
    "correlations": "Correlations between methods",
    "reliability": "Reliability, and agreement with LOO",
    "variance": "Components of variance",
    "accuracy": "Accuracy of the models",
    "damping": "Influence functions by damping",
}
FINAL_TABLES = {
    "agreement": "Agreement of methods with further training",
    "damping": "Best damping by horizon",  # is made from the table of agreement
    "gold": "Signal and noise of further training",
    "seeds": "Agreement by the number of orders",
    "examples": "Most helpful and harmful rows of five test rows",
    "scratch": "Agreement with training from scratch",
    "ranking": "Filters of the horizon and the best method of the paper",
}
REDUCED_TABLES = ("agreement", "gold")  # those of tasks that are reduced to run in minutes
