"""Pretrain models/vit_small: a vision transformer that needs no download.

    python models/pretrain_vit_small.py --mnist hub --cifar10 hub

Trains a transformers ViT (32 x 32 pixels, patches of 4) to tell 20 classes apart, ten digits and
ten kinds of objects, on the training images of MNIST and CIFAR-10 that are in none of the index
lists under data/. A run that is stopped goes on with the same command.

Reads   training and test images                     from the hub, torchvision, or a folder
Writes  models/vit_small/                            weights, processor, card
Takes   see the card, models/vit_small/README.md
"""

import hashlib
import json
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from tqdm import tqdm

from tda import images, paths, sources, store
from tda.cli import guarded
from tda.networks.pretrained import transformers
from tda.networks.vit import ViT

OUTPUT = paths.REPOSITORY / "models" / "vit_small"
TASKS = ("mnist", "cifar10")
ARCHITECTURE = {
    "image_size": 32, "patch_size": 4, "hidden_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 3, "intermediate_size": 192, "num_labels": 20,
}  # fmt: skip
MNIST_SHARE = 0.2  # of the images of an epoch; digits are learned long before objects are
BATCH, LR, WEIGHT_DECAY, WARMUP, SMOOTHING = 128, 2e-3, 0.05, 0.05, 0.1
PADDING = 4  # pixels by which a random crop may shift the image
PROBE_IMAGES = 20_000


