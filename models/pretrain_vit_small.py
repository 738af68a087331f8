"""Pretrain models/vit_small: a vision transformer that needs no download.

    python models/pretrain_vit_small.py --mnist hub --cifar10 hub

Trains a transformers ViT (32 x 32 pixels, patches of 4) to tell 20 classes apart, ten digits and
ten kinds of objects, on the training images of MNIST and CIFAR-10 that are in none of the index
lists under data/. A run that is stopped goes on with the same command.

Reads   training and test images                     from the hub, torchvision, or a folder
Writes  models/vit_small/                            weights, processor, card
Takes   20 minutes on 2 CPU cores
"""

import hashlib
import json
import time
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from tqdm import tqdm

from bayestda.experiments import paths, results
from bayestda.experiments.data import images, sources
from bayestda.experiments.networks.pretrained import transformers
from bayestda.experiments.networks.vit import ViT
from bayestda.experiments.terminal import guarded
from bayestda.files import atomic

TASKS = ("mnist", "cifar10")
ARCHITECTURE = {
    "image_size": 32, "patch_size": 4, "hidden_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 3, "intermediate_size": 192, "num_labels": 20,
}  # fmt: skip
MNIST_SHARE = 0.2  # of the images of an epoch; digits are learned long before objects are
BATCH, LR, WEIGHT_DECAY, WARMUP, SMOOTHING = 128, 2e-3, 0.05, 0.05, 0.1
RECIPE = {
    "mnist_share": MNIST_SHARE, "batch_size": BATCH, "lr": LR, "weight_decay": WEIGHT_DECAY,
    "warmup": WARMUP, "smoothing": SMOOTHING,
}  # fmt: skip
PADDING = 4  # pixels by which a random crop may shift the image
PROBE_IMAGES = 20_000


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images uint8 [N 3 32 32], labels [N], and whether these are the original pixels."""

    pixels: Tensor
    label: Tensor
    exact: bool


def main() -> None:
    """Train, probe, write."""
    flags = _flags()
    output = paths.root() / "models" / "vit_small"
    processor = transformers().ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    train = {task: unused_images(task, getattr(flags, task), processor) for task in TASKS}
    test = {task: decoded(task, getattr(flags, task), "test", processor) for task in TASKS}
    torch.manual_seed(flags.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    configuration = transformers().ViTConfig(**ARCHITECTURE)
    classifier = transformers().ViTForImageClassification(configuration).to(device)
    settings = {
        "seed": flags.seed, "epochs": flags.epochs, **ARCHITECTURE, **RECIPE,
        **{f"{task}_hash": fingerprint(labelled) for task, labelled in train.items()},
    }  # fmt: skip
    progress = Progress(classifier, settings, output / ".pretraining.safetensors")
    pretrain(progress, train)
    accuracy = {task: linear_probe(classifier, train[task], test[task]) for task in TASKS}
    classifier.save_pretrained(output)
    processor.save_pretrained(output)
    weights = (output / "model.safetensors").read_bytes()
    atomic.write_bytes(output / "README.md", card(progress, train, accuracy, weights).encode())
    progress.file.unlink()


def unused_images(task: str, source: str, processor) -> Labelled:
    """Training images that are in none of the project's index lists."""
    lists = [
        images.read_index_list(file)
        for folder in (paths.REPOSITORY / "data").glob(f"{task}*")
        for file in folder.glob("*train*.txt")
    ]
    return decoded(task, source, "train", processor, np.concatenate(lists))


