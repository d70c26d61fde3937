"""Folders with models of transformers: what can be checked without loading one."""

from pathlib import Path

from crowdselect.errors import InputError


def check_model_folder(model: str) -> None:
    """Refuse a model whose folder does not exist or holds none; what looks like a name on the hub is not looked up.

    Args:
        model: A folder, or a name on the hub.

    Raises:
        InputError: It is a file, a path to nothing, or a folder without a config.json.

    Example:
        >>> check_model_folder("owner/name")
    """
    folder = Path(model)
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1
    if folder.is_dir() and not (folder / "config.json").is_file():
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise InputError(
            f"{model}: not a model: there is no config.json in this folder; found {found}; wanted a folder "
            "that save_pretrained wrote"
        )
    if folder.is_file():
        raise InputError(f"{model}: this is a file; wanted a model's folder, or its name on the hub")
    if looks_local and not folder.exists():
        raise InputError(f"{model}: no such folder; wanted a model's folder, or its name on the hub")