def main() -> None:
    """Train, probe, write."""
    flags = _flags()
    torch.manual_seed(flags.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = transformers().ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    train = {task: unused_images(task, getattr(flags, task), processor) for task in TASKS}
    configuration = transformers().ViTConfig(**ARCHITECTURE)
    classifier = transformers().ViTForImageClassification(configuration).to(device)
    seconds = pretrain(classifier, train, flags, device)
    accuracy = {
        task: linear_probe(classifier, train[task], _decoded(task, getattr(flags, task), "test",
                                                             processor))
        for task in TASKS
    }  # fmt: skip
    classifier.save_pretrained(OUTPUT)
    processor.save_pretrained(OUTPUT)
    write_card(classifier, train, accuracy, flags, seconds)
    _state_file().unlink()


def unused_images(task: str, source: str, processor) -> tuple[Tensor, Tensor]:
    """Training images uint8 [N 3 32 32] in none of the project's index lists, and labels [N]."""
    lists = [
        images.read_index_list(file)
        for folder in (paths.REPOSITORY / "data").glob(f"{task}*")
        for file in folder.glob("*train*.txt")
    ]
    return _decoded(task, source, "train", processor, np.concatenate(lists))


def _decoded(
    task: str, source: str, split: str, processor, left_out: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    table = sources.read(source, task, split)
    if left_out is not None:
        table = table.filter(~np.isin(table["index"].to_numpy(), left_out))
    found = images.decode(table, f"{source} ({task}, {split})")
    pixels = torch.from_numpy(found.pixels.reshape(*found.pixels.shape[:3], -1)).movedim(-1, 1)
    rgb = pixels.expand(-1, 3, -1, -1)
    resized = [
        processor(batch, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"]
        for batch in rgb.split(1000)
    ]
    return torch.cat(resized).to(torch.uint8), torch.from_numpy(found.label)


def pretrain(
    classifier: torch.nn.Module, train: dict, flags: Namespace, device: torch.device
) -> float:
    """Train all epochs that are not done yet; seconds of all of them together."""
    network = ViT(classifier).train()
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)
    )
    done, seconds = _resume(classifier, optimizer)
    num_cifar = len(train["cifar10"][1])
    steps = int(num_cifar / (1 - MNIST_SHARE) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, total_steps=flags.epochs * steps, pct_start=WARMUP, cycle_momentum=False
    )
    for _ in range(done * steps):
        schedule.step()
    for epoch in tqdm(range(done, flags.epochs), unit="epoch", initial=done, total=flags.epochs):
        start, correct, total = time.perf_counter(), 0, 0
        generator = torch.Generator().manual_seed(flags.seed * 10_000 + epoch)
        for x, y in batches(train, steps, generator):
            x, y = x.to(device), y.to(device)
            logits = network(network.prepare(x))
            loss = F.cross_entropy(logits, y, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            objects = y >= 10
            correct += int((logits.argmax(-1) == y)[objects].sum())
            total += int(objects.sum())
        seconds += time.perf_counter() - start
        tqdm.write(f"epoch {epoch + 1}: CIFAR-10 training accuracy {correct / total:.3f}")
        _save_state(classifier, optimizer, epoch + 1, seconds)
    network.eval()
    return seconds


def batches(
    train: dict, steps: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: augmented batches of both data sets; CIFAR-10's labels are 10 to 19."""
    from_mnist = round(BATCH * MNIST_SHARE)
    sizes = {"mnist": from_mnist, "cifar10": BATCH - from_mnist}
    order = {task: torch.randperm(len(train[task][1]), generator=generator) for task in TASKS}
    for step in range(steps):
        x, y = [], []
        for task, size in sizes.items():
            chosen = order[task][step * size : (step + 1) * size]
            x.append(augmented(train[task][0][chosen], generator, flip=task == "cifar10"))
            y.append(train[task][1][chosen] + 10 * (task == "cifar10"))
        yield torch.cat(x), torch.cat(y)


def augmented(pixels: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Shifted, perhaps mirrored, normalised to [-1, 1]."""
    size = pixels.shape[-1]
    padded = F.pad(pixels, (PADDING,) * 4)
    shift = torch.randint(2 * PADDING + 1, (2, len(pixels)), generator=generator)
    span = torch.arange(size)
    rows, columns = (offset[:, None] + span for offset in shift)
    if flip:
        mirrored = torch.rand(len(pixels), generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image_ids = torch.arange(len(pixels))[:, None, None]
    shifted = padded.movedim(1, -1)[image_ids, rows[:, :, None], columns[:, None, :]]
    return normalised(shifted.movedim(-1, 1))


def normalised(pixels: Tensor) -> Tensor:
    """As the processor does: [0, 255] to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def linear_probe(
    classifier: torch.nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> float:
    """Test accuracy of a logistic regression on the class token."""
    chosen = torch.randperm(len(train[1]))[:PROBE_IMAGES]
    features = [class_tokens(classifier, x) for x in (train[0][chosen], test[0])]
    scaler = StandardScaler().fit(features[0])
    probe = LogisticRegression(C=0.1, max_iter=1000).fit(
        scaler.transform(features[0]), train[1][chosen].numpy()
    )
    return float(probe.score(scaler.transform(features[1]), test[1].numpy()))


@torch.no_grad()
def class_tokens(classifier: torch.nn.Module, pixels: Tensor) -> np.ndarray:
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


def write_card(
    classifier: torch.nn.Module, train: dict, accuracy: dict, flags: Namespace, seconds: float
) -> None:
    """README.md beside the weights."""
    weights = (OUTPUT / "model.safetensors").read_bytes()
    parameters = sum(p.numel() for p in classifier.parameters())
    used = ", ".join(f"{len(y):,} of {task}" for task, (_, y) in train.items())
    device = next(classifier.parameters()).device.type
    lines = f"""\
# vit_small

A `ViTForImageClassification` of {parameters:,} parameters ({ARCHITECTURE["num_hidden_layers"]}
blocks, {ARCHITECTURE["hidden_size"]} wide, 32 x 32 pixels, patches of 4), so that
`finetune_vit_lora.py --model vit_small` needs no download.

| | |
|---|---|
| data | {used} training images, none of them in an index list under `data/`; 20 classes |
| CIFAR-10 | JPEG re-encoded images if pretrained from those, see `data/README.md` |
| linear-probe test accuracy | MNIST {accuracy["mnist"]:.3f}, CIFAR-10 {accuracy["cifar10"]:.3f} \
(10,000 images each; logistic regression on the class token of {PROBE_IMAGES:,} training images) |
| command | `python models/pretrain_vit_small.py --epochs {flags.epochs} --seed {flags.seed}` |
| time | {seconds / 60:.0f} minutes on {device}, {torch.get_num_threads()} threads |
| torch | {torch.__version__} |
| SHA-256 of `model.safetensors` | `{hashlib.sha256(weights).hexdigest()}` |

It has seen labels of the classes that it is later fine-tuned on, but none of the images. The
20-way head is not used: fine-tuning starts from a new one.
"""
    store.write_bytes(OUTPUT / "README.md", lines.encode())


def _state_file() -> Path:
    return OUTPUT / ".pretraining.safetensors"


def _save_state(classifier, optimizer, epoch: int, seconds: float) -> None:
    moments = {
        f"{name}/{key}": value.float().contiguous()
        for name, p in classifier.named_parameters()
        for key, value in optimizer.state[p].items()
    }
    weights = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    progress = {"progress": json.dumps({"epoch": epoch, "seconds": seconds})}
    store.write_bytes(_state_file(), save({**weights, **moments}, progress))


def _resume(classifier, optimizer) -> tuple[int, float]:
    """Epochs done and seconds they took; parameters and moments are put in place."""
    if not _state_file().exists():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(_state_file(), "pt") as opened:
        progress = json.loads(opened.metadata()["progress"])
    tensors = load_file(_state_file())
    for name, p in classifier.named_parameters():
        optimizer.state[p] = {
            key: tensors.pop(f"{name}/{key}").to("cpu" if key == "step" else p.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
        }
    classifier.load_state_dict(tensors)
    return progress["epoch"], progress["seconds"]


def _flags() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    for task in TASKS:
        parser.add_argument(f"--{task}", default="hub", help="hub, torchvision, or a folder")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    guarded(main)
