"""What all figures share: one colour and one name per method, layout, and how they are saved."""

from bayestda.experiments.grid import VIT, Experiment, vit_name
from bayestda.scores.estimators import base_of, place_of

MODELS = {
    "cnn2": "CNN2",
    "cnn3": "CNN3",
    vit_name(VIT): "ViT-B/16+LoRA",
    "vit_small": "small ViT+LoRA",
}
TASKS = {"mnist3": "MNIST3", "cifar10": "CIFAR10", "mnist": "MNIST"}
RANDOMNESS = {
    "init": "DE-Init",
    "batch": "DE-Batch",
    "init_only": "initialisation only",
    "crossed": "crossed",
}


def base_method(method: str) -> str:
    """The method of a variant's name: ``loo`` of ``loo_published``; of a stranger's, itself."""
    return base_of(method) or method


def is_variant(method: str) -> bool:
    """Whether a method is a variant, drawn in its base method's colour with dashes."""
    return base_of(method) != method


def ordered(methods: list[str]) -> list[str]:
    """Methods in the paper's order, each followed by its variants."""
    return sorted(set(methods), key=place_of)


def title(experiment: Experiment) -> str:
    """An experiment in words: ``CNN2 · MNIST3 · 10 per class · DE-Init``."""
    model = MODELS.get(experiment.model, experiment.model)
    task = TASKS.get(experiment.task, experiment.task)
    randomness = RANDOMNESS[experiment.randomness]
    return f"{model} · {task} · {experiment.num_per_class} per class · {randomness}"
