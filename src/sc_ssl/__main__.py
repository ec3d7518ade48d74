"""``python -m sc_ssl embed IN.h5ad --out OUT.h5ad``: embedding as a batch job."""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when it worked, 2 with one line on stderr when the user has to change something, 130 on Ctrl-C."""
    args = _parser().parse_args(arguments)
    try:
        _embed(args)
    except (ValueError, KeyError, TypeError, OSError, ArithmeticError) as error:
        print(f"sc_ssl: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sc_ssl: interrupted; with --save-model the same command goes on where it stopped.", file=sys.stderr)
        return 130
    return 0


def _embed(args: argparse.Namespace) -> None:
    if not args.out.parent.is_dir():
        raise FileNotFoundError(f"the folder {args.out.parent} for --out does not exist; make it first.")
    import anndata

    from sc_ssl.tl import embed

    adata = anndata.read_h5ad(args.path)
    options = {name: value for name, value in vars(args).items() if name not in ("command", "path", "out")}
    embed(adata, **options)
    adata.write_h5ad(args.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m sc_ssl", description="Self-supervised learning for single-cell RNA-seq."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    embed = commands.add_parser("embed", help="embed the cells of an h5ad file", description="See sc_ssl.tl.embed.")
    embed.add_argument("path", type=Path, metavar="IN.h5ad", help="h5ad file with raw counts")
    embed.add_argument("--out", type=Path, required=True, help="h5ad file to write")
    embed.add_argument("--method", default="masksc", help="method, or folder of a saved model (default: %(default)s)")
    embed.add_argument("--layer", help="layer of raw counts (default: layers['counts'], else X)")
    embed.add_argument("--input", default="counts", choices=["counts", "log1p"], help="what the file holds")
    embed.add_argument("--batch-key", help="column of obs with the batch")
    embed.add_argument("--n-top-genes", type=int, default=argparse.SUPPRESS, help="most variable genes to train on")
    embed.add_argument("--key-added", help="name of the result in obsm and uns")
    embed.add_argument("--max-epochs", type=int, help="times through the cells")
    embed.add_argument("--random-state", type=int, default=0, help="seed (default: %(default)s)")
    embed.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, ... (default: %(default)s)")
    embed.add_argument(
        "--pretrained",
        nargs="?",
        const=True,
        default=False,
        choices=["human", "mouse"],
        help="take the encoder that comes with the package (--method scpretrain) and train nothing; the species, where the "
        "names of the genes do not show it",
    )
    embed.add_argument(
        "--save-model", type=Path, help="folder for the trained model, and until it is trained for its checkpoints"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
