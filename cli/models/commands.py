"""The commands of ``blendin models``: list, show, suggest, check, pull, remove, verify, import."""

from __future__ import annotations

from pathlib import Path

import click

from ..habits import Group
from ..options.names import any_names
from ..options.types import Whole
from ..terminal.layout import in_bytes
from ..terminal.output import say, tell
from ..terminal.progress import progress
from ..terminal.quiet import quiet_option
from .tables import (
    about_check,
    about_kept,
    about_located,
    about_model,
    about_pair,
    echo,
    echo_json,
    kept_line,
    kept_models,
    model_line,
    pair_line,
    suggestion,
)

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group(cls=Group)
def models() -> None:
    """List, show, fetch, check, import and remove models.

    \b
    Examples:
      blendin models list
      blendin models pull demo
    """


@models.command("list")
@_AS_JSON
def list_models(as_json: bool) -> None:
    """List the pairs of the catalogue, which models are here, and what fits this machine.

    Other models on this machine follow: imported ones, and those from the hub.

    Try it:  blendin models list
    """
    from blendin_models.catalogue import entries
    from blendin_models.inventory import listing

    here = listing.everything()
    pairs = [about_pair(entry, here) for entry in entries.pairs().values()]
    kept = kept_models(here)
    if as_json:
        echo_json([*pairs, *kept])
        return
    for pair in pairs:
        tell(pair_line(pair))
        for role in ("base", "aligned"):
            tell(f"  {role:<8} {model_line(pair[role])}")
    for model in kept:
        tell(kept_line(model))


@models.command()
@click.argument("name", shell_complete=any_names)
@_AS_JSON
def show(name: str, as_json: bool) -> None:
    """Show a pair or a model: its folder, source, licence and size.

    NAME is a pair, a model, or the id of a hub repo on this machine.

    Try it:  blendin models show demo
    """
    from blendin_models.catalogue import entries
    from blendin_models.inventory import lookup
    from blendin_models.storage import paths
    from blendin_models.storage.local_model import repo_named

    if name in entries.pairs():
        about = about_pair(entries.pairs()[name])
    elif name in entries.models():
        about = about_model(entries.models()[name])
    elif repo_named(name) or (paths.NAME.match(name) and paths.model_folder(name).is_dir()):
        about = about_kept(lookup.used(name))
    else:
        about = about_model(entries.find_models(name)[0])  # raises, with a similar name
    echo(about, as_json)


@models.command()
@_AS_JSON
def suggest(as_json: bool) -> None:
    """Suggest pairs that are here or fit this machine; pairs with one tokenizer come first.

    Try it:  blendin models suggest
    """
    from blendin_models.catalogue import entries
    from blendin_models.inventory import listing

    here = listing.everything()
    pairs = [about_pair(entry, here) for entry in entries.pairs().values()]
    able = [pair for pair in pairs if pair["installed"] or pair["fits"]]
    able.sort(key=lambda p: (not p["installed"], not p["one_tokenizer"], p["download_bytes"]))
    if as_json:
        echo_json(able)
        return
    for pair in able:
        tell(suggestion(pair))


@models.command()
@click.argument(
    "names", nargs=-1, shell_complete=any_names, required=True, metavar="PAIR | BASE ALIGNED"
)
@click.option(
    "--tokens",
    type=Whole(min=1),
    help="Length of the longest conversation.  [default: 4096, or a model's limit if shorter]",
)
@click.option(
    "--kv-bits",
    type=click.Choice(["4", "8"]),
    help="Quantize both KV caches to this many bits.  [default: off]",
)
@_AS_JSON
def check(names: tuple[str, ...], tokens: int | None, kv_bits: str | None, as_json: bool) -> None:
    """Check a pair before its weights are read: files, vocabularies, limits, memory.

    \b
    Examples:
      blendin models check demo
      blendin models check HuggingFaceTB/SmolLM2-360M smollm2-135m-instruct --tokens 8192
      blendin models check demo --kv-bits 8
    """
    from blendin_models.loading.memory import need, recommended
    from blendin_models.pair import (
        TOKENS,
        PairSpec,
        check_pair,
        open_pair,
        relation,
        require_usable,
    )

    if len(names) > 2:
        raise click.UsageError("name a pair, or a base and an aligned model")
    with progress() as report:
        pair, base, aligned = (None, *names) if len(names) == 2 else (names[0], None, None)
        bits = None if kv_bits is None else int(kv_bits)
        spec = PairSpec(
            pair=pair,
            base=base,
            aligned=aligned,
            tokens=tokens or TOKENS,
            kv_bits=bits,
            force=True,
        )
        checked = check_pair(spec, report)
        opened = open_pair(checked, report)
    if tokens is None:
        tokens = min([TOKENS, *(r.context_limit for r in checked.reports if r.context_limit)])
    needed = need(checked.reports, tokens, bits)
    echo(about_check(checked, needed, relation(opened), tokens, recommended()), as_json)
    require_usable(checked, opened, tokens)


