"""``push``: the merged model of one step to the Hugging Face hub; without ``--yes`` only what would be uploaded."""

import argparse
import tempfile
from pathlib import Path

from gcwm_viz.commands.export import add_model, write_model
from gcwm_viz.commands.options import Commands
from gcwm_viz.errors import InputError


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "push", help="upload the merged model of one step to the Hugging Face hub; a rehearsal without --yes"
    )
    add_model(parser)
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="created, private, where it does not exist")
    parser.add_argument("--public", action="store_true", help="create it public instead")
    parser.add_argument("--yes", action="store_true", help="upload")
    parser.set_defaults(command=push)


def push(options: argparse.Namespace) -> None:
    """The export is written beside the run first, so a rehearsal finds whatever an upload would stumble over."""
    from gcwm_viz.checkpoints.hub import HUB_ID
    from gcwm_viz.export.card import CARD

    if not HUB_ID.fullmatch(options.repo) or "@" in options.repo:
        raise InputError(f"--repo {options.repo[:100]!r}: expected ORG/NAME")
    options.run = options.run.resolve()
    with tempfile.TemporaryDirectory(prefix=".push-", dir=options.run.parent) as place:
        folder = Path(place) / "model"
        write_model(options, folder)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        for file in files:
            print(f"{file.stat().st_size / 1e6:10.2f} MB  {file.relative_to(folder)}")
        print(f"\n{CARD}:\n\n{(folder / CARD).read_text(encoding='utf-8').split('---')[1].strip()}\n")
        if not options.yes:
            print(f"A rehearsal: nothing was uploaded. With --yes these {len(files)} files go to {options.repo}.")
            return
        print(f"uploaded: {_upload(folder, options.repo, public=options.public)}")


def _upload(folder: Path, repo: str, *, public: bool) -> str:
    """Address of the commit."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi(library_name="gcwm_viz")
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A merge by gcwm_viz")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise InputError(f"{repo}: the hub did not take the model ({why}); log in with `hf auth login`") from None
    return str(commit)
