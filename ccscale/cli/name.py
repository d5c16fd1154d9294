"""``ccscale name``: names clusters, and lists what they are called."""

import argparse
from typing import TYPE_CHECKING, Any

from ccscale.cli.arguments import add_clusters, add_json, add_run, amount, local_path, number, path
from ccscale.errors import InputError
from ccscale.printing import TextTable, put, put_json
from ccscale.progress import loading
from ccscale.wording import counted

if TYPE_CHECKING:
    from ccscale.evaluate.name_suggestions import Suggestion

EXAMPLES = """\
examples:
  ccscale name runs/photos                            # list the names
  ccscale name runs/photos 3=cats 5='red cars'        # two names
  ccscale name runs/photos --join 8=3 --junk 7        # cluster 8 is called as 3 is; 7 is of no use
  ccscale name runs/photos 3=                         # takes back all that was said of cluster 3
  ccscale name runs/photos --file names.json          # names given in the report and saved there
  ccscale name runs/photos --words words.txt --clip ViT-B-32-quickgelu --weights clip.safetensors   # suggestions
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_run(parser)
    parser.add_argument(
        "names",
        metavar="CLUSTER=NAME",
        nargs="*",
        type=name,
        help="a name for a cluster; an empty one removes its name",
    )
    parser.add_argument(
        "--join",
        metavar="CLUSTER=INTO",
        nargs="+",
        type=pair,
        action="extend",
        default=[],
        help="give a cluster the name of another one",
    )
    parser.add_argument(
        "--junk",
        metavar="CLUSTER",
        nargs="+",
        type=number,
        action="extend",
        default=[],
        help="mark a cluster as useless: it is called 'junk'",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=local_path,
        help="names saved from the report; they replace all earlier names",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="accept that file even if its names belong to the clusters of another checkpoint",
    )
    words = parser.add_argument_group("names by words, for a run on the features of a CLIP model")
    words.add_argument(
        "--words",
        metavar="FILE",
        type=local_path,
        help="suggest names: the words to choose from, one per line",
    )
    words.add_argument(
        "--clip",
        metavar="MODEL",
        type=path,
        help="OpenCLIP's name of the model, or a .json file of its config",
    )
    words.add_argument("--weights", metavar="FILE", type=local_path, help="the model's weights, both towers")
    words.add_argument(
        "--store",
        metavar="STORE",
        type=path,
        help="the model's features of the run's images (default: those that the run was trained on)",
    )
    words.add_argument(
        "--template",
        metavar="TEXT",
        default="a photo of a {}",
        help="the sentence around a word (default: %(default)s)",
    )
    words.add_argument(
        "--take",
        metavar="SHARE",
        type=share,
        help="name each cluster without a name if at least this fraction of its images votes for one word",
    )
    parser.add_argument("--list", action="store_true", help="list the names, after any changes")
    add_clusters(parser)
    add_json(parser)


def name(text: str) -> tuple[int, str]:
    """Read a cluster and its name."""
    cluster, found, called = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} does not name a cluster: write, for example, 3=cats")
    return number(cluster), called


def pair(text: str) -> tuple[int, int]:
    """Read a cluster and the one that it is joined to."""
    cluster, found, into = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not say which clusters to join: write, for example, 8=3"
        )
    return number(cluster), number(into)


def share(text: str) -> float:
    """Read a share, from 0 to 1."""
    if (found := amount(text)) > 1:
        raise argparse.ArgumentTypeError(f"{text} is not a fraction: it is above 1")
    return found


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.clusters.lineage import is_living, open_lineage
        from ccscale.evaluate.naming import NameChanges, ResolvedNames, name_run

    living = is_living(args.run)

    def say(changes: NameChanges) -> ResolvedNames:
        return open_lineage(args.run).say(changes) if living else name_run(args.run, changes, args.clusters)

    changes = NameChanges(dict(args.names), dict(args.join), args.junk, args.file, args.anyway)
    suggested = _suggestions(args)
    found = say(changes)
    if suggested and args.take is not None:
        free = {one for one, name in found.by_number().items() if name is None}
        taken = {one: it.words[0][0] for one, it in suggested.items() if it.words[0][1] >= args.take}
        changes = NameChanges({one: word for one, word in taken.items() if one in free})
        found = say(changes)
    said = {} if found.by_hand is None else found.by_hand.as_json()
    names = found.by_number()
    if args.json:
        told = {one: {"images": it.images, "words": dict(it.words)} for one, it in suggested.items()}
        by_words = {"by_words": told} if args.words else {}
        put_json({"of": "ids" if living else "clusters", "names": names, "by_hand": said} | by_words)
        return 0
    if suggested:
        _suggestions_table(suggested).put()
    if changes:
        put(
            f"names of {args.run}: {len(said):,} of {counted(len(names), 'cluster')} named, joined or marked",
            fold=False,
        )
    if args.list or not (changes or suggested):
        table = TextTable("id" if living else "cluster", "name", "by", text=("name", "by"))
        for cluster, called in names.items():
            table.add(str(cluster), called or "–", _by(said.get(str(cluster)), called))
        table.put()
    return 0


def _suggestions_table(suggested: "dict[int, Suggestion]") -> TextTable:
    """Return what the images of each cluster have voted for, a row each."""
    table = TextTable("cluster", "images", "word", "of them", "or", text=("word", "or"))
    for cluster, it in suggested.items():
        (word, votes), *others = it.words
        more = ", ".join(f"{other} {part:.0%}" for other, part in others)
        table.add(str(cluster), f"{it.images:,}", word, f"{votes:.0%}", more)
    return table


def _suggestions(args: argparse.Namespace) -> "dict[int, Suggestion]":
    """Return what words suggest, where they are asked."""
    if args.words is None:
        if args.clip or args.weights or args.store or args.take is not None:
            raise InputError("--clip, --weights, --store and --take need --words FILE")
        return {}
    if not (args.clip and args.weights):
        raise InputError("--words needs a CLIP model: give --clip MODEL and --weights FILE")
    from ccscale.evaluate.name_suggestions import SuggestionOptions, suggest_names

    by = SuggestionOptions(args.words, args.clip, args.weights, args.store, args.template)
    return suggest_names(args.run, by, args.clusters)


def _by(said: dict[str, Any] | None, called: str | None) -> str:
    """Say where a name comes from."""
    if said is None:
        return "" if called is None else "labels"
    return f"joined to {said['into']}" if "into" in said else "hand"
