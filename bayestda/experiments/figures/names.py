"""Names of models, kinds of randomness and experiments in figures, and the order of methods."""

from bayestda.experiments import grid, tasks
from bayestda.experiments.grid import METHODS, VIT, Experiment, vit_name

MODELS = {
    "cnn2": "CNN2",
    "cnn3": "CNN3",
    vit_name(VIT): "ViT-B/16+LoRA",
    "vit_small": "small ViT+LoRA",
}
RANDOMNESS = {
    "init": "DE-Init",
    "batch": "DE-Batch",
    "init_only": "initialisation only",
    "crossed": "crossed",
}


def base_method(method: str) -> str:
    """Return the method of a variant (``loo`` of ``loo_published``), or else the name itself."""
    return grid.base_method(method) or method


def is_variant(method: str) -> bool:
    """Tell whether a method is a variant, drawn in its base method's colour with dashes."""
    return method not in METHODS


def ordered(methods: list[str]) -> list[str]:
    """Sort methods in the paper's order, each followed by its variants."""
    known = {method: rank for rank, method in enumerate(METHODS)}
    return sorted(set(methods), key=lambda name: (known.get(base_method(name), len(known)), name))


def title(experiment: Experiment) -> str:
    """Return an experiment in words: ``CNN2 · MNIST3 · 10 per class · DE-Init``."""
    model = MODELS.get(experiment.model, experiment.model)
    task = tasks.title(experiment.task)
    randomness = RANDOMNESS[experiment.randomness]
    return f"{model} · {task} · {experiment.num_per_class} per class · {randomness}"
