"""What all figures share: one colour and one name per method, layout, and how they are saved."""

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
    """The method of a variant's name: ``loo`` of ``loo_published``; of a stranger's, itself."""
    return grid.base_method(method) or method


def is_variant(method: str) -> bool:
    """Whether a method is a variant, drawn in its base method's colour with dashes."""
    return method not in METHODS


def ordered(methods: list[str]) -> list[str]:
    """Methods in the paper's order, each followed by its variants."""
    known = {method: rank for rank, method in enumerate(METHODS)}
    return sorted(set(methods), key=lambda name: (known.get(base_method(name), len(known)), name))


def title(experiment: Experiment) -> str:
    """An experiment in words: ``CNN2 · MNIST3 · 10 per class · DE-Init``."""
    model = MODELS.get(experiment.model, experiment.model)
    task = tasks.title(experiment.task)
    randomness = RANDOMNESS[experiment.randomness]
    return f"{model} · {task} · {experiment.num_per_class} per class · {randomness}"
