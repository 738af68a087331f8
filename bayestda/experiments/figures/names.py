"""Names of models, kinds of randomness and experiments in figures, and the order of methods."""

from bayestda.experiments import tasks
from bayestda.experiments.grid import VIT, Experiment, vit_name
from bayestda.scores.estimators import base_of, place_of

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
    "published": "as published",
}


def is_variant(method: str) -> bool:
    """Tell whether a method is a variant, drawn in its base method's colour with dashes."""
    return base_of(method) != method


def ordered(methods: list[str]) -> list[str]:
    """Sort methods in the paper's order, each followed by its variants."""
    return sorted(set(methods), key=place_of)


def title(experiment: Experiment) -> str:
    """Return an experiment in words: ``CNN2 · MNIST3 · 10 per class · DE-Init``."""
    model = MODELS.get(experiment.model, experiment.model)
    task = tasks.title(experiment.task)
    randomness = RANDOMNESS[experiment.randomness]
    return f"{model} · {task} · {experiment.num_per_class} per class · {randomness}"
