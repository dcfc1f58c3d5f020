"""The `lumina` command. Each command is a thin shell over a function of the library, `cluster/` or `serve/`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import click
import typer

from lumina_ray.cli.catalog import catalog
from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.evaluate import evaluate
from lumina_ray.cli.keys import keys
from lumina_ray.cli.methods import methods
from lumina_ray.cli.options import JsonOption, KindName
from lumina_ray.cli.output import announce, answer
from lumina_ray.cli.plan import plan
from lumina_ray.cli.scores import scores
from lumina_ray.cli.statistics import statistics
from lumina_ray.cli.truth import truth
from lumina_ray.cli.use import use
from lumina_ray.cli.verify import keygen, sign, verify
from lumina_ray.errors import LuminaError, UsageError
from lumina_ray.storage import local, locate

app = typer.Typer(
    help="Which training songs shaped a piece of generated music, by how much, and how sure we are.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(catalog, name="catalog")
app.add_typer(truth, name="truth")
app.add_typer(keys, name="keys")
app.command()(methods)
app.command()(scores)
app.command()(evaluate)
app.command()(plan)
app.command()(statistics)
app.command()(use)
app.command()(keygen)
app.command()(sign)
app.command()(verify)

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
ModelOption = Annotated[
    str,
    typer.Option(
        help="nano, nano-early, a hub name such as facebook/musicgen-large, or a folder; audiocraft:NAME loads it "
        "through audiocraft."
    ),
]
MovedModelOption = Annotated[str | None, typer.Option(help="Where the index's model lies now, if it has moved.")]
IndexOption = Annotated[str, typer.Option(help="An index folder (its newest snapshot) or one snapshot.")]


@app.command()
def fingerprint(
    manifest: Annotated[
        str,
        typer.Argument(help="A manifest (.parquet or .csv), or a finished store, whose codes are then used again."),
    ],
    out: Annotated[str, typer.Option(help="The store to write, or to resume: a folder, s3://… or gs://….")],
    model: ModelOption = "nano",
    fingerprint: Annotated[
        KindName,
        typer.Option(
            help="influence (ours), stats (LUMINA v8), jl (LUMINA v7), or what another method needs: `lumina methods`."
        ),
    ] = "influence",
    channels: Annotated[Literal["both", "P", "M"], typer.Option(help="One channel alone costs less.")] = "both",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Of the model's matrix products; float32 is the reference."),
    ] = "float32",
    device: DeviceOption = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Models loaded at once; default: what the cluster holds.")
    ] = None,
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Songs decoded at once; the summary says when more would help.")
    ] = None,
    max_failed_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit with code 3 when more of the songs failed.")
    ] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Fingerprint a catalog: every song of MANIFEST becomes one row of the store. Resumable."""
    from cluster.fingerprint import chosen_channels, run_fingerprint_job

    summary = run_fingerprint_job(
        locate(manifest),
        locate(out),
        model=model,
        kind=fingerprint,
        channels=chosen_channels(channels),
        dtype=dtype,
        device=device,
        workers=workers,
        decoders=decoders,
        max_failed_fraction=max_failed_fraction,
    )
    answer(summary.to_dict(), summary.sentence, as_json)


@app.command()
def status(
    store: Annotated[str, typer.Argument(help="A store, finished or not.")],
    as_json: JsonOption = False,
) -> None:
    """How far a store is: its songs, failures and rate, from its files alone, whatever became of the job."""
    from lumina_ray.store import store_status

    found = store_status(locate(store))
    answer(found.to_dict(), found.sentence, as_json)


@app.command()
def failed(
    store: Annotated[str, typer.Argument(help="A store, finished or not.")],
    as_json: JsonOption = False,
) -> None:
    """The failed songs of a store, and why."""
    from lumina_ray.store import failed_rows, read_run

    read_run(locate(store))
    rows = failed_rows(locate(store))
    ids, codes = (max((len(row[column]) for row in rows), default=0) for column in ("song_id", "error_code"))
    lines = [f"{row['song_id']:{ids}}  {row['error_code']:{codes}}  {row['error']}" for row in rows]
    answer({"failed": rows}, "\n".join(lines) or "No song failed.", as_json)


@app.command()
def calibrate(
    store: Annotated[str, typer.Argument(help="A finished catalog store, or a living catalog.")],
    controls: Annotated[str, typer.Option(help="A store of tracks that the model never saw.")],
    as_json: JsonOption = False,
) -> None:
    """Measure what unrelated music looks like, so that confidence means something."""
    from lumina_ray.calibration import calibrate_store, write_calibration
    from lumina_ray.store import stream_store

    calibration = calibrate_store(stream_store(locate(store)), stream_store(locate(controls)))
    path = write_calibration(calibration, locate(store))
    channels = {
        name: {"mean": channel.mean, "std": channel.std, "n_controls": channel.n_controls}
        for name, channel in calibration.channels.items()
    }
    noise = "; ".join(f"{name}: {c['mean']:.3f} ± {c['std']:.3f}" for name, c in channels.items())
    answer(
        {"calibration": str(path), "channels": channels},
        f"Similarity of unrelated music: {noise}. Written to {path}",
        as_json,
    )