@models.command()
@click.argument("names", nargs=-1, shell_complete=any_names, required=True)
@click.option(
    "--bits",
    type=click.Choice(["2", "3", "4", "5", "6", "8"]),
    help="Quantize an unquantized hub model to this many bits, from now on.  "
    "[default: 4, or as the catalogue says]",
)
@click.option(
    "--group-size",
    type=click.Choice(["32", "64", "128"]),
    help="Number of weights that share a scale.  [default: 64]",
)
@_AS_JSON
@quiet_option
def pull(
    names: tuple[str, ...], bits: str | None, group_size: str | None, as_json: bool, quiet: bool
) -> None:
    """Fetch models: names of pairs or models, or hub repo ids (OWNER/NAME, OWNER/NAME@REVISION).

    If a branch is here already, its newest commit is fetched.

    Try it:  blendin models pull HuggingFaceTB/SmolLM2-360M --bits 8
    """
    from blendin_models.catalogue import entries
    from blendin_models.fetching.resolve import locate_all
    from blendin_models.loading.preflight import inspect_located
    from blendin_models.loading.quantize import Quantization

    wanted = [model for name in names for model in entries.parts(name)]
    said = bits is not None or group_size is not None
    quantization = Quantization(int(bits or 4), int(group_size or 64)) if said else None
    with progress(quiet) as report:
        found = locate_all(wanted, report, quantization, update=True)
    for located in found:
        inspect_located(located)
        where = "" if located.folder.name == located.name else f" in {located.folder}"
        say(f"{located.name} is ready{where}", quiet)
    if as_json:
        echo_json([about_located(located) for located in found])


@models.command()
@click.argument("name", shell_complete=any_names)
@_AS_JSON
@quiet_option
def remove(name: str, as_json: bool, quiet: bool) -> None:
    """Delete a model, both models of a pair, or a hub repo (or one @REVISION) from the cache.

    Try it:  blendin models remove smollm2
    """
    from blendin_models.inventory import removal

    removed = []
    for model, freed in removal.remove(name):
        say(f"{model} removed, {in_bytes(freed)} freed", quiet)
        removed.append({"name": model, "freed_bytes": freed})
    if as_json:
        echo_json(removed)


@models.command()
@click.argument("name", shell_complete=any_names)
@_AS_JSON
@quiet_option
def verify(name: str, as_json: bool, quiet: bool) -> None:
    """Verify every file of a model, or of a pair, against its recorded checksum.

    Try it:  blendin models verify demo
    """
    from blendin_models.inventory import verification

    with progress(quiet) as report:
        verified = verification.verify(name, report)
    if as_json:
        echo_json([{**about_kept(one.kept), "problems": one.problems} for one in verified])
    verification.require_whole(name, verified)
    say(f"{name}: all files match their checksums", quiet)


@models.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the new model.  [default: the file's name]")
@_AS_JSON
@quiet_option
def import_model(file: Path, name: str | None, as_json: bool, quiet: bool) -> None:
    """Import a GGUF file: llama, qwen2, qwen3, gemma2 and gemma3 (text) architectures.

    Try it:  blendin models import model.gguf --name mine
    """
    from blendin_models.fetching.pip_packages import import_file
    from blendin_models.fetching.resolve import locate
    from blendin_models.gguf.split import stem

    name = name or stem(file).lower()
    with progress(quiet) as report:
        folder = import_file(file, name, report)
    say(f"{name} is ready in {folder}", quiet)
    if as_json:
        echo_json(about_located(locate(name)))