def decoded(
    task: str, source: str, split: str, processor, left_out: np.ndarray | None = None
) -> Labelled:
    """Images of a source, resized by the processor, but for those numbers."""
    table = sources.read(source, task, split)
    if left_out is not None:
        table = table.filter(~np.isin(table["index"].to_numpy(), left_out))
    found = images.decode(table, f"{source} ({task}, {split})")
    rgb = torch.from_numpy(found.pixels.reshape(*found.pixels.shape[:3], -1)).movedim(-1, 1)
    resized = [
        processor(batch, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"]
        for batch in rgb.expand(-1, 3, -1, -1).split(1000)
    ]
    return Labelled(torch.cat(resized).to(torch.uint8), torch.tensor(found.label), found.exact)


def fingerprint(labelled: Labelled) -> str:
    """Hash of images and labels, so that a stopped run goes on with its own data alone."""
    digest = hashlib.sha256(labelled.pixels.numpy().tobytes())
    digest.update(labelled.label.numpy().tobytes())
    return digest.hexdigest()[:16]


class Progress:
    """What an epoch changes, kept in a file after each, so that a stopped run goes on."""

    def __init__(self, classifier: nn.Module, settings: dict, file):
        self.classifier, self.settings, self.file = classifier, settings, file
        self.optimizer = torch.optim.AdamW(
            classifier.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)
        )
        self.epoch, self.seconds = 0, 0.0
        if file.exists():
            self._resume()

    def save(self) -> None:
        """Write parameters, moments, epoch and seconds."""
        tensors = {name: p.detach() for name, p in self.classifier.named_parameters()}
        moments = {
            f"{name}/{key}": value.float()
            for name, p in self.classifier.named_parameters()
            for key, value in self.optimizer.state[p].items()
        }
        whole = {name: tensor.contiguous() for name, tensor in (tensors | moments).items()}
        state = {"epoch": self.epoch, "seconds": self.seconds, "settings": self.settings}
        atomic.write_bytes(self.file, save(whole, {"state": json.dumps(state)}))

    def _resume(self) -> None:
        with safe_open(self.file, "pt") as opened:
            state = json.loads(opened.metadata()["state"])
        results.check_settings(self.file, state["settings"], self.settings)
        tensors = load_file(self.file)
        for name, p in self.classifier.named_parameters():
            p.data.copy_(tensors[name])
            self.optimizer.state[p] = {
                key: tensors[f"{name}/{key}"].to("cpu" if key == "step" else p.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}/{key}" in tensors  # the last block's key bias has no gradient
            }
        self.epoch, self.seconds = state["epoch"], state["seconds"]


def pretrain(progress: Progress, train: dict[str, Labelled]) -> None:
    """All epochs that are not done yet: AdamW, learning rate up, then down by a cosine."""
    epochs, seed = progress.settings["epochs"], progress.settings["seed"]
    steps = int(len(train["cifar10"].label) / (1 - MNIST_SHARE) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        progress.optimizer, LR, total_steps=epochs * steps, pct_start=WARMUP, cycle_momentum=False
    )
    if progress.epoch:
        with warnings.catch_warnings():  # that no step of the optimiser precedes this one
            warnings.simplefilter("ignore", UserWarning)
            schedule.step(progress.epoch * steps)
    bar = tqdm(range(progress.epoch, epochs), unit="epoch", initial=progress.epoch, total=epochs)
    for epoch in bar:
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(seed * 10_000 + epoch)
        accuracy = one_epoch(progress, schedule, batches(train, steps, generator))
        progress.epoch, progress.seconds = epoch + 1, progress.seconds + time.perf_counter() - start
        tqdm.write(f"epoch {epoch + 1}: CIFAR-10 training accuracy {accuracy:.3f}")
        progress.save()


