"""The command line: ``sc_ssl embed IN.h5ad --out OUT.h5ad``, ``sc_ssl annotate`` and ``sc_ssl cluster`` as batch jobs."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc_ssl import __version__

if TYPE_CHECKING:
    from anndata import AnnData

FORMATS = (".h5ad", ".zarr")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when it worked, 2 with one line on stderr when the user has to change something, 130 on Ctrl-C."""
    args = vars(_parser().parse_args(arguments))
    logger, quiet = logging.getLogger("sc_ssl"), args.pop("quiet")
    level = logger.level
    try:
        if quiet:
            logger.setLevel(logging.WARNING)
        _run(**args)
    except (ValueError, KeyError, TypeError, OSError, ArithmeticError, ImportError) as error:
        message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        print(f"sc_ssl: {' '.join(message.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = "; with --save-model the same command goes on where it stopped" if "save_model" in args else ""
        print(f"sc_ssl: interrupted{goes_on}.", file=sys.stderr)
        return 130
    finally:
        logger.setLevel(level)
    return 0


def _run(command: str, path: Path, out: Path, reference: Path | None = None, **options: Any) -> None:
    """Read, call the function of ``sc_ssl.tl`` that has the command's name, write."""
    path, out = path.expanduser(), out.expanduser()
    for file in (path, out, *([] if reference is None else [reference])):
        if file.suffix not in FORMATS:
            raise ValueError(f"{file} should end in {' or '.join(FORMATS)}, which names its format.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the folder {out.parent} for --out does not exist; make it first.")
    if out.is_dir() and not (out.suffix == ".zarr" and _is_store(out)):
        raise FileExistsError(
            f"--out {out} is a folder and no zarr store, which would be replaced; choose another name."
        )
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(
            f"the folder {out.parent} for --out takes no files; choose another, or change its rights."
        )
    adata = _read(path)
    if reference is not None:
        options["reference"] = _read(reference)
    from sc_ssl import tl

    getattr(tl, command)(adata, **options)
    _write(adata, out)


def _read(path: Path) -> AnnData:
    import anndata

    if not path.exists() and _earlier(path).exists():  # killed between the two names of a folder that was replaced
        os.replace(_earlier(path), path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}.")
    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


def _is_store(folder: Path) -> bool:
    """Whether a folder is a zarr store, of format 2 or 3."""
    return any((folder / name).is_file() for name in (".zgroup", "zarr.json"))


def _earlier(path: Path) -> Path:
    """Where a folder that is being replaced lies until the new one has its name."""
    return path.with_name(f".{path.stem}.earlier{path.suffix}")


def _write(adata: AnnData, path: Path) -> None:
    """Beside the file first, so that one that is there already is whole until the new one is."""
    beside = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    _remove(beside)  # whatever an earlier process left; no link is followed
    try:
        adata.write_h5ad(beside) if path.suffix == ".h5ad" else adata.write_zarr(beside)
        if path.is_dir():  # which no system call replaces at once
            shutil.rmtree(_earlier(path), ignore_errors=True)
            os.replace(path, _earlier(path))
        os.replace(beside, path)
        shutil.rmtree(_earlier(path), ignore_errors=True)
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    """Remove a file, a folder, or a link and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sc_ssl", description="Self-supervised learning for single-cell RNA-seq.")
    parser.add_argument("--version", action="version", version=f"sc_ssl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_embed(commands)
    _add_annotate(commands)
    _add_cluster(commands)
    return parser


def _add(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """A command with what all of them take."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=f"See sc_ssl.tl.{name}.")
    command.add_argument("path", type=Path, metavar="IN", help="h5ad file or zarr folder, by its suffix")
    command.add_argument("--out", type=Path, required=True, help="h5ad file or zarr folder to write")
    command.add_argument("--key-added", help="name of the result")
    command.add_argument("--random-state", type=int, default=0, help="seed (default: %(default)s)")
    command.add_argument("--quiet", action="store_true", help="no progress and no messages but warnings")
    return command


def _add_training(command: argparse.ArgumentParser, model: str) -> None:
    """What commands take that train."""
    command.add_argument("--input", default="counts", choices=["counts", "log1p"], help="what the file holds")
    command.add_argument("--layer", help="layer of raw counts (default: layers['counts'], else X)")
    command.add_argument("--n-top-genes", type=int, default=argparse.SUPPRESS, help="most variable genes to train on")
    command.add_argument("--max-epochs", type=int, help="times through the cells")
    command.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, ... (default: %(default)s)")
    command.add_argument(
        "--save-model", type=Path, help=f"folder for the trained {model}, and until it is trained for its checkpoints"
    )


def _add_embed(commands: Any) -> None:
    embed = _add(commands, "embed", "embed the cells of a file with raw counts")
    embed.add_argument("--method", default="masksc", help="method, or folder of a saved model (default: %(default)s)")
    embed.add_argument("--batch-key", help="column of obs with the batch")
    _add_training(embed, "model")
    embed.add_argument(
        "--pretrained",
        nargs="?",
        const=True,
        default=False,
        choices=["human", "mouse"],
        help="take the encoder that comes with the package (--method scpretrain) and train nothing; the species, where the "
        "names of the genes do not show it",
    )


def _add_annotate(commands: Any) -> None:
    annotate = _add(commands, "annotate", "name the types of cells after an annotated reference")
    annotate.add_argument("--reference", type=Path, required=True, help="file with annotated cells and raw counts")
    annotate.add_argument("--labels-key", required=True, help="column of the reference's obs with the types")
    annotate.add_argument("--method", default="finetune", help="how types are predicted (default: %(default)s)")
    annotate.add_argument("--model", help="encoder: a method, or the folder of a saved model (default: one is trained)")
    annotate.add_argument("--orthologs", type=Path, help="table of one-to-one orthologs, where species differ")
    annotate.add_argument(
        "--unlabeled-category", default="Unknown", help="name of cells without type (default: %(default)s)"
    )
    annotate.add_argument("--refuse", action="store_true", help="call unsure cells unknown")
    _add_training(annotate, "encoder")


def _add_cluster(commands: Any) -> None:
    cluster = _add(commands, "cluster", "cluster the cells of an embedding")
    cluster.add_argument("--use-rep", default="X_masksc", help="embedding in obsm (default: %(default)s)")
    cluster.add_argument("--n-clusters", type=int, help="number of clusters (default: chosen without labels)")
    cluster.add_argument(
        "--method", default="consensus", help="consensus, kmeans, leiden or gmm (default: %(default)s)"
    )


if __name__ == "__main__":
    sys.exit(main())
