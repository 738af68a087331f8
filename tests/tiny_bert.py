"""A random BERT of a few thousand parameters and its tokenizer, in a folder."""

import pandas as pd
import torch

from bayestda.experiments import paths
from bayestda.experiments.networks.pretrained import transformers

WORDS = ("a", "bad", "dull", "film", "fine", "great", "is", "it", "movie", "not", "plot", "the")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save(folder, dropout=0.1, **config):
    """Write model and tokenizer into a folder; returns it as a string."""
    package = transformers()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join((*SPECIAL, *WORDS)) + "\n")
    package.BertTokenizerFast(vocab={word: i for i, word in enumerate((*SPECIAL, *WORDS))}
                              ).save_pretrained(folder)  # fmt: skip
    settings = {
        "vocab_size": len(SPECIAL) + len(WORDS), "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 12,
        "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
        "initializer_range": 0.3, **config,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = package.BertModel(package.BertConfig(**settings))
    model.save_pretrained(folder)
    return str(folder)


def reviews(count, seed):
    """Sentences of one to eight words, and labels."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=generator).tolist()
    chosen = [torch.randint(0, len(WORDS), (n,), generator=generator).tolist() for n in lengths]
    sentence = [" ".join(WORDS[word] for word in words) for words in chosen]
    return pd.DataFrame({"sentence": sentence, "label": [i % 2 for i in range(count)]})


def write_reviews(num_train=24, num_validation=10):
    """A handful of sentences as the prepared data of task sst2, below the current root."""
    for split, count, seed in (("train", num_train, 1), ("validation", num_validation, 2)):
        file = paths.root() / "data" / "sst2" / f"{split}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        reviews(count, seed).to_parquet(file)