def one_epoch(progress: Progress, schedule, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    """Steps on all batches; training accuracy on CIFAR-10, augmented, while it goes on."""
    network = ViT(progress.classifier)
    device = next(network.parameters()).device
    correct = []
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        logits = network(network.prepare(x))
        progress.optimizer.zero_grad()
        F.cross_entropy(logits, y, label_smoothing=SMOOTHING).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        progress.optimizer.step()
        schedule.step()
        correct.append((logits.argmax(-1) == y)[y >= 10])
    return float(torch.cat(correct).float().mean())


def batches(
    train: dict[str, Labelled], steps: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: augmented batches of both data sets; CIFAR-10's labels are 10 to 19."""
    from_mnist = round(BATCH * MNIST_SHARE)
    sizes = {"mnist": from_mnist, "cifar10": BATCH - from_mnist}
    order = {task: torch.randperm(len(train[task].label), generator=generator) for task in TASKS}
    for step in range(steps):
        x, y = [], []
        for task, size in sizes.items():
            chosen = order[task][step * size : (step + 1) * size]
            x.append(augmented(train[task].pixels[chosen], generator, flip=task == "cifar10"))
            y.append(train[task].label[chosen] + 10 * (task == "cifar10"))
        yield torch.cat(x), torch.cat(y)


def augmented(pixels: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Shifted, perhaps mirrored, normalised to [-1, 1]."""
    padded = F.pad(pixels, (PADDING,) * 4)
    shift = torch.randint(2 * PADDING + 1, (2, len(pixels)), generator=generator)
    rows, columns = (offset[:, None] + torch.arange(pixels.shape[-1]) for offset in shift)
    if flip:
        mirrored = torch.rand(len(pixels), generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image_ids = torch.arange(len(pixels))[:, None, None]
    shifted = padded.movedim(1, -1)[image_ids, rows[:, :, None], columns[:, None, :]]
    return normalised(shifted.movedim(-1, 1))


def normalised(pixels: Tensor) -> Tensor:
    """As the processor does: [0, 255] to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def linear_probe(classifier: nn.Module, train: Labelled, test: Labelled) -> float:
    """Test accuracy of a logistic regression on the class token."""
    chosen = torch.randperm(len(train.label), generator=torch.Generator().manual_seed(0))
    chosen = chosen[:PROBE_IMAGES]
    features = [class_tokens(classifier, x) for x in (train.pixels[chosen], test.pixels)]
    scaler = StandardScaler().fit(features[0])
    probe = LogisticRegression(C=0.1, max_iter=1000).fit(
        scaler.transform(features[0]), train.label[chosen].numpy()
    )
    return float(probe.score(scaler.transform(features[1]), test.label.numpy()))


@torch.no_grad()
def class_tokens(classifier: nn.Module, pixels: Tensor) -> np.ndarray:
    """The last layer's input [N D]."""
    device = next(classifier.parameters()).device
    found: list[Tensor] = []
    hook = classifier.classifier.register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].cpu())
    )
    network = ViT(classifier)
    for batch in pixels.split(500):
        network(network.prepare(normalised(batch).to(device)))
    hook.remove()
    return torch.cat(found).numpy()


def card(progress: Progress, train: dict[str, Labelled], accuracy: dict, weights: bytes) -> str:
    """The README beside the weights."""
    parameters = sum(p.numel() for p in progress.classifier.parameters())
    used = ", ".join(
        f"{len(images.label):,} of {task} ({'original' if images.exact else 'JPEG re-encoded'})"
        for task, images in train.items()
    )
    device = next(progress.classifier.parameters()).device.type
    settings = progress.settings
    return f"""\
# vit_small

A `ViTForImageClassification` of {parameters:,} parameters: {ARCHITECTURE["num_hidden_layers"]} \
blocks, {ARCHITECTURE["hidden_size"]} wide, 32 x 32 pixels,
patches of 4. With it `finetune_vit_lora.py --model vit_small` needs no download.

| | |
|---|---|
| data | {used} training images, none of them in an index list under `data/`; 20 classes |
| linear-probe test accuracy | MNIST {accuracy["mnist"]:.3f}, CIFAR-10 {accuracy["cifar10"]:.3f} \
(10,000 images each; logistic regression on the class token of {PROBE_IMAGES:,} training images) |
| command | `python models/pretrain_vit_small.py --mnist SOURCE --cifar10 SOURCE \
--epochs {settings["epochs"]} --seed {settings["seed"]}` |
| time | {progress.seconds / 60:.0f} minutes on {device}, {torch.get_num_threads()} threads |
| torch | {torch.__version__} |
| SHA-256 of `model.safetensors` | `{hashlib.sha256(weights).hexdigest()}` |

It has seen labels of the classes that it is later fine-tuned on, but none of the images that the
index lists under `data/` name. A subset drawn later with `--new_subset` has images it has seen. The
20-way head is not used: fine-tuning starts from a new one.
"""


def _flags() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    for task in TASKS:
        parser.add_argument(f"--{task}", default="hub", help="hub, torchvision, or a folder")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    guarded(main)
