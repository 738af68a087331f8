"""Make the image files of a task: rebuild the paper's, or draw a fresh balanced subset.

    python data/prepare.py --task mnist3 --source hub
    python data/prepare.py --task cifar10 --source torchvision      original images for JPEG ones
    python data/prepare.py --task mnist --source FOLDER             full MNIST, for the appendix
    python data/prepare.py --task mnist3 --source data/mnist3 --new_subset 7 --num_per_class 5 10
    python data/prepare.py --task heloc --source heloc_dataset_v1.csv      FICO's rows, from a file
    python data/prepare.py --task folktables --source folktables    by the package of that name
    python data/prepare.py --task folktables --source psam_p25.csv  the same persons, from a file
    python data/prepare.py --task cifar10full --source hub          all of CIFAR-10
    python data/prepare.py --task sst2 --source hub                 GLUE's sentences

Reads   the source; data/<task>/*.txt, the paper's index lists; data/checksums.json
Writes  data/<task>/{train,test}.parquet and data/checksums.json; with --new_subset SEED the task
        <task>s<SEED> in data/<task>s<SEED>/: images, index lists, subset.json. If TDA_ROOT is
        set, all below that folder. Of heloc and folktables: data/<task>/rows.csv, checked. Of
        sst2: data/sst2/{train,validation}.parquet, checked and sorted.
Takes   1 s (mnist: 3 s) from a local folder on 2 CPU cores; from elsewhere plus the download
"""

import argparse
from pathlib import Path

from bayestda.experiments import tasks
from bayestda.experiments.data import prepare, prepare_tables, sentences, tables
from bayestda.experiments.flags import count, index
from bayestda.experiments.terminal import guarded


def main(argv: list[str] | None = None) -> None:
    """Run one command; the process ends with 0, 2 (with one line of error) or 130 (Ctrl-C)."""
    guarded(lambda: print(f"written: {made(parse(argv))}"))


def made(args: argparse.Namespace) -> Path:
    """Make the data that are asked for, and return their folder."""
    if args.task == "heloc":
        return prepare_tables.adopt(args.task, Path(args.source))
    if args.task == "folktables":
        return prepare_tables.adopt_census(args.source)
    if args.task == "sst2":
        return sentences.adopt(args.source)
    if args.new_subset is None:
        return prepare.rebuild(args.task, args.source)
    return prepare.new_subset(
        args.task, args.source, args.new_subset, args.num_per_class, args.num_test_per_class
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; a wrong one ends the program with exit status 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--task", required=True, choices=[*tasks.TASKS, *tables.FROM_FILE, "sst2"])
    add(
        "--source",
        default="hub",
        help="hub (default), torchvision, a folder; for heloc and folktables a file",
    )
    add("--new_subset", type=index, metavar="SEED", help="draw a fresh subset")
    add(
        "--num_per_class",
        type=count,
        nargs="+",
        metavar="N",
        help="training images per class; default: the paper's sizes",
    )
    add(
        "--num_test_per_class",
        type=count,
        metavar="N",
        help="test images per class; default: as many as the paper's",
    )
    args = parser.parse_args(argv)
    if args.new_subset is None and (args.num_per_class or args.num_test_per_class):
        parser.error("--num_per_class and --num_test_per_class need --new_subset SEED")
    if args.task == "heloc" and (args.new_subset is not None or not _is_file(args.source)):
        parser.error("--task heloc needs --source FILE, FICO's CSV file, and no --new_subset")
    if args.task == "folktables" and (
        args.new_subset is not None or not (args.source == "folktables" or _is_file(args.source))
    ):
        parser.error(
            "--task folktables needs --source folktables, the package, or --source FILE, the "
            "census bureau's psam_p25.csv of 2018, and no --new_subset"
        )
    if args.task == "sst2" and args.new_subset is not None:
        parser.error("--task sst2 has no subsets: leave out --new_subset")
    return args


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except OSError:  # a name that is too long
        return False


if __name__ == "__main__":
    main()