@app.command()
def index(
    store: Annotated[str, typer.Argument(help="A finished, calibrated store, or a living catalog.")],
    out: Annotated[str, typer.Option(help="The index folder; a new snapshot is added to it.")],
    kind: Annotated[
        str, typer.Option(help="auto (by size and memory) or a FAISS factory string, such as IVF1024,SQ8 or HNSW32.")
    ] = "auto",
    memory_gib: Annotated[
        float | None,
        typer.Option(min=0.001, help="What the index may take on a host that searches it; default: 0.35 of this one."),
    ] = None,
    recall: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="recall@100 that an approximate index must reach.")
    ] = 0.99,
    parallel: Annotated[
        bool,
        typer.Option(
            "--parallel",
            help="Add the parts of an approximate index on Ray, all at once; locally without RAY_ADDRESS.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build the next immutable snapshot of a FAISS index."""
    from lumina_ray.index import Wish, build_index, load_snapshot
    from lumina_ray.store import stream_store

    wish = Wish(kind, memory_gib and memory_gib * 2**30, recall)
    if parallel:
        from cluster.index import build_index_on_ray

        path = build_index_on_ray(locate(store), locate(out), wish)
    else:
        path = build_index(stream_store(locate(store)), locate(out), wish)
    snapshot = load_snapshot(path)
    indexes = snapshot.manifest["indexes"]
    kinds = ", ".join(f"{channel} {facts['kind']}" for channel, facts in indexes.items())
    answer(
        {"snapshot": str(path), "version": snapshot.version, "songs": len(snapshot), "indexes": indexes},
        f"{path}: {len(snapshot)} songs; {kinds}",
        as_json,
    )


@app.command()
def attribute(
    audio: Annotated[str, typer.Argument(help="The audio to attribute.")],
    index: Annotated[str | None, typer.Option(help="An index folder (its newest snapshot) or one snapshot.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Instead of an index, an endpoint that has one: `lumina serve`.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The endpoint's API key; better in LUMINA_KEY, where no process list shows it.")
    ] = None,
    policy: Annotated[str, typer.Option(help="calibrated (ours), v8 or v7 (published).")] = "calibrated",
    model: MovedModelOption = None,
    top_k: Annotated[int, typer.Option(min=1, help="Candidates per channel.")] = 256,
    device: DeviceOption = "auto",
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Which songs of the index shaped AUDIO, per channel, by how much, and how sure we are."""
    from rich.console import Console

    from lumina_ray.report import print_table, render_html, report_sha256, to_json

    if url is not None and index is None and model is None and device == "auto":
        from lumina_ray.client import Client

        with Client(url, key) as client:
            report = client.attribute(local(audio), policy, top_k)
    elif index is not None and url is None and key is None:
        from lumina_ray.attribution.audio import attribute_audio

        report = attribute_audio(
            locate(audio), locate(index), model=model, policy=policy, top_k=top_k, device=resolve_device(device)
        )
    else:
        raise UsageError("give either --index, with --model and --device if need be, or --url, with --key if need be")
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(render_html(report), encoding="utf-8")
        announce(f"HTML report: {html}")
    if as_json:
        sys.stdout.write(to_json(report))
        announce(f"report sha256 {report_sha256(report)}")
    else:
        print_table(report, Console())


@app.command()
def serve(
    index: IndexOption,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Loopback by default; any other address wants --keys.")] = "127.0.0.1",
    keys: Annotated[
        Path | None, typer.Option(help="File of the API keys that requests must carry: see `lumina keys add`.")
    ] = None,
    open_access: Annotated[
        bool, typer.Option("--open", help="Ask for no key: whoever is on this machine may use the endpoint.")
    ] = False,
    model: MovedModelOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Answer attribution requests over HTTP until interrupted."""
    from lumina_ray.index import newest_snapshot
    from serve.app import ServeArgs, start

    where: Literal["cpu", "cuda"] = "cuda" if resolve_device(device) == "cuda" else "cpu"
    args = ServeArgs(
        index=newest_snapshot(locate(index)).resolve(),
        model=model,
        device=where,
        keys=keys,
        open_access=open_access,
    )
    start(args, host=host, port=port)


@app.command()
def export(
    store: Annotated[str, typer.Argument(help="A finished store.")],
    out: Annotated[Path, typer.Option(help="The HDF5 file to write.")] = Path("signatures.h5"),
    as_json: JsonOption = False,
) -> None:
    """Export a store in the published format (signatures_p, signatures_m, song_ids)."""
    from lumina_ray.store import export_hdf5, open_store

    read = open_store(locate(store))
    export_hdf5(read, out)
    answer({"path": str(out), "songs": len(read.songs)}, f"{out}: {len(read.songs)} songs", as_json)


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="The audio file to write (.wav or .flac).")],
    model: ModelOption = "nano",
    seconds: Annotated[float, typer.Option(min=1.0, max=30.0)] = 10.0,
    seed: Annotated[int, typer.Option(help="One seed, one piece of music.")] = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Let a model generate music, to have something to attribute."""
    import soundfile

    from lumina_ray.audio import SAMPLE_RATE_HZ
    from lumina_ray.model.files import find_model
    from lumina_ray.model.transformers_adapter import TransformersMusicGen

    if out.suffix.lower() not in {".wav", ".flac"}:
        raise UsageError(f"--out must end in .wav or .flac, got {out}")
    samples = TransformersMusicGen.load(find_model(model), model, resolve_device(device)).generate(seconds, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(out, samples, SAMPLE_RATE_HZ)
    duration_s = len(samples) / SAMPLE_RATE_HZ
    answer({"path": str(out), "duration_s": duration_s}, f"{out}: {duration_s:.1f} s", as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("demo-output"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8199,
) -> None:
    """The whole system on real music, on this machine: catalog, fingerprints, calibration, index, endpoint, reports."""
    from lumina_ray.cli.demo import run_demo

    run_demo(out, port)


def run() -> None:
    """Entry point: one-line errors, and exit codes that scripts can use.

    0 done, 2 usage, 3 failures, 4 cluster; of `lumina verify` 5 different, 6 close, 7 signature.
    """
    try:
        app()
    except LuminaError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": {"code": getattr(error, "kind", error.code), "message": str(error)}}))
        click.secho(f"lumina: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has seen enough; Python would complain when it flushes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    run()
