"""Makes tests/stored/lm-eval-0.4.13/results: what lm-evaluation-harness logs, of its model that answers "lol"; `make lm-eval-samples`.

The harness has dependencies of its own and is no part of the tests, so what it writes is stored. Of the results files,
what is about the machine is left out; the samples are as they were written.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

STORED = Path(__file__).resolve().parent / "stored" / "lm-eval-0.4.13"
RUNS = [("example/lol-1b", "1"), ("example/lol-7b", "2"), ("example/lol-1b", "3")]
"""Model and seed; the third run is the newer one of a model."""
TASKS = "sums,capitals,endings,passages"
KEPT = (
    "results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "date",
    "task_hashes", "model_source", "model_name", "model_name_sanitized",
)  # fmt: skip


def main() -> None:
    results = STORED / "results"
    shutil.rmtree(results, ignore_errors=True)
    with tempfile.TemporaryDirectory() as cache:
        for model, seed in RUNS:
            subprocess.run(
                [
                    *(sys.executable, "-m", "lm_eval", "run", "--model", "dummy"),
                    *("--model_args", f"pretrained={model}", "--tasks", TASKS, "--include_path", "tasks"),
                    *("--output_path", "results", "--log_samples", "--seed", seed),
                ],
                cwd=STORED,
                env={**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1"},
                check=True,
            )
    for file in results.rglob("results_*.json"):
        found = json.loads(file.read_text(encoding="utf-8"))
        kept = {name: found[name] for name in KEPT if name in found}
        file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
