"""``ccscale export``: hands a network on, and tells how to load it."""

import argparse

from ccscale.cli.arguments import add_checkpoint, add_clusters, add_json, add_run, local_path
from ccscale.printing import put, put_json
from ccscale.progress import loading, say

FORMATS = {
    "safetensors": "load it with ccscale.load('{out}')",
    "onnx": "{out}/model.onnx takes images (m, height, width, channels)",
    "torch-export": "{out}/model.pt2 takes images (m, height, width, channels)",
    "timm": "load its backbone with timm.create_model('local-dir:{out}', pretrained=True)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("out", metavar="OUT", type=local_path, help="a new folder")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="safetensors",
        help="safetensors (default), for ccscale.load; onnx or torch-export, a program from pixels of any "
        "size to cluster, confidence and features; timm, only the backbone, for timm.create_model",
    )
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="licence for the model card, by its Hugging Face identifier, such as apache-2.0 (default: unknown)",
    )
    add_checkpoint(parser)
    add_clusters(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    with loading():
        from ccscale.export.export import export_run

    told = export_run(args.run, args.out, args.format, args.checkpoint, args.clusters, args.license)
    for sentence in told["notes"]:
        say(f"note: {sentence}")
    if args.json:
        put_json({"out": str(args.out), "step": told["step"]})
    else:
        use = FORMATS[args.format].format(out=args.out)
        put(f"{args.out}: the network of step {told['step']}; {use}", fold=False)
    return 0
