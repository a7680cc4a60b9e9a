"""The commands, and what a person reads when one of them cannot do its work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sam3_image.cli.options import expanded, takes_inputs
from sam3_image.cli.predict import predict_files
from sam3_image.cli.serve import serve_with_cog
from sam3_image.errors import UserError
from sam3_image.shipped import __version__, command, default_weights

USAGE_ERROR = 2
INTERRUPTED = 130
# The base of all errors of usage; which module it comes from depends on the version of typer.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__bases__[0])

app = typer.Typer(
    help="SAM 3 on your own hardware: an image and a few words in, a mask for every instance out.",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Commands that read their own arguments.
PASSED_ON: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit status."""
    name = next((word for word in arguments[:1] if not word.startswith("-")), "sam3-image")
    given = expanded(arguments) if name == "predict" else list(arguments)
    try:
        status = app(given or ["--help"], prog_name="sam3-image", standalone_mode=False)
        return int(status or 0)
    except UserError as error:
        line = str(error)
    except UsageError as error:
        known = {
            one.callback.__name__.replace("_", "-")
            for one in app.registered_commands
            if one.callback
        }
        called = command(name) if name in known else "sam3-image"
        line = f"{error.format_message().rstrip('.')}; {called} --help lists what is allowed."
    except (KeyboardInterrupt, typer.Abort):
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"{name}: {' '.join(line.split())}", file=sys.stderr)
    return USAGE_ERROR


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sam3-image {__version__}")
        raise typer.Exit


def _pass_on(module: str, arguments: list[str]) -> None:
    """End with the exit status of another command; its requirements may be missing until then."""
    raise typer.Exit(importlib.import_module(module).main(arguments))


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """SAM 3 on your own hardware: an image and a few words in, a mask for every instance out."""


@app.command()
@takes_inputs
def predict(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE …",
            help="Files, patterns such as 'photos/*.jpg', http(s) addresses, - for standard input",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file, whose ending says what is written (.zip masks, .png .jpg .webp overlay, "
            ".json COCO), or a folder. Default: in out/",
        ),
    ] = None,
    **inputs: Any,
) -> None:
    r"""Segment images; without an image, an example with the demo checkpoint.

    sam3-image predict photo.jpg --prompt person -o people.jpg

    sam3-image predict 'photos/*.jpg' --prompts cat dog -o found/

    sam3-image predict photo.jpg --task visual --points '\[\[300, 200]]' --no-return-zip

    Prints the path of each result. A switch is --return-zip, --no-return-zip or --return-zip=false.
    SAM3_WEIGHTS names the weights: a folder, a repository, or demo.
    """
    given = {name: value for name, value in inputs.items() if value is not None and value != []}
    if predict_files(images or [], output, given):
        raise typer.Exit(USAGE_ERROR)


def _port(text: str | int) -> int:
    if not str(text).isdecimal() or not 1 <= int(text) <= 65535:
        raise typer.BadParameter(f"{str(text)!r} is not a port, 1 to 65535")
    return int(text)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port", metavar="N", parser=_port)] = 5000,
) -> None:
    """Cog's own HTTP server on this machine, without Docker.

    SAM3_WEIGHTS=demo sam3-image serve tries it without any weights.
    """
    serve_with_cog(host, port)


@app.command(**PASSED_ON)
def web(context: typer.Context) -> None:
    """The page to try it by hand, in a browser, and the routes of other programs' clients."""
    _pass_on("sam3_image.web.__main__", context.args)


@app.command()
def fleet(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port", metavar="N", parser=_port)] = 8000,
    ray: Annotated[
        str, typer.Option(metavar="ADDRESS", help="local starts Ray here; auto or HOST:PORT joins")
    ] = "local",
    replicas: Annotated[int, typer.Option(min=1, help="Replicas of the model")] = 1,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="Start more while they are busy, up to this number")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="Processor cores of each replica")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each replica")] = 0,
    edges: Annotated[
        int, typer.Option(min=1, help="Processes that take requests, on as many nodes as there are")
    ] = 2,
) -> None:
    """The web server over several replicas behind one address, on Ray Serve.

    SAM3_WEIGHTS=demo sam3-image fleet --replicas 2 tries it without any weights.
    """
    from sam3_image.fleet import FleetOptions, run_fleet

    options = FleetOptions(
        host=host,
        port=port,
        replicas=replicas,
        max_replicas=max_replicas,
        cpus=cpus,
        gpus=gpus,
        edges=edges,
    )
    run_fleet(options, ray)


@app.command(**PASSED_ON)
def batch(context: typer.Context) -> None:
    """A folder, list or bucket of images → Parquet and annotations; goes on where it stopped."""
    _pass_on("sam3_image.batch.command", context.args)


@app.command()
def download_weights(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to")] = default_weights(),  # noqa: B008
    repository: Annotated[
        str, typer.Option(metavar="NAME", help="On the Hugging Face hub")
    ] = "facebook/sam3",
) -> None:
    """Fetch facebook/sam3 into a folder: what images use of it, in bfloat16, half the size.

    HF_TOKEN is the token of an account with access to it. Run it again to resume.
    """
    from sam3_image.model import download

    print(download(output, repository))


@app.command()
def convert_weights(
    file: Annotated[Path, typer.Argument(help="Meta's checkpoint: sam3.pt, a fine-tuned one, …")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the result")],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|FILE|REPOSITORY",
            help="A folder that has one, Meta's bpe_simple_vocab_16e6.txt.gz, or a repository on "
            "the hub. Default: beside the file, else CLIP's from the hub",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="config.json of another size. Default: SAM 3's own"),
    ] = None,
) -> None:
    """Turn Meta's own checkpoint into a folder that loads.

    sam3-image convert-weights sam3.pt weights/mine
    """
    from sam3_image.model import convert

    print(convert(file, folder, tokenizer, config))
